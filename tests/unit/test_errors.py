"""What an error means for the process, and how a user meets it: one line and an exit code."""

from __future__ import annotations

import re

import pytest

from ingest import errors
from ingest.cli import main
from ingest.errors import (
    EXIT_STOPPED,
    FatalError,
    IngestError,
    LaneError,
    RecordError,
    SchemaError,
    SettingsError,
    TransientError,
)


@pytest.mark.parametrize(
    ("kind", "code"), [(SettingsError, 2), (SchemaError, 3), (FatalError, 4), (LaneError, 4), (TransientError, 4)]
)
def test_exit_codes_are_the_documented_ones(kind: type[IngestError], code: int) -> None:
    assert kind("text").exit_code == code
    assert str(kind("text")) == "text"
    assert EXIT_STOPPED == 0


def test_what_ends_the_process_is_told_from_what_does_not() -> None:
    fatal = {SettingsError, SchemaError, FatalError}
    for kind in (SettingsError, SchemaError, FatalError, LaneError, RecordError, TransientError):
        assert issubclass(kind, IngestError)
        assert issubclass(kind, FatalError) is (kind in fatal)
        assert sum(issubclass(kind, each) for each in (FatalError, LaneError, RecordError, TransientError)) == 1


def test_docstring_draws_every_exception() -> None:
    drawn = set(re.findall(r"\b\w+Error\b", errors.__doc__ or ""))
    assert drawn == {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, IngestError)
    }


@pytest.mark.parametrize("command", [["run"], ["check"], ["dead-letters", "list"], ["resume", "topic", "--accept"]])
def test_missing_settings_are_one_line_and_exit_code_2(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ingest", *command])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ingest: LOOM_") and "is required and not set" in lines[0]


def test_topics_that_can_not_be_loaded_are_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOOM_KAFKA_BOOTSTRAP_SERVERS", "localhost:1")
    monkeypatch.setenv("LOOM_DATABASE_URL", "postgresql://u:hunter2@localhost:1/db")
    monkeypatch.setenv("LOOM_TOPICS", "acme.is.not.there")
    monkeypatch.setattr("sys.argv", ["ingest", "check"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    reason = "ModuleNotFoundError: No module named 'acme'"
    assert capsys.readouterr().err == f"ingest: LOOM_TOPICS: can't load acme.is.not.there: {reason}\n"


def test_what_nobody_expected_is_one_line_that_says_where_and_never_the_exit_code_of_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("of two\nlines")

    monkeypatch.setattr("sys.argv", ["ingest", "reconcile"])
    monkeypatch.setattr("ingest.offset_commands.load_section", broken)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"ingest: unexpected ValueError in test_errors\.py:\d+: of two lines; this is a bug, please report it", line
    )
