"""What a measurement lies on: a broker, a durable database server, loads in topics, and a fresh database a trial."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from ingest.local.postgres import query
from ingest.local.stack import Stack, running_stack
from ingest.topics import load_topics
from tests.benchmarks.workloads import Sent
from tests.support.database import ROOT, alembic, with_database
from tests.support.kafka import admin, create_topics, end_offsets

Say = Callable[[str], None]

PARTITIONS = 6
DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "track_commit_timestamp": "on",  # tells when a row became visible
}
"""postgresql.conf of a measurement. Nothing that makes it less safe than its defaults."""
SESSION = {"synchronous_commit": "off", "jit": "off"}
"""What every contender's sessions set, as the service's do. For the service it loses nothing: the offset is in the same
transaction. A peer could lose rows by it when the host crashes; it is given the speed all the same."""

_BATCH_BYTES = 262_144
_SEND_AT_ONCE = 64
"""Batches under way to the broker."""


@dataclass(frozen=True)
class Load:
    """Messages that lie in the broker."""

    topics: dict[str, str]
    """Loom's name → the name in the broker."""
    counts: dict[str, int]
    """Messages of each topic, by Loom's name."""
    bytes: int
    """Of all values."""

    @property
    def messages(self) -> int:
        return sum(self.counts.values())

    @property
    def topic(self) -> str:
        """The broker's name of the only topic. Raises ValueError if there are several."""
        (name,) = self.topics.values()
        return name


@dataclass(frozen=True)
class Database:
    """A database of one trial, with the schema, empty."""

    url: str = field(repr=False)
    name: str

    def query(self, statement: str, *arguments: Any, timeout_s: float = 900) -> list[Any]:
        return query(self.url, statement, *arguments, timeout_s=timeout_s)


class Bed:
    """The stack, and what is made on it.

    Args:
        seed: of every load.
        directory: for logs and files; exists.
    """

    def __init__(self, stack: Stack, seed: int, directory: Path, say: Say) -> None:
        self.stack = stack
        self.seed = seed
        self.directory = directory
        self.say = say
        self._template = f"template_{secrets.token_hex(4)}"
        self._loom = load_topics(["ingest.topics"])

    @property
    def postmaster(self) -> int | None:
        """Process id of the database server, where it is ours to look at."""
        return None if self.stack.database_server is None else self.stack.database_server.pid

    @property
    def broker_process(self) -> int | None:
        return None if self.stack.kafka_server is None else self.stack.kafka_server.pid

    def make_template(self) -> None:
        query(self.stack.database_url, f"CREATE DATABASE {self._template}")
        alembic(with_database(self.stack.database_url, self._template), "upgrade", "head")
        query(self.stack.database_url, f"ALTER DATABASE {self._template} ALLOW_CONNECTIONS false")

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A clone of the schema that is dropped afterwards; the server has nothing left to flush when it begins."""
        name = f"trial_{secrets.token_hex(4)}"
        query(self.stack.database_url, f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY file_copy")
        try:
            query(self.stack.database_url, "CHECKPOINT", timeout_s=300)
            yield Database(with_database(self.stack.database_url, name), name)
        finally:
            query(self.stack.database_url, f"DROP DATABASE {name} WITH (FORCE)", timeout_s=300)

    @asynccontextmanager
    async def load(self, topics: Iterable[str], messages: Iterable[Sent]) -> AsyncIterator[Load]:
        """Produces the messages into topics of their own, which are deleted afterwards."""
        async with self.topics(topics) as names:
            begun = time.monotonic()
            counts, size = await self.produce(names, messages)
            load = Load(names, counts, size)
            self.say(f"       {load.messages:,} messages, {size / 1e6:,.0f} MB, in {time.monotonic() - begun:.0f} s")
            yield load

    @asynccontextmanager
    async def topics(self, topics: Iterable[str]) -> AsyncIterator[dict[str, str]]:
        """Empty topics of one measurement: Loom's name → the broker's."""
        suffix = secrets.token_hex(4)
        names = {name: f"{name}.{suffix}" for name in sorted(topics)}
        await create_topics(self.stack.kafka, names.values(), PARTITIONS)
        try:
            yield names
        finally:
            async with admin(self.stack.kafka) as client:
                await client.delete_topics(list(names.values()))

    async def produce(self, names: dict[str, str], messages: Iterable[Sent]) -> tuple[dict[str, int], int]:
        """Sends all, each key to one partition, in whole batches; returns counts by topic and bytes of values."""
        counts: Counter[str] = Counter()
        size = 0
        async with sender(self.stack.kafka) as sends:
            for message in messages:
                await sends.send(names[message.topic], message)
                counts[message.topic] += 1
                size += len(message.value)
        return dict(counts), size

    def tables(self, topics: Iterable[str]) -> list[str]:
        """The tables that these topics fill."""
        return sorted({table.name for name in topics for table in self._loom[name].tables})

    def service_environment(self, names: dict[str, str], database: Database, **changes: str) -> dict[str, str]:
        """The variables of ``ingest run`` over a load: the defaults, but for addresses and names."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOOM_")}
        return (
            inherited
            | {
                "LOOM_KAFKA_BOOTSTRAP_SERVERS": self.stack.kafka,
                "LOOM_DATABASE_URL": database.url,
                "LOOM_KAFKA_GROUP_ID": f"benchmark-{secrets.token_hex(4)}",
                "LOOM_TOPICS": "tests.benchmarks.topics",
                "LOOM_HTTP_HOST": "127.0.0.1",
                "LOOM_HTTP_PORT": "0",
                "BENCHMARK_TOPICS": json.dumps(names),
                "PYTHONPATH": str(ROOT),
            }
            | changes
        )

    def wal(self) -> float:
        """Bytes of WAL that the server has written so far."""
        ((there,),) = query(self.stack.database_url, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return float(there)

    async def ends(self, names: dict[str, str]) -> int:
        """Messages that the broker holds in these topics."""
        return sum([sum((await end_offsets(self.stack.kafka, name, PARTITIONS)).values()) for name in names.values()])


SERVICE = (sys.executable, "-m", "ingest", "run")
"""The command under measurement: the released one, by its settings alone."""


class Sender:
    """Sends messages in whole batches. They are made here, not by the client's accumulator: half the time a message."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._open: dict[tuple[str, int], Any] = {}
        self._under_way: set[asyncio.Future[Any]] = set()
        self._last: dict[tuple[str, int], asyncio.Future[Any]] = {}

    async def send(self, topic: str, message: Sent) -> None:
        """Keeps the message in a batch, which is sent when it is full. Raises KafkaError of an earlier one."""
        place = (topic, sum(message.key) % PARTITIONS)
        batch = self._open.get(place)
        if batch is None or batch.append(key=message.key, value=message.value, timestamp=None) is None:
            if batch is not None:
                await self._ship(place)
            batch = self._open[place] = self._producer.create_batch()
            assert batch.append(key=message.key, value=message.value, timestamp=None) is not None

    async def hand_over(self) -> None:
        """Sends what is kept, full or not, where the broker has acknowledged what went there before.

        Elsewhere messages go on gathering, as they do in any producer: small batches in a queue would wait longer.
        """
        for place in list(self._open):
            last = self._last.get(place)
            if last is None or last.done():
                await self._ship(place)

    async def flush(self) -> None:
        """Sends what is kept, and waits until the broker has acknowledged all. Raises KafkaError."""
        for place in list(self._open):
            await self._ship(place)
        await asyncio.gather(*self._under_way)
        self._under_way.clear()

    async def _ship(self, place: tuple[str, int]) -> None:
        batch = self._open.pop(place)
        batch.close()
        self._last[place] = await self._producer.send_batch(batch, place[0], partition=place[1])
        self._under_way.add(self._last[place])
        if len(self._under_way) >= _SEND_AT_ONCE:
            done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            self._under_way.difference_update(done)
            for future in done:
                future.result()


@asynccontextmanager
async def sender(servers: str) -> AsyncIterator[Sender]:
    """What sends messages; all of them are sent when the block ends."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", max_batch_size=_BATCH_BYTES, max_request_size=_BATCH_BYTES * 8
    )
    await producer.start()
    try:
        sends = Sender(producer)
        yield sends
        await sends.flush()
    finally:
        await producer.stop()


@contextmanager
def bedded(directory: Path, seed: int, say: Say) -> Iterator[Bed]:
    """A stack for measurements, which ends with the block."""
    with running_stack(directory / "stack", say=say, database_settings=DURABLE) as stack:
        bed = Bed(stack, seed, directory, say)
        bed.make_template()
        yield bed
