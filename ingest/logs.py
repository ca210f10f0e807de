"""Logs: structlog, JSON when not a terminal. No message bodies, no secrets; one line a change of state.

The Kafka client logs every attempt of its own; a filter lets each kind of its messages through once a minute.
"""

from __future__ import annotations

import logging
import sys
import time

import structlog

from ingest.settings import ServiceSettings

CLIENT_REPEAT_S = 60.0


class OncePerMinute(logging.Filter):
    """Lets a message of the same place in the Kafka client's code through once a minute, whatever its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        now = time.monotonic()
        where = (record.pathname, record.lineno)
        if now - self._last.get(where, -CLIENT_REPEAT_S) < CLIENT_REPEAT_S:
            return False
        self._last[where] = now
        # A client's traceback says nothing that its message does not.
        record.exc_info = None
        record.exc_text = None
        return True


def configure_logs(settings: ServiceSettings) -> None:
    """Sends everything to stderr, formatted as the settings say."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    handler.addFilter(OncePerMinute())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("aiokafka", "asyncio", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
