"""``ingest run``: settings and logs of the process, and what its end means for whoever started it."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from ingest.app import App
from ingest.errors import FatalError, IngestError
from ingest.logs import configure_logs
from ingest.settings import load_settings


def run_service(*, wait_for_schema: bool) -> int:
    """Runs the service until it is asked to stop; returns its exit code. Raises IngestError.

    ``wait_for_schema``: see :class:`ingest.app.App`.
    """
    settings = load_settings()
    configure_logs(settings.service)
    service = App(settings, wait_for_schema=wait_for_schema)
    with asyncio.Runner() as runner:
        try:
            return runner.run(service.run())
        except IngestError:
            raise
        except Exception as error:
            structlog.get_logger(__name__).critical("unexpected; this is a bug, please report it", exc_info=True)
            raise FatalError(f"unexpected {type(error).__name__}; the log line above has the traceback") from error


@contextmanager
def failures_as_one_line() -> Iterator[None]:
    """Turns every failure within into one line on stderr and its exit code."""
    try:
        yield
    except IngestError as error:
        sys.stderr.write(f"ingest: {error}\n")
        raise SystemExit(error.exit_code) from None
    except Exception as error:  # Python would end with 1, which is `reconcile`'s word for a finding
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = " ".join(f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {error}".split())
        sys.stderr.write(f"ingest: unexpected {what}; this is a bug, please report it\n")
        raise SystemExit(FatalError.exit_code) from error
