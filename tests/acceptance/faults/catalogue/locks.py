"""Others hold what the service needs."""

from __future__ import annotations

import asyncio
import contextlib

from tests.acceptance.faults import topics
from tests.acceptance.faults.fault import fault
from tests.acceptance.faults.world import World
from tests.support.waiting import eventually

DEADLOCKS = 5


@fault(
    "deadlocks", f"a client updates the newest-wins rows against the key order until {DEADLOCKS} deadlocks are counted"
)
async def deadlocks(world: World) -> None:
    async def hostile() -> None:
        async with world.connection() as connection:
            await connection.execute("SET deadlock_timeout = '10min'")  # never the one that is sacrificed
            keys = [f"{world.suffix}-{number}" for number in range(150)]
            while True:
                async with connection.transaction():
                    for key in sorted(keys, reverse=True):
                        await connection.execute(
                            "UPDATE emails_with_embeddings SET folder = 'hostile' WHERE trace_id = $1", key
                        )

    async def counted() -> int:
        (row,) = await world.sql("SELECT deadlocks::int AS n FROM pg_stat_database WHERE datname = current_database()")
        return int(row["n"])

    task = asyncio.create_task(hostile())
    try:
        await eventually(counted, until=lambda n: n >= DEADLOCKS or task.done(), within_s=180, every_s=0.5)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    world.over()
    world.notes.append(f"{await counted()} deadlocks")


@fault("access-exclusive", "ACCESS EXCLUSIVE on one table held by a migration for 45 s; the others flow", services=2)
async def access_exclusive(world: World) -> None:
    async with world.connection() as migration, migration.transaction():
        await migration.execute("LOCK TABLE fault_tails IN ACCESS EXCLUSIVE MODE")
        await world.lasting(45)
        for other in (topics.PLAIN, topics.FIRST, topics.NEWEST):
            await world.flows(100, other)
    world.over()
    await world.flows(300, topics.PAIR)


@fault("ledger-locked", "a client holds all rows of the ledger locked for 45 s")
async def ledger_locked(world: World) -> None:
    async with world.connection() as client, client.transaction():
        await client.fetch("SELECT * FROM ingest_offsets FOR UPDATE")
        await world.lasting(45)
    world.over()
    await world.flows(300)
