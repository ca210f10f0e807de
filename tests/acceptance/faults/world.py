"""A world for one fault: topics and a database of its own, services as processes, and proxies between them."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import psutil
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from ingest.local.postgres import query
from ingest.topics import Topic
from tests.acceptance.faults import topics
from tests.acceptance.faults.fault import Fault
from tests.acceptance.faults.stand import Stand
from tests.acceptance.faults.traffic import Sent, Traffic
from tests.acceptance.faults.verdict import Verdict, judge
from tests.support import kafka, proxy
from tests.support.database import ROOT, with_database
from tests.support.service import Service, service_environment
from tests.support.waiting import eventually

PARTITIONS = 3
SESSION_TIMEOUT_MS = 6_000
ROUNDS_AFTER = 100
"""Rounds that are sent after a fault's end: what goes on only for what was there before does not pass."""


@dataclass
class World:
    """What a fault does things to. All waiting has a deadline."""

    stand: Stand
    fault: Fault
    database_url: str
    """As the superuser, past the proxy."""
    service_url: str
    """As the service's role, through the proxy."""
    role: str
    suffix: str
    directory: Path
    randomness: random.Random
    to_broker: proxy.Proxy
    to_database: proxy.Proxy
    traffic: Traffic
    services: list[Service] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: set[Sent] = field(default_factory=set)
    extra: dict[tuple[str, int], int] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Topic → number of partitions, where a fault changed it."""
    ended_at: float | None = None
    recovery_s: float | None = None

    @property
    def service(self) -> Service:
        """The one that was started last."""
        return self.services[-1]

    @property
    def running(self) -> list[Service]:
        return [each for each in self.services if each.process.poll() is None]

    @property
    def group(self) -> str:
        return f"group-{self.suffix}"

    def name(self, topic: Topic) -> str:
        return self.traffic.name(topic.name)

    def start_service(self, **changes: str) -> Service:
        environment = service_environment(
            self.stand.stack,
            self.service_url,
            self.suffix,
            **{
                "LOOM_KAFKA_BOOTSTRAP_SERVERS": self.to_broker.address,
                "LOOM_TOPICS": topics.__name__,
                "LOOM_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
                **self.fault.settings,
                **changes,
            },
        )
        service = Service(environment, self.directory / f"service-{len(self.services)}.log")
        self.services.append(service)
        return service.start()

    # The database, past the proxy.

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.database_url, timeout=30)
        try:
            yield connection
        finally:
            await connection.close(timeout=10)

    async def sql(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        async with self.connection() as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]

    async def server_sql(self, statement: str, *arguments: Any) -> None:
        """On the server's own database: what concerns this one as a whole, or the server."""
        await asyncio.to_thread(query, self.stand.stack.database_url, statement, *arguments)

    @property
    def database_name(self) -> str:
        return urlsplit(self.database_url).path[1:]

    async def end_sessions(self) -> None:
        """Terminates the service's backends."""
        await self.server_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", self.role)

    async def ledger(self, topic: Topic | None = None) -> dict[tuple[str, int], int]:
        rows = await self.sql(
            "SELECT topic, partition, next_offset FROM ingest_offsets WHERE $1::text IS NULL OR topic = $1",
            self.name(topic) if topic else None,
        )
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def ended(self, topic: Topic | None = None) -> int:
        """Messages that have ended, by the ledger."""
        (row,) = await self.sql(
            "SELECT coalesce(sum(written + duplicate + dead_lettered), 0)::int AS n FROM ingest_offsets "
            "WHERE $1::text IS NULL OR topic = $1",
            self.name(topic) if topic else None,
        )
        return int(row["n"])

    async def flows(self, messages: int, topic: Topic | None = None, within_s: float = 120) -> None:
        """Waits until so many more messages have ended."""
        wanted = await self.ended(topic) + messages
        await eventually(lambda: self.ended(topic), until=lambda n: n >= wanted, within_s=within_s, every_s=0.02)

    # Pages and logs.

    async def ready(self, service: Service, *, because: str | None = None, within_s: float = 90) -> None:
        """Waits until ``/readyz`` answers 200, or 503 with a reason that begins with ``because``."""

        async def answer() -> tuple[int, list[str]]:
            status, body = await asyncio.to_thread(service.page, "/readyz")
            return status, json.loads(body)["reasons"]

        def wanted(found: tuple[int, list[str]]) -> bool:
            status, reasons = found
            if because is None:
                return status == 200
            return status == 503 and any(each.startswith(because) for each in reasons)

        await eventually(answer, until=wanted, within_s=within_s, every_s=0.2)

    async def said(self, service: Service, event: str, within_s: float = 90) -> dict[str, Any]:
        return await asyncio.to_thread(service.wait_until_said, event, within_s)

    async def healthy(self) -> bool:
        """Whether every running process's ``/healthz`` is alive."""
        pages = [await asyncio.to_thread(each.page, "/healthz") for each in self.running]
        return all(status == 200 for status, _ in pages)

    async def lasting(self, seconds: float, holds: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Keeps the fault up for so long, and asks all the time whether ``holds`` (default: :meth:`healthy`)."""
        until = time.monotonic() + seconds
        holds = holds or self.healthy

        async def over() -> bool:
            assert await holds(), "what has to hold during the fault does not"
            return time.monotonic() >= until

        await eventually(over, within_s=seconds + 60, every_s=min(0.5, seconds / 10))

    @staticmethod
    def memory_mib(service: Service) -> float:
        """Resident memory of a process."""
        return float(psutil.Process(service.process.pid).memory_info().rss) / 2**20

    async def command(self, *arguments: str) -> str:
        """An operator's ``ingest …``; returns what it printed."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "ingest", *arguments],
            env=self.service.environment | {"LOOM_DATABASE_URL": self.database_url},
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    # The end.

    def over(self) -> None:
        """What was broken is whole again: from here on the recovery is timed."""
        self.ended_at = time.monotonic()

    async def settle(self) -> None:
        """Sends some more, ends the traffic, and waits until the ledger stands at the end of every partition."""
        if self.recovery_s is not None:
            return
        assert self.ended_at is not None, "a fault has to say when it is over"
        self.traffic.go_on()
        await self.traffic.more(ROUNDS_AFTER)
        await self.traffic.stop()
        await self.caught_up()
        self.recovery_s = time.monotonic() - self.ended_at

    async def caught_up(self) -> None:
        ends: dict[tuple[str, int], int] = {}
        for topic in (*topics.ALL, topics.IDLE):
            name = self.name(topic)
            count = self.counts.get(topic.name, 1 if topic is topics.IDLE else PARTITIONS)
            found = await kafka.end_offsets(self.stand.stack.kafka, name, count)
            ends |= {(name, number): offset for number, offset in found.items()}
        await eventually(
            self.ledger, until=lambda found: found == ends, within_s=self.fault.recovers_within_s, every_s=0.1
        )

    async def verdict(self) -> Verdict:
        return await judge(
            self.sql, self.traffic.sent, self.suffix, missed=self.missed, extra=self.extra, passed=self.passed
        )


@asynccontextmanager
async def world(stand: Stand, fault: Fault, seed: int, directory: Path) -> AsyncIterator[World]:
    """Makes the world of one fault; takes it away at the end, and makes the stand whole."""
    suffix, password = uuid4().hex[:8], secrets.token_hex(8)
    name, role = f"fault_{suffix}", f"service_{suffix}"
    server_url = stand.stack.database_url
    url = with_database(server_url, name)
    parts = urlsplit(url)
    randomness = random.Random(f"{seed} {fault.name}")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_take_away, stand, name, role, suffix)
        await asyncio.to_thread(_make_database, server_url, url, name, stand.template, role, password)
        await kafka.create_topics(stand.stack.kafka, [f"{each.name}.{suffix}" for each in topics.ALL], PARTITIONS)
        await kafka.create_topics(stand.stack.kafka, [f"{topics.IDLE.name}.{suffix}"], 1)
        to_broker = stack.enter_context(proxy.to(stand.stack.kafka, kafka=True))
        to_database = stack.enter_context(proxy.to(server_url))
        own = parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}").geturl()
        traffic = Traffic(stand.stack.kafka, suffix, randomness, rate=fault.rate, poison=fault.poison)
        here = World(
            stand, fault, url, proxy.through(own, to_database), role, suffix, directory, randomness,
            to_broker, to_database, traffic,
        )  # fmt: skip
        stack.push_async_callback(traffic.abandon)
        stack.push_async_callback(stand.restore)  # producers end only with their broker
        stack.callback(_end, here.services)
        yield here


def _end(services: list[Service]) -> None:
    for service in services:
        service.clean_up()


def _make_database(server: str, url: str, name: str, template: str, role: str, password: str) -> None:
    """A clone of the template, and a role that may only do what the service does: it is no superuser."""
    query(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    query(server, f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    for table in topics.metadata.sorted_tables:
        query(url, str(CreateTable(table).compile(dialect=postgresql.dialect())))
    query(url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    query(url, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")


async def _take_away(stand: Stand, name: str, role: str, suffix: str) -> None:
    await stand.restore()
    await asyncio.to_thread(query, stand.stack.database_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await asyncio.to_thread(query, stand.stack.database_url, f"DROP ROLE IF EXISTS {role}")
    async with kafka.admin(stand.stack.kafka) as admin:
        mine = [each for each in await admin.list_topics() if each.endswith(f".{suffix}")]
        if mine:
            await admin.delete_topics(mine)
