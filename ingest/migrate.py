"""What an Alembic ``env.py`` needs: one upgrade at a time, a bounded wait for the database, the right tables.

``migrations/env.py`` of this project and of every package with topics of its own calls :func:`run_migrations`:

>>> run_migrations(context, [my_metadata], version_table="acme_alembic_version")  # doctest: +SKIP

It is async because the engine is; Alembic itself runs inside ``run_sync``.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)
from tenacity.retry import retry_base

from ingest.database import Failure, classify, create_plain_engine, describe, sqlstate_of
from ingest.errors import FatalError, IngestError
from ingest.settings import DatabaseSettings, SchemaSettings, load_section
from ingest.timescale import capability, object_filter

DATABASE_WAIT_S = 60
"""How long a database that isn't there yet is waited for."""
LOCK_WAIT_S = 300
"""How long another upgrade is waited for."""
LOCK_TIMEOUT = "10s"
"""A statement that waits longer for a table's lock gives up, rather than make every writer queue behind it."""
CLIENT_CHECK_INTERVAL = "2s"
"""How often the server looks whether the client of a running statement is still there."""

SHOWN_OF_A_STATEMENT = 200
"""Characters; enough to find it in the revision."""
STOPPED = (
    "stopped before it was done. What had not been committed was taken back; run it again. A refresh commits what "
    "comes before it in its revision: see docs/timescale.md, if it was one"
)
LOCKED = "55P03"
"""SQLSTATE of a lock that was not to be had within ``LOCK_TIMEOUT``."""

Context: TypeAlias = Any
"""``alembic.context``: a module that stands for the running ``EnvironmentContext``, without types."""


def run_migrations(context: Context, metadata: Sequence[MetaData], *, version_table: str = "alembic_version") -> None:
    """Runs the Alembic command at hand against ``LOOM_MIGRATION_DATABASE_URL``, or ``LOOM_DATABASE_URL``.

    Tables outside ``metadata`` are none of its business: autogenerate does not propose to drop them. What the tables
    declare for TimescaleDB is kept as ``LOOM_TIMESCALE`` says. Raises alembic's CommandError with one line for a
    person.
    """
    own = {table.name for each in metadata for table in each.tables.values()}

    def include_name(name: str | None, kind: str, parents: Any) -> bool:
        return name in own if kind == "table" else True

    options: dict[str, Any] = {
        "target_metadata": list(metadata),
        "version_table": version_table,
        "include_name": include_name,
        "include_object": object_filter(metadata),
        "compare_type": True,
        "compare_server_default": True,
        "transaction_per_migration": True,
    }
    try:
        options[capability.OPTION] = load_section(SchemaSettings).timescale
        if context.is_offline_mode():
            # Its driver's own style of parameters would double every percent sign.
            context.configure(
                dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, literal_binds=True, **options
            )
            with context.begin_transaction():
                context.run_migrations()
            return
        settings = load_section(DatabaseSettings)
        url = (settings.migration_url or settings.url).get_secret_value()
        asyncio.run(_run(context, url, version_table, options))
    except IngestError as error:
        raise CommandError(str(error)) from error  # which Alembic's command line prints as one line
    except DBAPIError as error:
        raise CommandError(_failure(error)) from error
    except KeyboardInterrupt as error:  # before there was an event loop to hear it
        raise CommandError(STOPPED) from error


@asynccontextmanager
async def migrating(url: str, version_table: str = "alembic_version") -> AsyncIterator[AsyncConnection]:
    """A connection on which the schema may be changed, while nobody else does. SIGTERM cancels the task.

    Raises FatalError; also when the task is cancelled.
    """
    task = asyncio.current_task()
    assert task is not None
    with _sigterm_cancels(task):
        try:
            async with _alone(url, version_table) as connection:
                yield connection
        except (Exception, asyncio.CancelledError) as error:
            if task.cancelling():
                raise FatalError(STOPPED) from error
            if isinstance(error, PendingRollbackError) and isinstance(error.__context__, DBAPIError):
                # Leaving a block of autocommit, Alembic fails on the lost connection and hides why it was lost.
                raise error.__context__ from None
            raise


@asynccontextmanager
async def _alone(url: str, version_table: str) -> AsyncIterator[AsyncConnection]:
    """A connection that holds the lock of migrations."""
    engine = create_plain_engine(url, application_name="loom-ingest-migrations")
    try:
        connection = await _connect(engine)
        try:
            # On the connection that does the work: a statement that outlives its client keeps the next upgrade out.
            await _lock(connection, version_table)
            await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            await _end_with_the_client(connection)
            await connection.commit()
            yield connection
        finally:
            await connection.close()
    finally:
        await engine.dispose()


@contextmanager
def _sigterm_cancels(task: asyncio.Task[Any]) -> Iterator[None]:
    """The first process of a container has no default for it, and would be killed in the middle of a statement."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


def _failure(error: DBAPIError) -> str:
    """One line about a statement of a revision that failed."""
    statement = " ".join((error.statement or "").split())
    if len(statement) > SHOWN_OF_A_STATEMENT:
        statement = statement[:SHOWN_OF_A_STATEMENT] + " …"
    hint = f"; somebody has held the lock for {LOCK_TIMEOUT}: run it again" if sqlstate_of(error) == LOCKED else ""
    return f"database: {describe(error)}{hint}" + (f"; in: {statement}" if statement else "")


async def _run(context: Context, url: str, version_table: str, options: dict[str, Any]) -> None:
    async with migrating(url, version_table) as connection:
        await connection.run_sync(_migrate, context, options)
        await connection.commit()


def _migrate(connection: Connection, context: Context, options: dict[str, Any]) -> None:
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    """A connection, waiting a bounded time for a database that is only starting."""

    async def connect() -> AsyncConnection:
        return await engine.connect()

    try:
        return await _waiting(DATABASE_WAIT_S, retry_if_exception(lambda error: classify(error) is Failure.TRANSIENT))(
            connect
        )
    except Exception as error:
        raise FatalError(f"database: {describe(error)}; is LOOM_DATABASE_URL right?") from error


async def _end_with_the_client(connection: AsyncConnection) -> None:
    """Lets the server end a statement soon after its client was killed, instead of when it is done."""
    with suppress(DBAPIError):  # before PostgreSQL 14, and on platforms that can't tell
        async with connection.begin_nested():
            await connection.execute(text(f"SET client_connection_check_interval = '{CLIENT_CHECK_INTERVAL}'"))


async def _lock(connection: AsyncConnection, version_table: str) -> None:
    """One upgrade at a time. Polls: a lock that blocks would deadlock with the building of indexes concurrently,
    which waits for every transaction that is older, this one's included."""
    key = zlib.crc32(f"loom-ingest migrations {version_table}".encode())

    async def attempt() -> bool:
        got = await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
        await connection.commit()
        return bool(got)

    got: bool = await _waiting(LOCK_WAIT_S, retry_if_result(lambda got: not got), give_up=lambda _: False)(attempt)
    if not got:
        raise FatalError(
            f"another upgrade has held the migration lock for {LOCK_WAIT_S} s; see pg_stat_activity for "
            "application_name loom-ingest-migrations"
        )


def _waiting(
    seconds: float, retry: retry_base, give_up: Callable[[RetryCallState], Any] | None = None
) -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry,
        wait=wait_fixed(0.5),
        stop=stop_after_delay(seconds),
        retry_error_callback=give_up,
        reraise=True,
    )
