"""A running system for one test: its topics on the shared broker, its database, and services as processes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ingest.local.stack import Stack
from tests.support import kafka, messages
from tests.support.service import Service, service_environment
from tests.support.topics import GPS, PLAIN, SERVED
from tests.support.waiting import eventually

PARTITIONS = 3


@dataclass
class System:
    """What a test does with a broker, a database and some services."""

    stack: Stack
    database_url: str
    suffix: str
    directory: Path
    services: list[Service] = field(default_factory=list)

    def topic(self, topic: Any) -> str:
        return f"{topic.name}.{self.suffix}"

    @property
    def topics(self) -> list[str]:
        return [self.topic(each) for each in SERVED]

    @property
    def group(self) -> str:
        return f"group-{self.suffix}"

    def service(self, **changes: str) -> Service:
        """Starts ``ingest run``."""
        environment = service_environment(self.stack, self.database_url, self.suffix, **changes)
        service = Service(environment, self.directory / f"service-{len(self.services)}.log")
        self.services.append(service)
        return service.start()

    async def create_topics(self, topics: Iterable[str] | None = None) -> None:
        await kafka.create_topics(self.stack.kafka, topics or self.topics, PARTITIONS)

    async def produce(self, topic: Any, bodies: Iterable[Any], partition: int | None = None) -> list[tuple[int, int]]:
        values = [body if isinstance(body, bytes) else messages.encode(body) for body in bodies]
        return await kafka.produce(self.stack.kafka, self.topic(topic), values, partition=partition)

    async def sql(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self.database_url)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def account(self, topic: Any) -> tuple[int, int, int]:
        """Written, duplicate and dead-lettered messages of a topic, by the ledger."""
        (row,) = await self.sql(
            "SELECT coalesce(sum(written), 0)::int AS w, coalesce(sum(duplicate), 0)::int AS d, "
            "coalesce(sum(dead_lettered), 0)::int AS l FROM ingest_offsets WHERE topic = $1",
            self.topic(topic),
        )
        return row["w"], row["d"], row["l"]

    async def caught_up(self, topics: Iterable[Any], within_s: float = 60) -> None:
        """Waits until the ledger stands at the end of every partition of these topics."""
        for topic in topics:
            ends = await kafka.end_offsets(self.stack.kafka, self.topic(topic), PARTITIONS)

            async def ledger(name: str = self.topic(topic)) -> dict[int, int]:
                rows = await self.sql("SELECT partition, next_offset FROM ingest_offsets WHERE topic = $1", name)
                return {row["partition"]: row["next_offset"] for row in rows}

            await eventually(ledger, until=lambda found, ends=ends: found == ends, within_s=within_s)

    async def written(self, topic: Any, at_least: int, within_s: float = 30) -> None:
        """Waits until so many messages of the topic have ended."""
        await eventually(
            lambda: self.account(topic), until=lambda account: sum(account) >= at_least, within_s=within_s, every_s=0.01
        )

    async def plain_identities(self) -> Counter[str]:
        """How often each identity stands in the table that has no unique key."""
        return Counter(row["identity"] for row in await self.sql("SELECT identity FROM test_plain"))

    async def assert_nothing_lost_nothing_twice(self, expected: Iterable[str]) -> None:
        """Compares by identity: what was sent to the table without a key, and what stands in it."""
        found, expected = await self.plain_identities(), set(expected)
        lost = expected - set(found)
        twice = {identity for identity, times in found.items() if times > 1}
        assert (len(lost), len(twice), len(set(found) - expected)) == (0, 0, 0), (sorted(lost)[:5], sorted(twice)[:5])


@pytest.fixture
async def system(stack: Stack, database_url: str, suffix: str, tmp_path: Path) -> AsyncIterator[System]:
    """The topics exist; no service runs yet. Those that a test starts are ended with it."""
    system = System(stack, database_url, suffix, tmp_path)
    await system.create_topics()
    yield system
    for service in system.services:
        service.clean_up()
    raw = [line["raw"] for service in system.services for line in service.log if "raw" in line]
    assert not raw, "log lines that are no JSON"


@dataclass
class Stream:
    """A steady stream to the keyless topic and a keyed one, with every identity remembered."""

    system: System
    rate: float = 2_000
    sent: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, total: int) -> None:
        plain, gps = self.system.topic(PLAIN), self.system.topic(GPS)
        async with kafka.producer(self.system.stack.kafka) as producer:
            for number in range(total):
                if self.stop.is_set():
                    break
                identity = f"{self.system.suffix}-{number}"
                await producer.send(plain, messages.encode(messages.plain(identity, number / 1000)))
                await producer.send(gps, messages.encode(messages.gps(number, device_id=identity)))
                self.sent.append(identity)
                if number % 100 == 99:
                    await asyncio.wait([asyncio.ensure_future(self.stop.wait())], timeout=100 / self.rate)
            await producer.flush()


@pytest.fixture
def stream(system: System) -> Stream:
    return Stream(system)


@pytest.fixture
def randomness() -> random.Random:
    """Seeded; the seed is printed with a failure."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)
