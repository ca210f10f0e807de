"""What is a finding, what is only a note, and what needs no word."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.consumer import MARKER, Bounds, Committed
from ingest.reconcile import closes, judge
from ingest.settings import KafkaSettings
from ingest.standing import Move, Row, Standing

NOW = datetime(2026, 11, 26, 20, tzinfo=UTC)
ROW = Row(
    next_offset=100,
    first_offset=10,
    written=60,
    duplicate=20,
    dead_lettered=5,
    passed=2,
    moved=3,
    last_timestamp=1,
    updated_at=NOW,
)
RIGHT = Standing("a", 0, ROW, Bounds(50, 100), Committed(100, f"{MARKER}ours"), letters=5)
NEW = Standing("a", 0, bounds=Bounds(50, 100))


def said(*standings: Standing, **settings: Any) -> list[tuple[bool, str]]:
    kafka = KafkaSettings(bootstrap_servers="nowhere:9092", **settings)
    return [(remark.finding, remark.text) for remark in judge(standings, kafka, "ours")]


def test_where_all_agrees_there_is_nothing_to_say() -> None:
    assert said(RIGHT) == []
    assert closes(ROW) == "closes"


@given(st.tuples(*[st.integers(0, 10**12)] * 6), st.integers(-(10**12), 10**12), st.integers(-5, 5))
def test_an_account_closes_only_where_its_parts_lead_to_the_row(parts: tuple[int, ...], moved: int, off: int) -> None:
    first, written, duplicate, dead, passed, _ = parts
    row = Row(first + sum(parts[1:5]) + moved + off, first, written, duplicate, dead, passed, moved, None, NOW)
    assert row.off == off
    assert closes(row) == (f"{off:+d}" if off else "closes")
    found = said(Standing("a", 0, row, Bounds(row.next_offset, row.next_offset), letters=dead))
    assert [finding for finding, _ in found] == [True] * bool(off)


@pytest.mark.parametrize(
    ("standing", "finding", "words"),
    [
        (replace(RIGHT, row=replace(ROW, next_offset=98)), True, "next offset 98 is 2 short of 100"),
        (replace(RIGHT, row=replace(ROW, written=59)), True, "next offset 100 is 1 beyond 99"),
        (replace(RIGHT, row=replace(ROW, first_offset=None)), False, "from before accounts"),
        (replace(RIGHT, bounds=None), True, "not show it to this login, and the ledger stands at 100"),
        (replace(RIGHT, bounds=None, leaderless=True), False, "it has no leader"),
        (replace(RIGHT, bounds=Bounds(101, 200)), True, "offsets 100 to 100 are gone from the broker"),
        (replace(RIGHT, bounds=Bounds(0, 99)), True, "the log ends at 99, before 100"),
        (NEW, False, "not begun; reading begins at offset 50, its earliest"),
        (replace(NEW, committed=Committed(70, "")), False, "goes on at offset 70, where a former system stood"),
        (replace(NEW, committed=Committed(70, f"{MARKER}ours")), True, "The ledger is lost, or"),
        (replace(RIGHT, committed=Committed(30, "")), False, "offset 30 was committed by somebody else"),
        (replace(RIGHT, committed=Committed(30, f"{MARKER}theirs")), True, "does another deployment use"),
        (replace(RIGHT, committed=Committed(101, f"{MARKER}ours")), False, "committed offset 101 is ahead"),
        (replace(RIGHT, letters=6), True, "more dead letters, 6, than the ledger counted, 5"),
        (replace(RIGHT, letters=7, outside=2), False, "there are 7 dead letters, and the ledger counted 5: the others"),
        (replace(RIGHT, letters=8, outside=2), True, "more dead letters, 8, than the ledger counted, 5"),
        (replace(RIGHT, letters=3), False, "2 of 5 dead letters were deleted"),
        (replace(NEW, letters=1), True, "more dead letters, 1, than the ledger counted, 0"),
        (replace(RIGHT, repeated=(4, 33)), True, "offset 33 and 3 more became a dead letter more often"),
        (replace(RIGHT, moves=(Move(7, 3, "because", NOW),)), False, "20:00:00 UTC: moved from 7 to 3: because"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_said(standing: Standing, finding: bool, words: str) -> None:
    found = said(standing)
    assert any(words in text for _, text in found), found
    assert {finding for finding, text in found if words in text} == {finding}


def test_what_is_behind_or_not_committed_yet_is_no_fault() -> None:
    assert said(replace(RIGHT, bounds=Bounds(100, 900), committed=Committed(70, f"{MARKER}ours"))) == []
    assert said(replace(RIGHT, committed=None)) == []


def test_what_is_read_next_follows_the_settings() -> None:
    late = "not begun; reading begins at offset 100, its end"
    assert said(NEW, auto_offset_reset="latest") == [(False, late)]
    added = replace(NEW, partition=1)
    assert said(RIGHT, added, auto_offset_reset="latest") == [(False, late.replace("100, its end", "50, its earliest"))]
    gone = replace(RIGHT, bounds=Bounds(150, 200))
    assert said(gone)[0][1].endswith("Nothing is read until you decide")
    assert said(gone, on_missing_offsets="earliest")[0][1].endswith("Reading goes on at 150")
    adopted = replace(NEW, committed=Committed(20, ""))
    assert said(adopted)[1] == (
        True, "offsets 20 to 49 are gone from the broker and were not read. Nothing is read until you decide"
    )  # fmt: skip


def test_of_many_moves_the_newest_are_told_and_how_many_there_were() -> None:
    moves = tuple(Move(7, 3, f"number {number}", NOW) for number in range(5))
    count, *newest = (text for _, text in said(replace(RIGHT, moves=moves)))
    assert "moved 5 times" in count
    assert [text.rsplit(": ", 1)[1] for text in newest] == ["number 2", "number 3", "number 4"]
    assert len(said(replace(RIGHT, moves=moves[:3]))) == 3


def test_what_a_running_process_may_have_in_hand_is_told() -> None:
    gone = replace(RIGHT, bounds=Bounds(101, 200))
    kafka = KafkaSettings(bootstrap_servers="nowhere:9092")
    for active in (False, True):
        (remark,) = judge([gone], kafka, "ours", active=active)
        assert remark.finding
        assert ("unless a running process has them in hand: look again" in remark.text) is active
