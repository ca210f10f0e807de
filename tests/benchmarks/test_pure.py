"""The pure parts, timed on one core: decode, batch, and what a table's writer makes of rows before it sends them.

CI runs them without times (``--benchmark-disable``); ``python -m tests.benchmarks pure`` with them. To compare two
states: ``pytest tests/benchmarks/test_pure.py --benchmark-enable --benchmark-autosave``, then ``--benchmark-compare``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import itemgetter

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from sqlalchemy.dialects import postgresql

from ingest.batch import Batch, BatchPolicy
from ingest.decode import Decoder, TimestampLimits
from ingest.ledger import LastRecord
from ingest.records import Item, Message, Record, Rejection
from ingest.topics import Topic, load_topics
from tests.benchmarks.workloads import WORKLOADS, Workload
from tests.support.messages import FakeMessage

MESSAGES = 500
LIMITS = TimestampLimits(max_skew_s=86_400, oldest=datetime(2000, 1, 1, tzinfo=UTC))
TOPICS = load_topics(["ingest.topics"])
ONE_TOPIC = [each for each in WORKLOADS if len(each.topics) == 1]


def prepared(workload: Workload) -> tuple[Topic, list[Message]]:
    (name,) = workload.topics
    sent = workload.make(MESSAGES, 20)
    return TOPICS[name], [FakeMessage(each.value, number, key=each.key) for number, each in enumerate(sent)]


def decoded(workload: Workload) -> list[Item]:
    topic, messages = prepared(workload)
    return [*map(Decoder(topic, LIMITS), messages)]


@pytest.mark.parametrize("workload", ONE_TOPIC, ids=lambda each: each.name)
def test_decode_makes_rows_of_every_message(benchmark: BenchmarkFixture, workload: Workload) -> None:
    topic, messages = prepared(workload)
    decode = Decoder(topic, LIMITS)
    items: Sequence[Item] = benchmark(lambda: [*map(decode, messages)])
    assert [type(each) for each in items] == [Record] * MESSAGES


def test_decode_rejects_every_message_that_breaks_the_contract(benchmark: BenchmarkFixture) -> None:
    topic, messages = prepared(WORKLOADS[0])
    bad = [FakeMessage((each.value or b"").replace(b'"confidence_score":', b'"confidence":')) for each in messages]
    decode = Decoder(topic, LIMITS)
    items: Sequence[Item] = benchmark(lambda: [*map(decode, bad)])
    assert {(type(each), each.reason) for each in items if isinstance(each, Rejection)} == {(Rejection, "missing")}
    assert len(items) == MESSAGES


def test_a_batch_takes_every_item_in_order(benchmark: BenchmarkFixture) -> None:
    items = decoded(WORKLOADS[0])
    policy = BatchPolicy(fill_messages=200, interval_s=0.5, max_messages=10_000, max_bytes=16_777_216)

    def fill() -> list[Item]:
        batch = Batch(policy)
        batch.add(items)
        return batch.take(0.0)

    assert benchmark(fill) == items


@pytest.mark.parametrize("workload", ONE_TOPIC, ids=lambda each: each.name)
def test_rows_are_encoded_for_the_server(benchmark: BenchmarkFixture, workload: Workload) -> None:
    """Into key order, and through the types' own processors: what a batch costs before a byte is sent."""
    (write,) = TOPICS[next(iter(workload.topics))].writes
    rows = [each.rows[0] for each in decoded(workload) if isinstance(each, Record)]
    key_of = itemgetter(*write.rule.key)  # type: ignore[union-attr] # all of these have one
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    processors = {name: write.table.c[name].type.bind_processor(dialect) for name in rows[0]}

    def encode() -> list[list[object]]:
        return [
            [value if (process := processors[name]) is None else process(value) for name, value in row.items()]
            for row in sorted(rows, key=key_of)
        ]

    encoded = benchmark(encode)
    assert len(encoded) == MESSAGES
    assert all(len(each) == len(processors) for each in encoded)


def test_the_ledgers_checksum_is_of_key_and_value(benchmark: BenchmarkFixture) -> None:
    _, messages = prepared(WORKLOADS[0])
    lasts = benchmark(lambda: [LastRecord.of(each) for each in messages])
    assert [each.offset for each in lasts] == [each.offset for each in messages]
    assert len({each.checksum for each in lasts}) == MESSAGES
