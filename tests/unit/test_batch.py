"""A batch is ready by count, bytes or time, whichever comes first; and it never grows past its limits unnoticed."""

from __future__ import annotations

import dataclasses

import pytest

from ingest.batch import Batch, BatchPolicy
from ingest.records import Record
from tests.support.messages import FakeMessage

POLICY = BatchPolicy(fill_messages=3, interval_s=0.5, max_messages=5, max_bytes=100)


def item(
    value: bytes | None = b"x", key: bytes | None = None, *, partition: int = 0, offset: int = 0, header: str = ""
) -> Record:
    headers = ((header, None), (header, b"12")) if header else ()
    return Record(FakeMessage(value, key=key, partition=partition, offset=offset, headers=headers), ())


def filled(*items: Record, policy: BatchPolicy = POLICY) -> Batch:
    """A batch after one that was taken at 10 s."""
    batch = Batch(policy)
    batch.add([item()])
    batch.take(10.0)
    for each in items:
        batch.add([each])
    return batch


def test_empty_batch_is_never_ready() -> None:
    assert Batch(POLICY).ready_in(1e9) is None
    assert not Batch(POLICY).full
    assert len(Batch(POLICY)) == 0


def test_count_makes_it_ready_at_once() -> None:
    assert filled(item(), item()).ready_in(10.0) == 0.5
    assert filled(item(), item(), item()).ready_in(10.0) == 0


def test_while_as_many_wait_at_the_broker_it_fills_until_it_is_full_or_old() -> None:
    batch = filled(item(), item(), item())
    batch.wait_for(3)
    assert batch.ready_in(10.0) == 0.5
    assert batch.ready_in(10.5) == 0
    batch.add([item(), item()])
    assert batch.ready_in(10.0) == 0  # full
    batch = filled(item(), item(), item())
    batch.wait_for(2)
    assert batch.ready_in(10.0) == 0
    batch.wait_for(3)
    batch.take(20.0)
    batch.add([item(), item(), item()])
    assert batch.ready_in(20.0) == 0  # what waited then is not asked again


def test_bytes_of_keys_and_values_make_it_ready_and_full() -> None:
    almost = filled(item(b"v" * 60, b"k" * 39))
    assert (almost.bytes, almost.full, almost.ready_in(10.0)) == (99, False, 0.5)
    exactly = filled(item(b"v" * 60, b"k" * 40))
    assert (exactly.bytes, exactly.full, exactly.ready_in(10.0)) == (100, True, 0)


def test_headers_count_with_their_names_and_values() -> None:
    assert filled(item(b"v", b"k", header="n" * 47)).bytes == 98
    assert filled(item(b"v", b"k", header="n" * 48)).full


def test_messages_without_value_or_key_have_no_bytes() -> None:
    assert filled(item(None), item(b"")).bytes == 0


@pytest.mark.parametrize(("now", "left"), [(10.0, 0.5), (10.125, 0.375), (10.5, 0), (99.0, 0)])
def test_time_since_the_batch_before_makes_it_ready(now: float, left: float) -> None:
    assert filled(item()).ready_in(now) == left


def test_what_comes_first_or_after_a_pause_waits_for_nothing() -> None:
    batch = Batch(POLICY)
    batch.add([item()])
    assert batch.ready_in(0.0) == 0
    batch.take(0.0)
    assert batch.rest_in(0.2) == 0.3
    batch.add([item()])
    assert batch.ready_in(0.25) == 0.25
    assert batch.ready_in(0.5) == 0


def test_full_is_reached_by_count() -> None:
    assert not filled(*[item()] * 4).full
    assert filled(*[item()] * 5).full


def test_full_batch_is_ready_even_if_fewer_than_would_fill_it() -> None:
    policy = dataclasses.replace(POLICY, fill_messages=50)
    assert filled(*[item()] * 5, policy=policy).ready_in(10.0) == 0


def test_taking_returns_all_in_order_and_begins_anew() -> None:
    items = [item(offset=number) for number in range(4)]
    batch = filled(*items)
    assert batch.take(20.0) == items
    assert (len(batch), batch.bytes, batch.ready_in(99.0), batch.full, batch.take(20.0)) == (0, 0, None, False, [])
    batch.add([item()])
    assert batch.ready_in(20.0) == 0.5


def test_dropping_forgets_exactly_the_lost_partitions() -> None:
    items = [item(b"abc", b"d", partition=number % 3, offset=number) for number in range(6)]
    batch = filled(*items)
    assert batch.drop({0, 2, 9}) == 4
    assert (batch.items, batch.bytes, batch.full) == ([items[1], items[4]], 8, False)
    assert batch.drop({0}) == 0
    assert batch.drop({1}) == 2
    assert (batch.items, batch.bytes, batch.ready_in(99.0)) == ([], 0, None)


def test_smallest_policy_writes_every_message_at_once() -> None:
    policy = BatchPolicy(fill_messages=1, interval_s=0, max_messages=1, max_bytes=1)
    batch = filled(item(), policy=policy)
    assert (batch.full, batch.ready_in(10.0)) == (True, 0)


@pytest.mark.parametrize(
    "change", [{"fill_messages": 0}, {"max_messages": 0}, {"max_bytes": 0}, {"interval_s": -0.1}, {"max_bytes": -1}]
)
def test_policy_without_positive_limits_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive limits"):
        dataclasses.replace(POLICY, **change)  # type: ignore[arg-type]
