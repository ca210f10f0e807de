"""COPY through the driver: the fast way of many rows, inside the transaction that SQLAlchemy has begun.

Promise kept here: a failure is told apart as on every other way. The driver's own errors come out, a lost connection is
given up, and what can't be encoded is :class:`NotEncodedError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import ARRAY, REAL, Boolean, LargeBinary, Table
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from ingest.database import COMMAND_TIMEOUT_S, describe
from ingest.errors import RecordError, TransientError

# SQLAlchemy's dialects have no types.
DIALECT: Any = PGDialect_asyncpg(dbapi=PGDialect_asyncpg.import_dbapi())  # type: ignore[no-untyped-call]


class NotEncodedError(RecordError):
    """The driver can't send a value of some row, or any of a column. Which, only another way tells."""


# fmt: off
_BINARY = frozenset((
    "BIGINT", "BOOLEAN", "BYTEA", "CHAR", "DATE", "DOUBLE", "FLOAT", "INTEGER", "INTERVAL", "JSON",
    "JSONB", "NUMERIC", "REAL", "SMALLINT", "TEXT", "TIME", "TIMESTAMP", "UUID", "VARCHAR",
))
# fmt: on
"""First words of the types that the driver sends in binary by itself. Those of extensions it knows as text only."""


def travels_as(kind: TypeEngine[Any]) -> TypeEngine[Any] | None:
    """The type in which COPY can send a column's values as they are: its own where the driver knows it by itself,
    ``real[]`` for a vector, which PostgreSQL turns into one. None where only SQLAlchemy knows how to send them."""
    if isinstance(kind, VECTOR):
        return ARRAY(REAL)
    plain = kind.item_type if isinstance(kind, ARRAY) else kind
    if kind._has_bind_expression or plain._has_bind_expression:
        return None  # SQL around the parameter
    if plain.compile(dialect=DIALECT).replace("(", " ").split()[0] not in _BINARY:
        return None
    if isinstance(kind, JSON):
        return kind if kind.none_as_null else None  # it is JsonText, which is encoded already
    if isinstance(kind, Boolean | LargeBinary):
        return kind  # SQLAlchemy has something to do for other drivers only
    return kind if plain.dialect_impl(DIALECT).bind_processor(DIALECT) is None else None


async def copy_rows(
    connection: AsyncConnection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> int:
    """Sends rows by binary COPY; returns how many the server says it took.

    A statement of the transaction must have been executed before: SQLAlchemy begins it with the first, and a COPY that
    came sooner would commit by itself.

    Raises NotEncodedError, TransientError for a connection that is closed, and what the driver and the server raise.
    """
    driver: Any = (await connection.get_raw_connection()).driver_connection
    assert driver.is_in_transaction()
    loop = asyncio.get_running_loop()
    try:
        # The driver itself waits for ever where the connection is lost while the socket takes no more.
        async with asyncio.timeout(COMMAND_TIMEOUT_S) as limit:

            def end_now(_: Any) -> None:
                limit.reschedule(loop.time())

            driver.add_termination_listener(end_now)
            try:
                status: str = await driver.copy_records_to_table(
                    table.name, schema_name=table.schema, columns=columns, records=rows
                )
            finally:
                driver.remove_termination_listener(end_now)
    except Exception as error:
        lost = driver.is_closed()
        if lost or isinstance(error, TimeoutError):
            # What doesn't answer now won't answer to a ROLLBACK.
            await connection.invalidate(error)
        if lost:
            raise TransientError(f"the connection was lost: {describe(error)}") from error
        if _comes_from_a_value(error):
            raise NotEncodedError(str(error)) from error
        raise
    return int(status.removeprefix("COPY "))


def _comes_from_a_value(error: Exception) -> bool:
    """Whether a codec raised it: whatever Python raises where a value is not what the column's type needs, or the
    driver, which knows no binary form of that type."""
    if isinstance(error, asyncpg.PostgresError | OSError | AssertionError):
        return False
    return isinstance(error, ValueError) or not isinstance(error, asyncpg.InterfaceError)
