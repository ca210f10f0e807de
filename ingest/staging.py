"""Rows on their way through a temporary table: COPY brings them there, one INSERT … SELECT from there to their table.

Promise kept here: it is counted truly which rows changed the table; the server says so for each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Table,
    case,
    cast,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from ingest.copying import DIALECT, copy_rows
from ingest.searching import AT, HIGH, LOW, Refusal, Search

log = structlog.get_logger(__name__)

ORDINAL = "ingest_ordinal"
"""Where a row stands among those of its batch, from 0."""
_MAY_CREATE = select(func.has_database_privilege(func.current_database(), "TEMPORARY"))


class Staging:
    """The temporary table of one table and its columns, and the statements that empty it into that.

    It lasts as long as the connection, and is empty after each transaction.
    """

    def __init__(
        self,
        table: Table,
        columns: dict[str, TypeEngine[Any]],
        key: Sequence[str],
        *,
        value: Callable[[str, ColumnElement[Any]], ColumnElement[Any]],
        with_rule: Callable[[Insert], Insert],
    ) -> None:
        """``columns`` has the type in which each travels; ``value`` makes what is stored of what was staged, and
        ``with_rule`` adds the conflict rule."""
        self._table = table.fullname
        self._missed = False
        self._columns = (ORDINAL, *columns)
        described = ", ".join(f"{name} {kind.compile(dialect=DIALECT)}" for name, kind in columns.items())
        # Another name for other columns: a connection may outlive the table that it staged for.
        name = f"ingest_staging_{zlib.crc32(f'{table.fullname}: {described}'.encode()):08x}"
        self._staged = Table(
            name,
            MetaData(),
            Column(ORDINAL, Integer, primary_key=True, autoincrement=False),
            *(Column(name, kind) for name, kind in columns.items()),
            schema="pg_temp",
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DELETE ROWS",
        )
        self._create = CreateTable(self._staged, if_not_exists=True)
        self._clear = delete(self._staged)
        staged = self._staged.c
        values = [
            value(name, staged[name] if kind is table.c[name].type else cast(staged[name], table.c[name].type))
            for name, kind in columns.items()
        ]
        ordinal = staged[ORDINAL]

        def build(
            result: ColumnElement[Any], values: Sequence[ColumnElement[Any]], *among: ColumnElement[bool]
        ) -> Executable:
            rows = select(*values).where(*among).order_by(ordinal)
            statement = with_rule(insert(table).from_select(list(columns), rows))
            if not key:
                return statement
            changed = statement.returning(*(table.c[name] for name in key)).cte("changed")
            same = [changed.c[name] == staged[name] for name in key]
            return select(result).where(~exists(select(text("1")).select_from(changed).where(*same)), *among)

        self._insert = build(ordinal, values)
        counted = case((func.nextval(literal_column(f"'{AT}'")) > 0, values[0]))
        some = build(
            func.array_agg(ordinal),
            [counted, *values[1:]],
            ordinal >= literal_column(LOW),
            ordinal < literal_column(HIGH),
        )
        self._search = Search(staged=self._staged.fullname, insert=_text(some))

    async def allowed(self, connection: AsyncConnection) -> bool:
        """Whether the role may make temporary tables in this database just now."""
        allowed = bool(await connection.scalar(_MAY_CREATE))
        if not allowed and not self._missed:
            log.warning("temporary tables are not allowed; many rows take longer", table=self._table)
        self._missed = not allowed
        return allowed

    async def prepare(self, connection: AsyncConnection) -> None:
        """Makes the table where this connection has none. Best outside a savepoint that may be rolled back."""
        await connection.execute(self._create)

    async def fill(self, connection: AsyncConnection, rows: Iterable[Sequence[Any]]) -> None:
        """Brings rows into the table, in place of what this transaction left there. They begin with their ordinals."""
        await connection.execute(self._create)
        await connection.execute(self._clear)
        await copy_rows(connection, self._staged, self._columns, rows)

    async def insert(self, connection: AsyncConnection) -> list[int]:
        """From there to their table, in the order of ordinals; returns the ordinals of rows that changed nothing."""
        found = await connection.execute(self._insert)
        return [ordinal for (ordinal,) in found] if found.returns_rows else []

    async def search(self, connection: AsyncConnection, *, suspects: bool = False) -> dict[int, Refusal | None]:
        """The same, after it was refused, or with rows that will be (``suspects``): what can be inserted is. Returns
        the ordinals of the others, each with the reason, or None where it changed nothing."""
        return await self._search.run(connection, suspects=suspects)


def _text(statement: Any) -> str:
    return str(statement.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))
