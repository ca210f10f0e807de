"""Logs are lines of JSON, a client's repetitions come once a minute, and no secret is in any."""

from __future__ import annotations

import importlib
import json
import logging
import pkgutil
from collections.abc import Iterator
from typing import Any

import aiokafka
import pytest
import structlog

from ingest import logs
from ingest.logs import CLIENT_REPEAT_S, OncePerMinute, configure_logs
from ingest.settings import KafkaSettings, ServiceSettings

for _module in pkgutil.walk_packages(aiokafka.__path__, "aiokafka."):
    importlib.import_module(_module.name)
CLIENT_LOGGERS = sorted(
    name
    for name, logger in logging.root.manager.loggerDict.items()
    if isinstance(logger, logging.Logger) and name.split(".")[0] == "aiokafka" and "producer" not in name
)


class Clock:
    """Stands in for the module ``time``."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    touched = [root, *(logging.getLogger(name) for name in (*CLIENT_LOGGERS, "asyncio", "sqlalchemy"))]
    before = [(each, each.handlers[:], each.level, each.filters[:]) for each in touched]
    yield
    for logger, handlers, level, filters in before:
        logger.handlers, logger.filters = handlers, filters
        logger.setLevel(level)
    structlog.reset_defaults()


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def record(line: int, *arguments: object, path: str = "client.py") -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.WARNING, path, line, "failed %s", arguments, (None, None, None))


def test_same_place_speaks_once_a_minute_whatever_it_says(clock: Clock) -> None:
    once = OncePerMinute()
    assert CLIENT_REPEAT_S == 60
    assert once.filter(record(1, "a"))
    assert not once.filter(record(1, "b"))
    clock.now += CLIENT_REPEAT_S - 0.001
    assert not once.filter(record(1, "a"))
    clock.now += 0.001
    assert once.filter(record(1, "a"))
    assert not once.filter(record(1, "a"))


def test_other_places_are_not_silenced_by_it(clock: Clock) -> None:
    once = OncePerMinute()
    assert once.filter(record(1)) and once.filter(record(2)) and once.filter(record(1, path="other.py"))


def test_clients_traceback_is_left_out(clock: Clock) -> None:
    passed = record(1)
    assert OncePerMinute().filter(passed)
    assert (passed.exc_info, passed.exc_text) == (None, None)


@pytest.mark.parametrize("name", CLIENT_LOGGERS)
def test_every_part_of_the_client_repeats_itself_once_a_minute(
    name: str, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(ServiceSettings(log_format="json"))
    for number in range(5):
        logging.getLogger(name).error("no answer from node %s", number)
    assert [line["event"] for line in written(capsys)] == ["no answer from node 0"]


def test_line_is_json_with_event_level_time_and_what_was_added(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(ServiceSettings(log_format="auto"))
    structlog.get_logger("test").warning("lane stopped", topic="a.b", partitions=[1, 2])
    (line,) = written(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "lane stopped", "level": "warning", "topic": "a.b", "partitions": [1, 2]}


def test_foreign_line_is_json_too_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(ServiceSettings(log_format="json"))
    logging.getLogger("asyncpg").warning("slow: %s s", 5)
    (line,) = written(capsys)
    assert (line["event"], line["level"]) == ("slow: 5 s", "warning")


def test_traceback_of_our_own_stays_in_the_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(ServiceSettings(log_format="json"))
    try:
        raise KeyError("column")
    except KeyError:
        structlog.get_logger("test").exception("bug")
    (line,) = written(capsys)
    assert "KeyError: 'column'" in line["exception"]


@pytest.mark.parametrize(("level", "events"), [("info", ["info", "warning"]), ("warning", ["warning"]), ("error", [])])
def test_level_is_the_settings(level: Any, events: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(ServiceSettings(log_format="json", log_level=level))
    log = structlog.get_logger("test")
    log.debug("debug")
    log.info("info")
    log.warning("warning")
    assert [line["event"] for line in written(capsys)] == events


@pytest.mark.parametrize("name", ["aiokafka", "asyncio", "sqlalchemy", "sqlalchemy.engine"])
def test_libraries_chatter_is_left_out_also_when_debugging(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Among it would be SQL with its parameters: bodies of messages."""
    configure_logs(ServiceSettings(log_format="json", log_level="debug"))
    logging.getLogger(name).info("chatter")
    assert written(capsys) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_settings_in_a_line_show_no_secret(log_format: Any, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(ServiceSettings(log_format=log_format))
    kafka = KafkaSettings.model_validate({"bootstrap_servers": "k", "sasl_password": "hunter2"})
    structlog.get_logger("test").warning("settings", settings=kafka, password=kafka.sasl_password)
    text = capsys.readouterr().err
    assert "settings" in text and "**" in text and "hunter2" not in text
