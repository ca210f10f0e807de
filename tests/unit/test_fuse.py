"""The fuse opens for one cause that rejects everything, and never for a lone bad message."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ingest.database import Failure, classify
from ingest.fuse import MAX_REJECTIONS, Fuse, FuseOpenError, Streak
from ingest.records import Rejection
from tests.support.messages import FakeMessage

GOOD = None


def bad(reason: str = "missing", path: str | None = "a", constraint: str | None = None) -> Rejection:
    return Rejection(FakeMessage(b"{}"), "contract", reason, "text", path, constraint_name=constraint)


BAD, OTHER = bad(), bad("int_type")


def feed(fuse: Fuse, *batches: Sequence[Rejection | None]) -> Streak:
    """Batches that were committed, one after the other."""
    streak = Streak()
    for batch in batches:
        streak = fuse.judge(batch)
        fuse.committed(streak)
    return streak


def opens(fuse: Fuse, batch: Sequence[Rejection | None]) -> bool:
    try:
        fuse.judge(batch)
    except FuseOpenError:
        return True
    return False


def test_hundred_in_a_row_over_two_batches_open_it_and_ninety_nine_do_not() -> None:
    assert MAX_REJECTIONS == 100
    for first in (1, 50, 99):
        fuse = Fuse()
        feed(fuse, [BAD] * first)
        assert not opens(fuse, [BAD] * (99 - first))
        assert opens(fuse, [BAD] * (100 - first))


def test_one_batch_alone_never_opens_it() -> None:
    fuse = Fuse()
    assert feed(fuse, [BAD] * 10_000) == Streak(BAD.cause, 10_000, 1)
    assert opens(fuse, [BAD])


def test_lone_bad_messages_never_open_it() -> None:
    feed(Fuse(), *([BAD], [GOOD]) * 500)
    feed(Fuse(), *[[GOOD, BAD]] * 500)
    feed(Fuse(), *[[BAD] * 99 + [GOOD]] * 50)


def test_slow_stream_of_nothing_but_rejections_opens_it_at_the_hundredth() -> None:
    fuse = Fuse()
    feed(fuse, *[[BAD]] * 99)
    assert opens(fuse, [BAD])


@pytest.mark.parametrize("between", [[GOOD], [OTHER]], ids=["a good message", "another cause"])
def test_streak_begins_anew_after(between: list[Rejection | None]) -> None:
    fuse = Fuse()
    feed(fuse, [BAD] * 99, between, [BAD] * 99)
    assert opens(fuse, [BAD])
    fuse = Fuse()
    feed(fuse, [BAD] * 99, [*between, *[BAD] * 98])
    assert not opens(fuse, [BAD])
    assert opens(fuse, [BAD, BAD])


@pytest.mark.parametrize(
    "other",
    [bad("int_type"), bad(path="b"), bad(path=None), bad(constraint="key")],
    ids=["reason", "field", "no field", "constraint"],
)
def test_what_differs_in(other: Rejection) -> None:
    """… is another cause; two in turn never open the fuse."""
    feed(Fuse(), *[[BAD, other]] * 200)


def test_rejections_of_one_cause_may_differ_in_their_text() -> None:
    fuse = Fuse()
    feed(fuse, [Rejection(FakeMessage(None), "contract", "missing", str(n), "a") for n in range(99)])
    assert opens(fuse, [BAD])


def test_batch_that_was_not_committed_leaves_the_streak_as_it_was() -> None:
    fuse = Fuse()
    feed(fuse, [BAD] * 60)
    for _ in range(5):
        assert not opens(fuse, [BAD] * 30)
    assert opens(fuse, [BAD] * 40)
    assert opens(fuse, [BAD] * 40), "it stays open"
    assert not opens(fuse, [GOOD])


def test_batch_without_messages_changes_nothing() -> None:
    fuse = Fuse()
    feed(fuse, [BAD] * 99, [], [])
    assert opens(fuse, [BAD])


def test_accepted_cause_passes_and_no_other() -> None:
    fuse = Fuse()
    feed(fuse, [BAD] * 99)
    fuse.accept(BAD.cause)
    feed(fuse, [BAD] * 500, [BAD] * 500)
    feed(fuse, [OTHER] * 99)
    assert opens(fuse, [OTHER])


def test_acceptance_ends_when_a_message_is_written_again() -> None:
    fuse = Fuse()
    fuse.accept(BAD.cause)
    feed(fuse, [BAD] * 500, [GOOD], [BAD] * 99)
    assert opens(fuse, [BAD])


def test_acceptance_ends_also_when_more_rejections_follow_in_the_same_batch() -> None:
    fuse = Fuse()
    fuse.accept(BAD.cause)
    feed(fuse, [BAD] * 500, [BAD, GOOD, BAD], [BAD] * 98)
    assert opens(fuse, [BAD])


def test_open_fuse_says_the_cause_and_what_to_do_and_stops_its_lane_only() -> None:
    error = FuseOpenError(("database", "23505", "data.latitude", "likes_trace_id_key"), 123)
    text = str(error)
    for part in (
        "123",
        "database: 23505",
        "at data.latitude",
        "constraint likes_trace_id_key",
        "resume TOPIC --accept",
    ):
        assert part in text
    assert "\n" not in text
    assert error.cause == ("database", "23505", "data.latitude", "likes_trace_id_key")
    assert classify(error) is Failure.LANE
    assert " at " not in str(FuseOpenError(("decode", "empty", "", ""), 100)).split(";")[0]
