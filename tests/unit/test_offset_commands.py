"""``ingest offsets set`` refuses what makes no sense in one line, before it asks anybody."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ingest.cli import app
from ingest.errors import SettingsError
from ingest.offset_commands import _consequence
from ingest.offsets import Step
from ingest.topics import load_topics
from tests.support.topics import PLAIN

GPS = "device.sensor.gps.raw"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((GPS,), "say where to: one of --to-offset"),
        ((GPS, "--to-latest", "--to-earliest"), "say where to: one of --to-offset"),
        (("nothing", "--to-latest"), "LOOM_TOPICS holds no topic nothing"),
        ((f"{GPS}:x", "--to-latest"), f"{GPS}:x: a partition is a number"),
        ((f"{GPS}:", "--to-latest"), f"{GPS}:: a partition is a number"),
        ((f"{GPS}:0:", "--to-latest"), f"{GPS}:0:: a partition is a number"),
        ((GPS, "--to-datetime", "2026-11-26T20:00:00"), "has no zone"),
        ((GPS, "--to-datetime", "yesterday"), "'yesterday' is no time"),
        ((GPS, "--to-datetime", "1969-01-01T00:00:00Z"), "is before 1970"),
    ],
)
def test_wrong_input_is_refused_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["offsets", "set", *arguments, "--execute"])
    assert isinstance(result.exception, SettingsError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Step(0, None, 5), "has no row yet: reading begins at 5"),
        (Step(0, None, 5, committed=5), "has no row yet: reading begins at 5, which the group had committed"),
        (
            Step(0, None, 900, committed=500),
            "has no row yet: reading begins at 900, and the group had committed 500: offsets 500 to 899 are never read",
        ),
        (
            Step(0, None, 5, committed=6),
            "has no row yet: reading begins at 5, and the group had committed 6: offset 5 is read again: as duplicates",
        ),
        (Step(0, 5, 5), "stands at 5 already"),
        (Step(0, 5, 6), "5 → 6: offset 5 is never read"),
        (Step(0, 5, 9), "5 → 9: offsets 5 to 8 are never read"),
        (Step(0, 9, 5), "9 → 5: offsets 5 to 8 are read again: as duplicates"),
    ],
)
def test_what_follows_is_said(step: Step, said: str) -> None:
    assert _consequence(load_topics(["ingest.topics"])[GPS], step) == said


def test_rows_without_a_key_are_said_to_come_again() -> None:
    said = _consequence(PLAIN, Step(0, 9, 5))
    assert said == "9 → 5: offsets 5 to 8 are read again: its rows are written once more, for a table of it has no key"
