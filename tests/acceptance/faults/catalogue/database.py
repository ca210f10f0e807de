"""The database server restarts, crashes, is gone, full, read-only, or takes no more connections."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.faults import topics
from tests.acceptance.faults.fault import NotHereError, fault
from tests.acceptance.faults.world import World
from tests.support.waiting import eventually

GONE_S = 100
"""Longer than the session (6 s), a statement (60 s), the pool (30 s) and a lock (20 s)."""


@fault("database-immediate", "immediate restart of the database (SIGQUIT to its postmaster)", services=2)
async def database_immediate(world: World) -> None:
    server = world.stand.database
    assert server.pid is not None
    os.kill(server.pid, signal.SIGQUIT)

    async def dead() -> bool:
        return not server.alive()

    await eventually(dead, within_s=30)
    await asyncio.to_thread(server.start)
    world.over()
    await world.flows(300)


@fault(
    "database-crash",
    "synchronous_commit=off, wal_writer_delay=10s; SIGKILL of postmaster and children right after commits; five times",
    services=2,
    recovers_within_s=180,
)
async def database_crash(world: World) -> None:
    server = world.stand.database
    for setting in ("wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'"):
        await world.server_sql(f"ALTER SYSTEM SET {setting}")
    await world.server_sql("SELECT pg_reload_conf()")
    await world.server_sql(f"ALTER DATABASE {world.database_name} SET synchronous_commit = off")
    await world.end_sessions()
    back = []
    for _ in range(5):
        await world.flows(400)
        before = await world.ledger()
        await asyncio.to_thread(server.kill)
        world.to_database.cut()  # so that the ledger is seen before anybody moves it again
        await asyncio.to_thread(server.start)
        after = await world.ledger()
        back.append(sum(max(offset - after.get(where, 0), 0) for where, offset in before.items()))
        world.to_database.heal()
    world.over()
    world.notes.append(f"the ledger moved back by {', '.join(map(str, back))} messages")
    assert any(back), "no crash took a transaction back: the fault did not happen"


@fault("database-gone", f"database killed and gone for {GONE_S} s, longer than every timeout", recovers_within_s=300)
async def database_gone(world: World) -> None:
    service, server = world.service, world.stand.database
    await asyncio.to_thread(server.kill)
    await world.ready(service, because="database")
    most = 0.0

    async def waits() -> bool:
        nonlocal most
        most = max(most, world.memory_mib(service))
        return await world.healthy()

    await world.lasting(GONE_S, waits)
    await asyncio.to_thread(server.start)
    world.over()
    await world.flows(300)
    assert len(service.said("partitions assigned")) == 1, "membership was not kept"
    assert most < 250, f"RSS {most:.0f} MiB"
    world.notes.append(f"RSS at most {most:.0f} MiB")


@fault("database-read-only", "the database takes no writes (25006), as after a failover, for 30 s")
async def database_read_only(world: World) -> None:
    await world.server_sql(f"ALTER DATABASE {world.database_name} SET default_transaction_read_only = on")
    await world.end_sessions()
    await world.ready(world.service, because="database: cannot execute")
    await world.lasting(30)
    await world.server_sql(f"ALTER DATABASE {world.database_name} RESET default_transaction_read_only")
    world.over()
    await world.ready(world.service)


@fault("too-many-connections", "the role may open one connection (53300); the others were terminated; 30 s", services=2)
async def too_many_connections(world: World) -> None:
    await world.server_sql(f"ALTER ROLE {world.role} CONNECTION LIMIT 1")
    await world.end_sessions()
    await world.lasting(30)
    await world.server_sql(f"ALTER ROLE {world.role} CONNECTION LIMIT -1")
    world.over()
    await world.flows(300)


@fault(
    "pool-exhausted",
    "a pool of one connection for four lanes, and each packet 20 ms late, for 2,000 messages",
    LOOM_DB_MIN_POOL_SIZE="1",
    LOOM_DB_MAX_POOL_SIZE="1",
)
async def pool_exhausted(world: World) -> None:
    world.to_database.delay(0.02)
    await world.flows(2_000)
    for each in topics.ALL:
        await world.flows(100, each)
    world.to_database.delay(0)
    world.over()


@contextmanager
def small_disk(size_mib: int) -> Iterator[Path]:
    """A directory that holds so much, for the database's account. Needs root on Linux."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise NotHereError("a small disk needs root and mount(8)")
    place = Path(tempfile.mkdtemp(prefix="loom-ingest-disk-"))
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "tmpfs", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        place.rmdir()
        raise NotHereError(f"a small disk can't be mounted: {done.stderr.strip()}")
    try:
        nobody = pwd.getpwnam("nobody")
        os.chown(place, nobody.pw_uid, nobody.pw_gid)
        yield place
    finally:
        subprocess.run(["umount", str(place)], capture_output=True, check=False)
        place.rmdir()


@fault("disk-full", "the tablespace of two tables full (53100) for 30 s: a small tmpfs")
async def disk_full(world: World) -> None:
    space = f"small_{world.suffix}"
    with small_disk(48) as place:
        await world.server_sql(f"CREATE TABLESPACE {space} LOCATION '{place}'")
        try:
            for table in ("test_plain", "fault_heads"):
                await world.sql(f"ALTER TABLE {table} SET TABLESPACE {space}")
            await world.sql(f"CREATE TABLE filler (line text) TABLESPACE {space}")
            await world.sql("ALTER TABLE filler ALTER line SET STORAGE EXTERNAL")  # as large as it looks
            await _fill(world)
            said = await world.said(world.service, "can't write")
            assert "53100" in said["reason"], said["reason"]
            await world.lasting(30)
            await world.flows(100, topics.FIRST)  # the other topics' tables are elsewhere
            await world.sql("DROP TABLE filler")
            world.over()
            await world.settle()
        finally:
            for table in ("test_plain", "fault_heads"):
                await world.sql(f"ALTER TABLE {table} SET TABLESPACE pg_default")
            await world.sql("DROP TABLE IF EXISTS filler")
            await world.server_sql(f"DROP TABLESPACE {space}")


async def _fill(world: World) -> None:
    """Fills the small disk in ever smaller steps, to the last page."""
    for rows in (2_000, 200, 20, 1):
        while True:
            try:
                await world.sql(
                    "INSERT INTO filler SELECT repeat(md5(n::text), 230) FROM generate_series(1, $1::int) n", rows
                )
            except Exception as error:  # the server's DiskFullError, by its code
                if getattr(error, "sqlstate", None) != "53100":
                    raise
                break
