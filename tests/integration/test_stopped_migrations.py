"""An upgrade that is stopped, killed, or fails says so in one line, and is not in the way of the next."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.errors import FatalError
from ingest.local.postgres import query
from ingest.local.waiting import wait_for
from ingest.migrate import migrating
from tests.support.database import ROOT, alembic

SLEEP = "SELECT pg_sleep(300)"
SLOW = (
    "CREATE FUNCTION dawdle() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(300); END'",
    "CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION dawdle()",
)
AT_WORK = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'loom-ingest-migrations' AND datname = current_database()
"""
ASLEEP = f"{AT_WORK} AND wait_event = 'PgSleep'"
VERSION = "SELECT version_num FROM alembic_version"
STOPS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])

ENV = """
from alembic import context
from sqlalchemy import MetaData
from ingest.migrate import run_migrations

run_migrations(context, [MetaData()])
"""
REVISION = """
from alembic import op

revision = "aaaa"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE before ()")
    with op.get_context().autocommit_block():
        op.execute({statement!r})


def downgrade() -> None:
    op.drop_table("before")
"""


def config_of(directory: Path, statement: str) -> Path:
    """A package with one revision, which executes a statement outside its transaction, as a refresh is."""
    versions = directory / "migrations" / "versions"
    versions.mkdir(parents=True)
    (directory / "migrations" / "env.py").write_text(ENV)
    (versions / "aaaa.py").write_text(REVISION.format(statement=statement))
    config = directory / "alembic.ini"
    config.write_text(f"[alembic]\nscript_location = {directory}/migrations\npath_separator = os\n")
    return config


@contextmanager
def started(url: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command of Python's ``-m``, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, "LOOM_DATABASE_URL": url, "LOOM_TIMESCALE": "auto"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def asleep(url: str, config: Path = ROOT / "alembic.ini") -> Iterator[subprocess.Popen[str]]:
    """An upgrade that has come to a statement of five minutes."""
    with started(url, "alembic", "-c", str(config), "upgrade", "head") as upgrade:
        assert wait_for(lambda: bool(query(url, ASLEEP)), deadline_s=60)
        yield upgrade


@contextmanager
def in_a_slow_statement(url: str) -> Iterator[subprocess.Popen[str]]:
    """:func:`asleep` within a revision of the service, in its transaction."""
    for statement in SLOW:
        query(url, statement)
    with asleep(url) as upgrade:
        yield upgrade


def test_an_upgrade_that_was_killed_is_not_in_the_way_of_the_next(empty_database_url: str) -> None:
    url = empty_database_url
    with in_a_slow_statement(url) as upgrade:
        upgrade.kill()
        # Its server would go on for five minutes, with all locks.
        assert wait_for(lambda: not query(url, AT_WORK), deadline_s=60)
    query(url, "DROP EVENT TRIGGER slow")
    alembic(url, "upgrade", "head")


def test_no_other_upgrade_begins_while_a_statement_of_one_that_was_killed_runs(empty_database_url: str) -> None:
    url = empty_database_url
    with in_a_slow_statement(url):
        held = query(
            url,
            "SELECT wait_event FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND datname = current_database()",
        )
    assert held == [("PgSleep",)], "the session that works is to hold the lock"


@STOPS
def test_an_upgrade_that_is_asked_to_stop_takes_its_revision_back_and_says_so(
    empty_database_url: str, number: signal.Signals
) -> None:
    url = empty_database_url
    alembic(url, "upgrade", "+2")
    with in_a_slow_statement(url) as upgrade:
        before = query(url, VERSION)
        upgrade.send_signal(number)
        said, _ = upgrade.communicate(timeout=60)
        assert upgrade.returncode not in (0, -number)
    assert "stopped before it was done" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert wait_for(lambda: not query(url, AT_WORK), deadline_s=60)
    assert query(url, VERSION) == before
    query(url, "DROP EVENT TRIGGER slow")
    alembic(url, "upgrade", "head")


@STOPS
def test_a_stop_outside_the_transaction_is_one_line_too_and_says_what_stays(
    empty_database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    url = empty_database_url
    with asleep(url, config_of(tmp_path, SLEEP)) as upgrade:
        upgrade.send_signal(number)
        said, _ = upgrade.communicate(timeout=60)
        assert upgrade.returncode not in (0, -number)
    assert "A refresh commits what comes before it" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert query(url, "SELECT to_regclass('before')") == [("before",)]
    assert query(url, VERSION) == []


def test_a_connection_that_is_lost_outside_the_transaction_is_named_as_the_cause(
    empty_database_url: str, tmp_path: Path
) -> None:
    url = empty_database_url
    with asleep(url, config_of(tmp_path, SLEEP)) as upgrade:
        query(url, f"SELECT pg_terminate_backend(pid) FROM ({ASLEEP}) AS asleep")  # noqa: S608 - constants
        said, _ = upgrade.communicate(timeout=60)
        assert upgrade.returncode not in (0, None)
    assert "terminating connection due to administrator command" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_statement_that_fails_is_told_in_one_line_with_its_beginning(empty_database_url: str, tmp_path: Path) -> None:
    said = alembic(empty_database_url, "upgrade", "head", config=config_of(tmp_path, "DROP TABLE absent"), check=False)
    last = said.splitlines()[-1]
    assert 'table "absent" does not exist (SQLSTATE 42P01); in: DROP TABLE absent' in last
    assert "Traceback" not in said


@STOPS
def test_adopt_that_waits_for_an_upgrade_ends_when_it_is_asked_to(
    empty_database_url: str, number: signal.Signals
) -> None:
    url = empty_database_url
    with in_a_slow_statement(url), started(url, "ingest", "timescale", "adopt") as adopt:
        assert wait_for(lambda: len(query(url, AT_WORK)) == 2, deadline_s=60)
        adopt.send_signal(number)
        said, _ = adopt.communicate(timeout=60)
        assert adopt.returncode not in (0, -number)
    assert "stopped before it was done" in said.splitlines()[-1]
    assert "Traceback" not in said


async def test_work_that_is_stopped_outside_a_transaction_ends_with_an_error_for_a_person(
    empty_database_url: str,
) -> None:
    """As a refresh of ``ingest timescale adopt`` is."""

    def sleep(connection: Connection) -> None:
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        with context.begin_transaction(_per_migration=True), context.autocommit_block():
            connection.execute(text(SLEEP))

    async def work() -> None:
        async with migrating(empty_database_url) as connection:
            await connection.run_sync(sleep)

    before = signal.getsignal(signal.SIGTERM)
    task = asyncio.create_task(work())
    is_asleep = asyncio.to_thread(wait_for, lambda: bool(query(empty_database_url, ASLEEP)), deadline_s=60)
    assert await is_asleep
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(FatalError, match="stopped before it was done"):
        await task
    assert signal.getsignal(signal.SIGTERM) == before


async def test_a_stop_while_the_connections_are_closed_ends_so_too(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(_: AsyncEngine) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    async def work() -> None:
        async with migrating(empty_database_url):
            monkeypatch.setattr(AsyncEngine, "dispose", stopped)

    with pytest.raises(FatalError, match="stopped before it was done"):
        await asyncio.create_task(work())
