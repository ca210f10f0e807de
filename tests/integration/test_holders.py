"""A frozen process must not keep the ledger's rows locked without limit; one that works is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import holders
from ingest.delivery import Delivery
from ingest.holders import StaleHolders
from ingest.local.postgres import query
from ingest.metrics import Metrics
from tests.integration.conftest import GROUP, Table
from tests.support import messages, proxy
from tests.support.topics import PLAIN
from tests.support.waiting import eventually

LOCK = "SELECT 1 FROM ingest_offsets FOR UPDATE"
WAIT = asyncpg.LockNotAvailableError("canceling statement due to lock timeout")


@pytest.fixture
def impatient(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A lock is waited for 100 ms, and a holder that has waited for its client for 300 ms is stale."""
    query(database_url, f"ALTER DATABASE {database_url.rpartition('/')[2]} SET statement_timeout = '200ms'")
    monkeypatch.setattr(holders, "STALE_AFTER_S", 0.3)
    return database_url


@asynccontextmanager
async def frozen(url: str) -> AsyncIterator[None]:
    """Holds the ledger's rows and has sent half of a statement, as a process does that was stopped within it."""
    with proxy.to(url) as between:
        process = await asyncpg.connect(proxy.through(url, between), server_settings={"statement_timeout": "0"})
        await process.execute(f"BEGIN; {LOCK}")
        between.once(b"half-way", "swallow")
        rows = [(f"{number}" + " " * 50_000 + ("half-way" if number == 50 else ""),) for number in range(100)]
        sending = asyncio.create_task(
            process.executemany("INSERT INTO test_plain (identity, timestamp) VALUES ($1, now())", rows)
        )
        await eventually(lambda: is_frozen(url), until=lambda found: between.sprung and found)
        try:  # here is a session that idle_in_transaction_session_timeout does not end
            yield
        finally:
            process.terminate()
            with suppress(Exception):
                await sending


async def holder_states(url: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT state, wait_event FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND query LIKE 'INSERT INTO test_plain%'"
    )
    await connection.close()
    return [tuple(row) for row in rows]


async def is_frozen(url: str) -> bool:
    """Whether it is there, and waits for the rest. It works now and then while rows that were sent still arrive."""
    return await holder_states(url) == [("active", "ClientRead")]


async def test_a_process_frozen_within_a_statement_is_ended_by_whoever_waits_for_its_rows(
    impatient: str, engine: AsyncEngine, table: Any
) -> None:
    plain: Table = await table(PLAIN)
    delivery = Delivery(engine, GROUP, PLAIN, metrics=Metrics(), on_outcome=lambda outcome: None)
    async with frozen(impatient):
        await asyncio.wait_for(delivery.deliver(plain.work([messages.plain("a")]), lambda work: work), 60)
        assert await holder_states(impatient) == []
    assert await plain.counts() == (1, 0, 0)
    assert [row["identity"] for row in await plain.rows("SELECT identity FROM test_plain")] == ["a"]


async def test_a_holder_that_works_or_idles_is_left_alone(
    impatient: str, engine: AsyncEngine, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long statement is work, and an idle transaction has a timeout of its own."""
    await table(PLAIN)
    monkeypatch.setattr(holders, "STALE_AFTER_S", 0.0)
    watch = StaleHolders(engine, GROUP)
    worker = await asyncpg.connect(impatient, server_settings={"statement_timeout": "0"})
    async with worker.transaction():
        await worker.execute(LOCK)
        await watch.look_after(WAIT, PLAIN.name)
        working = asyncio.create_task(worker.execute("SELECT pg_sleep(1)"))
        while not working.done():
            await watch.look_after(WAIT, PLAIN.name)
        await working
        assert await worker.fetchval("SELECT 1") == 1
    await worker.close()


async def test_a_holder_that_waits_for_its_client_is_given_its_time(
    impatient: str, engine: AsyncEngine, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await table(PLAIN)
    monkeypatch.setattr(holders, "STALE_AFTER_S", 3600.0)
    watch = StaleHolders(engine, GROUP)
    async with frozen(impatient):
        for _ in range(3):
            await watch.look_after(WAIT, PLAIN.name)
        await eventually(lambda: is_frozen(impatient))
        monkeypatch.setattr(holders, "STALE_AFTER_S", 0.0)
        await watch.look_after(OSError(), PLAIN.name)  # no wait for a lock
        await eventually(lambda: is_frozen(impatient))

        async def is_ended() -> bool:
            await watch.look_after(WAIT, PLAIN.name)
            return await holder_states(impatient) == []

        await eventually(is_ended)
