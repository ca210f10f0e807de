"""A batch may be cut anywhere: its parts together do what the whole would, for offsets and for the account."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ingest.fuse import Streak
from ingest.ledger import Advance, LastRecord
from ingest.records import Item, Record, Rejection
from ingest.writer import Outcome, Span, Work, _committed, _steps
from tests.support.messages import FakeMessage


def item(partition: int, offset: int) -> Record:
    return Record(FakeMessage(b"v%d" % offset, partition=partition, offset=offset, timestamp=1000 + offset), ())


@st.composite
def works(draw: st.DrawFn) -> Work:
    """Items of some partitions, interleaved, with gaps between their offsets; spans at least as wide."""
    order = draw(st.lists(st.integers(0, 3), max_size=12))
    at = {partition: draw(st.integers(0, 100)) for partition in {*order, *draw(st.sets(st.integers(0, 3)))}}
    starts = dict(at)
    items: list[Item] = []
    for partition in order:
        offset = at[partition] + draw(st.integers(0, 3))
        items.append(item(partition, offset))
        at[partition] = offset + 1
    spans = {partition: Span(starts[partition], at[partition] + draw(st.integers(0, 3))) for partition in starts}
    return Work(items, spans)


@given(work=works(), data=st.data())
def test_parts_of_a_split_follow_each_other_and_cover_the_whole(work: Work, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(work.items)))
    head, tail = work.split(count)
    assert (head.items, tail.items) == (work.items[:count], work.items[count:])
    stands = {partition: span.start for partition, span in work.spans.items()}
    for part in (head, tail):
        for partition, span in part.spans.items():
            assert stands[partition] == span.start, "the ledger would fence it"
            assert span.end >= span.start
            stands[partition] = span.end
        for each in part.items:
            span = part.spans[each.message.partition]
            assert span.start <= each.message.offset < span.end
    assert stands == {partition: span.end for partition, span in work.spans.items()}


@given(work=works(), lost=st.sets(st.integers(0, 4)))
def test_without_leaves_the_other_partitions_untouched(work: Work, lost: set[int]) -> None:
    rest = work.without(lost)
    assert rest.items == [each for each in work.items if each.message.partition not in lost]
    assert rest.spans == {partition: span for partition, span in work.spans.items() if partition not in lost}


def endings(each: Item) -> st.SearchStrategy[bool | Rejection]:
    return st.booleans() | st.just(Rejection(each.message, "contract", "missing", "text"))


@given(work=works(), data=st.data())
def test_every_message_is_counted_once_and_in_its_partition(work: Work, data: st.DataObject) -> None:
    results = [data.draw(endings(each)) for each in work.items]
    steps = _steps(work, results)
    assert steps.keys() == work.spans.keys()
    for partition, step in steps.items():
        mine = [
            (each, how) for each, how in zip(work.items, results, strict=True) if each.message.partition == partition
        ]
        assert step.written == sum(how is True for _, how in mine)
        assert step.duplicate == sum(how is False for _, how in mine)
        assert step.dead_lettered == sum(isinstance(how, Rejection) for _, how in mine)
        assert step.next_offset == work.spans[partition].end
        span = work.spans[partition]
        assert step.passed >= 0
        assert span.end - span.start == step.written + step.duplicate + step.dead_lettered + step.passed
        assert step.last == (LastRecord.of(mine[-1][0].message) if mine else None)


@given(work=works(), data=st.data())
def test_however_a_batch_is_cut_its_parts_count_what_the_whole_would(work: Work, data: st.DataObject) -> None:
    """Halved again and again, and fenced in one partition on the way: the account closes for all that was written."""
    lost = data.draw(st.sets(st.integers(0, 3), max_size=1))
    parts = [work]
    for _ in range(data.draw(st.integers(0, 5))):
        part = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts += part.split(data.draw(st.integers(0, len(part.items))))
    passed: Counter[int] = Counter()
    for part in parts:
        rest = part.without(lost) if data.draw(st.booleans()) else part
        passed.update({key: step.passed for key, step in _steps(rest, [True] * len(rest.items)).items()})
    for partition, step in _steps(work.without(lost), [True] * len(work.without(lost).items)).items():
        assert passed[partition] == step.passed


def test_last_record_is_told_by_offset_timestamp_key_and_value() -> None:
    message = FakeMessage(b"value", offset=7, key=b"key", timestamp=5)
    last = LastRecord.of(message)
    assert (last.offset, last.timestamp) == (7, 5)
    for other in (
        FakeMessage(b"other", offset=7, key=b"key", timestamp=5),
        FakeMessage(b"value", offset=7, key=b"other", timestamp=5),
        FakeMessage(None, offset=7, key=b"key", timestamp=5),
    ):
        assert LastRecord.of(other).checksum != last.checksum
    assert LastRecord.of(message) == last


def test_unanswered_commit_is_done_where_the_ledger_stands_at_its_end() -> None:
    outcome = Outcome(steps={0: Advance(10), 1: Advance(20)})
    assert _committed(outcome, {0: 10, 1: 20})
    assert not _committed(outcome, {0: 7, 1: 18})
    assert not _committed(outcome, {0: 10, 1: 18})


def test_partition_that_went_to_another_owner_tells_nothing_of_an_unanswered_commit() -> None:
    outcome = Outcome(steps={0: Advance(10), 1: Advance(20)})
    assert _committed(outcome, {1: 20})
    assert not _committed(outcome, {1: 18})
    assert not _committed(outcome, {})


def test_answer_of_an_unanswered_commit_is_given_for_the_partitions_that_are_still_ours() -> None:
    refused = [Rejection(FakeMessage(b"", partition=number), "contract", "missing", "text") for number in (0, 1)]
    outcome = Outcome({0: Advance(10), 1: Advance(20)}, {0, 1, 2}, refused, Streak(refused[0].cause, 2, 1))
    assert outcome.only({1, 7}) == Outcome({1: Advance(20)}, {1}, refused[1:], Streak(refused[0].cause, 2, 1))
