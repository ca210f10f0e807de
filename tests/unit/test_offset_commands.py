"""``ingest offsets set`` refuses what makes no sense in one line, before it asks anybody."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from ingest.cli import app
from ingest.errors import SettingsError
from ingest.inquiry import Group
from ingest.ledger import timestamp_of
from ingest.offset_commands import _consequence, _last_message, _lines, _partitions
from ingest.offsets import Step, activity
from ingest.reconcile import Remark
from ingest.standing import Row
from ingest.topics import load_topics
from tests.support.topics import PLAIN

GPS = "device.sensor.gps.raw"
KEYED = "as duplicates where their rows are there; what was a dead letter is tried again"


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
            f"has no row yet: reading begins at 5, and the group had committed 6: offset 5 is read again: {KEYED}",
        ),
        (Step(0, 5, 5), "stands at 5 already"),
        (Step(0, 5, 6), "5 → 6: offset 5 is never read"),
        (Step(0, 5, 9), "5 → 9: offsets 5 to 8 are never read"),
        (Step(0, 9, 5), f"9 → 5: offsets 5 to 8 are read again: {KEYED}"),
    ],
)
def test_what_follows_is_said(step: Step, said: str) -> None:
    assert _consequence(load_topics(["ingest.topics"])[GPS], step) == said


def test_rows_without_a_key_are_said_to_come_again() -> None:
    said = _consequence(PLAIN, Step(0, 9, 5))
    again = "as rows once more, for a table of it has no key; what was a dead letter is tried again"
    assert said == f"9 → 5: offsets 5 to 8 are read again: {again}"


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (None, None),
        (-1, None),
        (0, "1970-01-01 00:00:00"),
        (1_795_723_200_123, "2026-11-26 20:00:00"),
        (253_402_300_799_999, "9999-12-31 23:59:59"),
        (253_402_300_800_000, "253402300800000 ms"),
        (1_795_723_200_123_456, "1795723200123456 ms"),
        (-(2**63), f"{-(2**63)} ms"),
        (2**63 - 1, f"{2**63 - 1} ms"),
    ],
)
def test_any_time_that_a_producer_may_fill_in_is_shown(milliseconds: int | None, shown: str | None) -> None:
    row = Row(1, 0, 1, 0, 0, 0, 0, milliseconds, datetime(2026, 11, 26, tzinfo=UTC))
    assert _last_message(row) == shown
    assert milliseconds is None or (timestamp_of(milliseconds) is None) == (shown is None or shown.endswith("ms"))


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ([3], "partition 3"),
        ([1, 0], "partitions 0-1"),
        (range(2000), "partitions 0-1999"),
        ([0, 2, 3, 4, 9], "partitions 0, 2-4, 9"),
        (range(0, 30, 2), "partitions 0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 5 more runs"),
    ],
)
def test_partitions_are_named_in_runs(numbers: Sequence[int], shown: str) -> None:
    assert _partitions(numbers) == shown


def test_what_is_said_of_many_partitions_is_one_line_and_findings_come_first() -> None:
    notes = [Remark("a", number, "not begun") for number in range(2000)]
    found = [Remark("a", number, "gone", finding=True) for number in (7, 8, 1999)]
    assert _lines([*notes, *found, Remark("a", 3, "moved")]) == [
        "FOUND  partitions 7-8, 1999: gone",
        "note  partitions 0-1999: not begun",
        "note  partition 3: moved",
    ]


def test_of_many_members_three_are_named() -> None:
    said = activity("group", Group("Stable", ("d", "c", "b", "a", "e")))
    assert said is not None and said.startswith(
        "group group is active (Stable: a, b, c and 2 more); stop every process"
    )
    assert activity("group", Group("Empty", ())) is None
