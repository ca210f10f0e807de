"""TimescaleDB for the tests: it is the real one, each test's own, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.local.errors import LocalStackError
from ingest.local.postgres import answers, query
from ingest.local.waiting import wait_for
from tests.local.test_owner import gone
from tests.support.timescale import GIVEN, LOCK, WasmTimescale, installed, running_timescale


def quiet(_: str) -> None:
    """Nobody listens."""


@pytest.mark.parametrize("run", [1, 2])
def test_a_hypertable_can_be_made_and_the_next_test_does_not_see_it(timescale_url: str, run: int) -> None:
    query(timescale_url, "CREATE TABLE readings (time timestamptz NOT NULL, value int)")
    query(timescale_url, "SELECT create_hypertable('readings', by_range('time'))")
    query(timescale_url, "INSERT INTO readings VALUES ('2026-01-01', 1), ('2026-03-01', 2)")
    (row,) = query(timescale_url, "SELECT count(*) AS chunks FROM timescaledb_information.chunks")
    assert row["chunks"] == 2


@pytest.mark.parametrize("run", [1, 2])
def test_no_job_or_aggregate_of_another_test_is_there(timescale_url: str, run: int) -> None:
    query(timescale_url, "CREATE TABLE readings (time timestamptz NOT NULL, value int)")
    query(timescale_url, "SELECT create_hypertable('readings', by_range('time'))")
    query(
        timescale_url,
        "CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous) AS "
        "SELECT time_bucket('1 day', time) AS day, sum(value) FROM readings GROUP BY 1 WITH NO DATA",
    )
    query(timescale_url, "SELECT add_retention_policy('readings', interval '30 days')")
    (row,) = query(
        timescale_url,
        "SELECT (SELECT count(*) FROM timescaledb_information.continuous_aggregates) AS aggregates, "
        "(SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_name = 'readings') AS jobs",
    )
    assert (row["aggregates"], row["jobs"]) == (1, 1)


async def test_the_services_engine_works_on_the_migrated_schema(timescale_engine: AsyncEngine) -> None:
    async with timescale_engine.begin() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM ingest_offsets")) == 0
        assert await connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_an_interrupted_transaction_blocks_nobody(timescale_url: str) -> None:
    """Its client is gone without a word; the one backend must be free again, with nothing of it."""
    program = (
        "import asyncio, asyncpg, os, sys\n"
        "async def main():\n"
        "    connection = await asyncpg.connect(sys.argv[1])\n"
        "    await connection.execute('BEGIN; CREATE TABLE halfway (id int)')\n"
        "    os._exit(3)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, timescale_url], timeout=60, check=False)
    assert done.returncode == 3
    (row,) = query(timescale_url, "SELECT to_regclass('halfway') AS found")
    assert row["found"] is None


@asynccontextmanager
async def clients(url: str, count: int = 1) -> AsyncIterator[list[asyncpg.Connection]]:
    """Connections that rather fail than wait for ever."""
    connections = [await asyncpg.connect(url, command_timeout=20) for _ in range(count)]
    yield connections
    for connection in connections:
        connection.terminate()


async def test_clients_that_only_prepared_something_block_nobody(timescale_url: str) -> None:
    """And they may give it one name."""
    async with clients(timescale_url, 2) as (one, other):
        statement = await one.prepare("SELECT 1", name="same")
        assert await (await other.prepare("SELECT 2", name="same")).fetchval() == 2
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await other.prepare("SELECT FROM WHERE")
        assert await statement.fetchval() == 1


async def test_rows_can_be_copied(timescale_url: str) -> None:
    async with clients(timescale_url) as (client,):
        await client.execute("CREATE TABLE copied (id int, word text)")
        rows = [(number, f"word {number}") for number in range(5000)]
        await client.copy_records_to_table("copied", records=rows)
        assert [tuple(row) for row in await client.fetch("SELECT * FROM copied ORDER BY id")] == rows
        with pytest.raises(asyncpg.PostgresError):
            await client.copy_records_to_table("copied", records=[(1, "unknown column")], columns=["id", "wrong"])
        assert await client.fetchval("SELECT count(*) FROM copied") == len(rows)


async def test_a_waiting_client_is_served_when_the_transaction_ends(timescale_url: str) -> None:
    async with clients(timescale_url, 2) as (one, other):
        transaction = one.transaction()
        await transaction.start()
        await one.execute("CREATE TABLE seen (id int)")
        asking = asyncio.create_task(other.fetchval("SELECT to_regclass('seen')::text"))
        with pytest.raises(asyncpg.DivisionByZeroError):
            await one.execute("SELECT 1 / 0")
        assert not asking.done()
        await transaction.rollback()
        assert await asking is None


async def test_a_reset_connection_finds_its_tables(timescale_url: str) -> None:
    async with clients(timescale_url) as (client,):
        await client.execute("CREATE TABLE found (id int)")
        await client.execute("SET search_path = pg_catalog")
        await client.execute("RESET ALL")
        assert await client.fetchval("SELECT to_regclass('found')::text") == "found"


def test_a_template_keeps_what_was_prepared(tmp_path: Path) -> None:
    with running_timescale(tmp_path, say=quiet, environ={}) as timescale:
        timescale.add_template("prepared", lambda url: query(url, "CREATE TABLE prepared (id int)"))
        with timescale.database("prepared") as url:
            query(url, "INSERT INTO prepared VALUES (1)")
        with timescale.database("prepared") as url:
            assert query(url, "SELECT * FROM prepared") == []
        with timescale.database("empty") as url:
            assert query(url, "SELECT to_regclass('prepared') AS found")[0]["found"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_gone_with_its_test(tmp_path: Path) -> None:
    with running_timescale(tmp_path, say=quiet, environ={}) as timescale:
        with timescale.database("empty") as url:
            assert answers(url)
        assert not answers(url)


def test_it_ends_with_a_killed_owner(tmp_path: Path) -> None:
    """Not even SIGKILL of the tests leaves a server behind."""
    program = (
        "import json, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.support.timescale import running_timescale\n"
        "with running_timescale(Path(sys.argv[1]), say=lambda _: None, environ={}) as timescale:\n"
        "    with timescale._served('empty') as (server, _):\n"
        "        print(json.dumps(server.pid), flush=True)\n"
        "        signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        try:
            assert owner.stdout is not None
            server = json.loads(owner.stdout.readline())
            assert not gone(server)
        finally:
            os.kill(owner.pid, signal.SIGKILL)
    assert wait_for(lambda: gone(server), deadline_s=30)


def test_it_is_installed_once_and_then_found(tmp_path: Path) -> None:
    """Also by two processes at once: here two threads, which the file's lock keeps apart as well."""
    said: list[str] = []
    with ThreadPoolExecutor(max_workers=2) as threads:
        found = list(threads.map(lambda _: installed(say=said.append, cache=tmp_path), range(2)))
    assert found[0] == found[1]
    assert (found[0] / "node_modules/@electric-sql/pglite/package.json").is_file()
    assert len(said) == 1
    assert installed(say=said.append, cache=tmp_path) == found[0]
    assert len(said) == 1
    assert not list(tmp_path.glob("*.partial"))


def test_another_package_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    lock = json.loads(LOCK.read_text())
    package = lock["packages"]["node_modules/@electric-sql/pglite"]
    package["integrity"] = "sha512-" + "A" * 86 + "=="
    forged = tmp_path / LOCK.name
    forged.write_text(json.dumps(lock))
    (tmp_path / "package.json").write_text(LOCK.with_name("package.json").read_text())
    with pytest.raises(LocalStackError, match="EINTEGRITY"):
        installed(say=quiet, cache=tmp_path / "cache", lock=forged)
    assert not list((tmp_path / "cache").glob("timescale-wasm-*"))


def test_the_lock_file_says_what_not_from_where() -> None:
    """npm writes the address of the registry that it used into its lock file."""
    lock = LOCK.read_text()
    assert "resolved" not in lock
    assert "://" not in lock


def test_a_given_server_without_the_extension_is_refused(tmp_path: Path, empty_database_url: str) -> None:
    with (
        pytest.raises(LocalStackError, match=f"{GIVEN} names has no extension timescaledb"),
        running_timescale(tmp_path, say=quiet, environ={GIVEN: empty_database_url}),
    ):
        pass


def test_a_server_that_ends_at_its_start_says_why(tmp_path: Path) -> None:
    timescale = WasmTimescale(tmp_path, say=quiet)
    (tmp_path / "program" / "wire.mjs").write_text("throw new Error('not today')")
    with pytest.raises(LocalStackError, match="not today"):
        timescale.add_template("prepared", lambda _: None)
