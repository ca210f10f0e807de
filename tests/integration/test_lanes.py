"""Lanes on a real broker and a real database, in one process: many on one pool, and two of one partition."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest import ledger
from ingest.batch import BatchPolicy
from ingest.consumer import Broker
from ingest.database import create_engine
from ingest.decode import Decoder, TimestampLimits
from ingest.lane import Lane
from ingest.local.stack import Stack
from ingest.metrics import Metrics
from ingest.pipeline import Pipeline
from ingest.positions import Positions
from ingest.settings import DatabaseSettings, KafkaSettings, ServiceSettings, Settings
from ingest.topics import Topic
from tests.support import kafka, messages
from tests.support.topics import PLAIN, renamed
from tests.support.waiting import eventually

POOL = 4


def connected(watcher: asyncpg.Connection, name: str) -> Callable[[], Awaitable[tuple[int, int]]]:
    """How many connections an operator sees by this name, and how many of them are writing rows just now."""

    async def ask() -> tuple[int, int]:
        row = await watcher.fetchrow(
            "SELECT count(*) AS all, "
            "count(*) FILTER (WHERE state = 'active' AND query ~ '^(INSERT INTO|COPY).*test_plain') AS writing "
            "FROM pg_stat_activity WHERE application_name = $1",
            name,
        )
        return row["all"], row["writing"]

    return ask


async def test_lanes_write_at_once_on_a_pool_that_grows_to_its_maximum_and_not_beyond(
    stack: Stack, database_url: str, suffix: str
) -> None:
    topics = [renamed(PLAIN, f"{number}.{suffix}") for number in range(7)]
    await kafka.create_topics(stack.kafka, [topic.name for topic in topics], partitions=1)
    settings = Settings(
        KafkaSettings(bootstrap_servers=stack.kafka, group_id=f"group-{suffix}", batch_timeout=0.05, batch_size=20),
        DatabaseSettings(url=database_url, min_pool_size=1, max_pool_size=POOL),
        ServiceSettings(batch_max_messages=20),
    )
    name = f"loom-ingest-kafka-{suffix}"
    engine = create_engine(settings.database, application_name=name)
    pipeline = Pipeline(
        settings,
        {topic.name: topic for topic in topics},
        engine=engine,
        database_id="",
        metrics=Metrics(),
        client_id="loom-ingest-test",
    )
    watcher = await asyncpg.connect(database_url)
    locker = await asyncpg.connect(database_url)  # not the watcher: within a transaction it sees one moment only
    connections = connected(watcher, name)
    assert await connections() == (0, 0)  # none before one is needed
    most = 0
    stop = asyncio.Event()
    await pipeline.start()
    running = asyncio.create_task(pipeline.run(stop))
    try:
        sent = {
            topic.name: [messages.plain(f"{topic.name}-{number}") for number in range(200 if n else 5)]
            for n, topic in enumerate(topics)
        }
        await kafka.produce(stack.kafka, topics[0].name, map(messages.encode, sent[topics[0].name]))

        async def ended() -> int:
            nonlocal most
            most = max(most, (await connections())[0])
            return int(await watcher.fetchval("SELECT coalesce(sum(written), 0)::int FROM ingest_offsets"))

        await eventually(ended, until=lambda count: count == 5, every_s=0.005)
        # What is not needed any more is closed, down to the minimum.
        await eventually(connections, until=lambda found: found == (1, 0))
        lock = locker.transaction()
        await lock.start()
        await locker.execute("LOCK TABLE test_plain IN SHARE ROW EXCLUSIVE MODE")
        for topic in topics[1:]:
            await kafka.produce(stack.kafka, topic.name, map(messages.encode, sent[topic.name]))
        await eventually(connections, until=lambda found: found == (POOL, POOL))  # each has a batch in hand
        await lock.rollback()
        await eventually(ended, until=lambda count: count == 5 + 6 * 200, within_s=60, every_s=0.005)
    finally:
        await locker.close()
        stop.set()
        await running
        await pipeline.close(within_s=10)
        await engine.dispose()
    found = Counter(row["identity"] for row in await watcher.fetch("SELECT identity FROM test_plain"))
    await watcher.close()
    assert found == Counter(body["identity"] for bodies in sent.values() for body in bodies)
    assert most <= POOL


class Member:
    """A lane that is fed by hand: in a group of its own at the broker, which gives it every partition, and in one group
    with others by the ledger."""

    def __init__(self, stack: Stack, database_url: str, topic: Topic, *, kafka_group: str, group: str) -> None:
        self.engine = create_engine(DatabaseSettings(url=database_url), application_name=f"kafka {kafka_group}")
        self.metrics = Metrics()
        self._name = topic.name
        self._broker = Broker(
            KafkaSettings(bootstrap_servers=stack.kafka, group_id=kafka_group), self, client_id=kafka_group
        )
        self.lane = Lane(
            topic,
            engine=self.engine,
            broker=self._broker,
            positions=Positions(
                self.engine,
                self._broker,
                group=group,
                database_id="",
                auto_offset_reset="earliest",
                on_missing_offsets="stop",
                metrics=self.metrics,
            ),
            group=group,
            decoder=Decoder(topic, TimestampLimits(86_400, datetime(2000, 1, 1, tzinfo=UTC))),
            policy=BatchPolicy(20, 0.02, 40, 2**20),
            metrics=self.metrics,
            on_written=lambda *_: None,
        )

    def assigned(self, partitions: Mapping[str, set[int]]) -> None:
        self.lane.assign(sorted(partitions.get(self._name, ())))

    def revoked(self) -> None:
        self.lane.revoke()

    async def run(self, stop: asyncio.Event) -> None:
        await self._broker.start()
        await self._broker.subscribe([self._name])
        reading = asyncio.create_task(self.lane.read())
        writing = asyncio.create_task(self.lane.write())
        await stop.wait()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        self.lane.stop()
        await writing
        await self._broker.stop()
        await self.engine.dispose()

    def count(self, name: str, suffix: str = "_total") -> float:
        """The sum of a metric over all its other labels."""
        return sum(
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"ingest_{name}{suffix}"
        )


@pytest.fixture
def both_find_it_empty(monkeypatch: pytest.MonkeyPatch) -> set[AsyncEngine]:
    """Nobody makes rows of the ledger before both members are about to."""
    real, about_to, both = ledger.create, set[AsyncEngine](), asyncio.Event()

    async def create(connection: AsyncConnection, *arguments: Any) -> None:
        about_to.add(connection.engine)
        if len(about_to) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 30)
        await real(connection, *arguments)

    monkeypatch.setattr(ledger, "create", create)
    return about_to


async def test_two_that_are_fed_the_same_partitions_from_an_empty_ledger_on_write_each_message_once(
    stack: Stack, engine: AsyncEngine, database_url: str, suffix: str, both_find_it_empty: set[AsyncEngine]
) -> None:
    """Only the ledger judges here: the broker lets both read everything, all the time."""
    topic = renamed(PLAIN, suffix)
    await kafka.create_topics(stack.kafka, [topic.name])
    values = [b"bad" if n % 50 == 7 else messages.encode(messages.plain(f"m{n}")) for n in range(3_000)]
    sent = await kafka.produce(stack.kafka, topic.name, values[:1_000])
    members = [
        Member(stack, database_url, topic, kafka_group=f"{each}-{suffix}", group=f"group-{suffix}") for each in "ab"
    ]
    stop = asyncio.Event()
    running = asyncio.gather(*(member.run(stop) for member in members))

    async def ended() -> int:
        async with engine.connect() as connection:
            return int(await connection.scalar(text("SELECT coalesce(sum(next_offset), 0) FROM ingest_offsets")) or 0)

    try:
        await eventually(ended, until=lambda count: count > 0)
        sent += await kafka.produce(stack.kafka, topic.name, values[1_000:])
        await eventually(ended, until=lambda count: count == len(values), within_s=60)
    finally:
        stop.set()
        await asyncio.wait_for(running, 60)
    assert len(both_find_it_empty) == 2
    async with engine.connect() as connection:
        rows = Counter((await connection.execute(text("SELECT identity FROM test_plain"))).scalars())
        letters = (await connection.execute(text("SELECT partition, kafka_offset FROM ingest_dead_letters"))).all()
        account = (
            await connection.execute(
                text("SELECT sum(written)::int, sum(duplicate)::int, sum(dead_lettered)::int FROM ingest_offsets")
            )
        ).one()
    bad = [at for at, value in zip(sent, values, strict=True) if value == b"bad"]
    assert rows == Counter(f"m{n}" for n, value in enumerate(values) if value != b"bad")
    assert sorted(tuple(letter) for letter in letters) == sorted(bad)
    assert tuple(account) == (len(values) - len(bad), 0, len(bad))
    # They did meet; and what either says of itself is true.
    assert sum(member.count("partitions_fenced") for member in members) > 0
    for member in members:
        read, buffered = member.count("messages_read"), member.count("messages_buffered", suffix="")
        ends = ("written", "duplicate", "dead_lettered", "dropped")
        assert read == buffered + sum(member.count(f"messages_{each}") for each in ends)
    assert sum(member.count("messages_written") for member in members) == account[0]
