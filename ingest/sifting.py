"""Which rows of a batch a CHECK constraint will refuse, asked of the server before they are sent.

Only the columns of constraints that refused a row lately are sent for it. The answer is where to look, no more: a row
that is named is tried by itself before it counts as refused, and what was missed is found as without the question. So
a trigger that mends a row, or a constraint that was dropped meanwhile, costs time and never a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import ARRAY, TypeEngine

from ingest.copying import DIALECT
from ingest.database import Failure, classify, constraint_of, describe, sqlstate_of

log = structlog.get_logger(__name__)

REMEMBERED_BATCHES = 50
"""How many batches without a suspect a constraint is asked about after it refused a row."""
_CHECK_VIOLATION = "23514"
_CONDITION = text("""
    SELECT pg_get_expr(conbin, conrelid), ARRAY(
        SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)
    )
    FROM pg_constraint
    WHERE conrelid = to_regclass(:table) AND conname = :name AND contype = 'c'
""")


class Sieve:
    """The CHECK constraints of one table that refused a row lately."""

    def __init__(self, table: Table, columns: dict[str, TypeEngine[Any]], places: dict[str, int]) -> None:
        """``columns`` has the type in which each is sent, ``places`` where it stands in a row. Columns that are not
        among them, or that travel as another type than the table's or as an array, can't be asked about: ``unnest``
        would flatten the arrays."""
        self._table = DIALECT.identifier_preparer.format_table(table)
        self._types = {
            name: kind.compile(dialect=DIALECT)
            for name, kind in columns.items()
            if kind is table.c[name].type and not isinstance(kind, ARRAY)
        }
        self._places = places
        self._known: dict[str, tuple[str, Sequence[str]]] = {}
        """Constraint → its condition as SQL, and the columns that this names."""
        self._not_asked: set[str] = set()
        """Constraints whose question failed, or that no question can be made of."""
        self._statement = ""
        self._columns: list[str] = []
        self._batches = 0
        """For how many more batches without a suspect they are asked about."""

    @property
    def asks(self) -> bool:
        """Whether it asks about any constraint just now."""
        return self._batches > 0

    async def learn(self, connection: AsyncConnection, error: BaseException) -> bool:
        """Remembers the constraint that refused a row; whether it is a new one, and can be asked about."""
        name = constraint_of(error)
        if sqlstate_of(error) != _CHECK_VIOLATION or name is None or name in self._known or name in self._not_asked:
            return False
        try:
            async with connection.begin_nested():
                found = (await connection.execute(_CONDITION, {"table": self._table, "name": name})).one_or_none()
        except Exception as failed:  # noqa: BLE001 - a hint is no reason to stop; what is transient is raised again
            self._give_up({name}, failed)
            return False
        if found is None or not found[1] or not set(found[1]) <= set(self._types):
            self._not_asked.add(name)
            return False
        self._known[name] = (found[0], found[1])
        self._columns = sorted({column for _, columns in self._known.values() for column in columns})
        self._statement = self._build()
        self._batches = REMEMBERED_BATCHES
        return True

    async def suspects(self, connection: AsyncConnection, rows: Sequence[Sequence[Any]]) -> list[int]:
        """The indexes of rows that a known constraint will refuse, in their order; none if it can't be told. To be
        asked while :attr:`asks`."""
        values = tuple([row[self._places[name]] for row in rows] for name in self._columns)
        try:
            async with connection.begin_nested():
                found = await connection.exec_driver_sql(self._statement, values)
                suspects = [ordinal - 1 for (ordinal,) in found]
        except Exception as error:  # noqa: BLE001 - the same
            self._give_up(set(self._known), error)
            self._known.clear()
            self._batches = 0
            return []
        self._batches = REMEMBERED_BATCHES if suspects else self._batches - 1
        if not self._batches:
            self._known.clear()
        return suspects

    def _give_up(self, names: set[str], error: Exception) -> None:
        """Asks about these constraints no more. Raises the error if it tells nothing of them."""
        if classify(error) is Failure.TRANSIENT:
            raise error
        self._not_asked |= names
        log.info(
            "a CHECK can't be asked about; what it refuses is searched for",
            table=self._table,
            constraints=sorted(names),
            reason=describe(error),
        )

    def _build(self) -> str:
        quoted = DIALECT.identifier_preparer.quote
        arrays = ", ".join(f"${place}::{self._types[name]}[]" for place, name in enumerate(self._columns, 1))
        names = ", ".join(map(quoted, self._columns))
        refused = " OR ".join(f"({condition}) IS FALSE" for condition, _ in self._known.values())
        # The names and conditions are those of the catalog; values go as parameters.
        return (
            f"SELECT ingest_ordinal FROM unnest({arrays}) WITH ORDINALITY AS ingest_sent ({names}, ingest_ordinal) "  # noqa: S608
            f"WHERE {refused} ORDER BY ingest_ordinal"
        )
