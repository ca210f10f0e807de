"""The statements that put rows into one table, built once from its declaration and its conflict rule.

SQLAlchemy compiles each once and caches it; a batch is sent as ``INSERT … VALUES`` of up to 1,000 rows at a time
("insertmanyvalues"), whatever the number of bind parameters, and ``RETURNING`` tells truly which keys it changed.

Promise kept here: an older message never overwrites a newer row.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, literal_column, or_
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.base import Executable

from ingest.records import Row
from ingest.topics import FirstWins, LastWins, Topic, Write
from ingest.topics.topic import MESSAGE_TIMESTAMP


class TableWriter:
    """Writes rows of one table and says which of them changed it."""

    def __init__(self, topic: Topic, write: Write) -> None:
        self.table = write.table
        self._rule = write.rule
        self._columns = tuple(topic.columns_of(write))
        self._key = () if not isinstance(write.rule, FirstWins | LastWins) else write.rule.key
        self._key_of = itemgetter(*self._key) if self._key else None
        self._statement = self._build()

    async def write(self, connection: AsyncConnection, rows: list[Row]) -> list[bool]:
        """Inserts or updates; for each row, in the order given, whether it changed the table.

        A key that occurs twice is resolved before: the result is as if the rows had been written one by one, and of
        equal keys only the one that prevails has changed anything. Rows go in key order, so that two writers of the
        same keys don't deadlock.
        """
        if self._key_of is None:
            await connection.execute(self._statement, rows)
            return [True] * len(rows)
        prevailing = self._resolve(rows)
        in_order = [row for _, (_, row) in sorted(prevailing.items(), key=itemgetter(0))]
        changed = {_hashable(key) for key in await connection.execute(self._statement, in_order)}
        result = [False] * len(rows)
        for key, (position, _) in prevailing.items():
            result[position] = key in changed
        return result

    def _resolve(self, rows: list[Row]) -> dict[Any, tuple[int, Row]]:
        """Key → position of the row that prevails, and the row to be written."""
        assert self._key_of is not None
        prevailing: dict[Any, tuple[int, Row]] = {}
        rule = self._rule
        for position, row in enumerate(rows):
            key = self._key_of(row)
            known = prevailing.get(key)
            if known is None:
                prevailing[key] = (position, row)
            elif isinstance(rule, LastWins) and self._prevails(row, known[1], rule):
                # The key's first message brought the other columns, as it would have without a batch.
                merged = known[1] | {name: row[name] for name in (*rule.update, MESSAGE_TIMESTAMP)}
                prevailing[key] = (position, merged)
        return prevailing

    def _prevails(self, row: Row, known: Row, rule: LastWins) -> bool:
        """Whether the row would change the known one, by the same rule as the statement's."""
        if row[MESSAGE_TIMESTAMP] != known[MESSAGE_TIMESTAMP]:
            return bool(row[MESSAGE_TIMESTAMP] > known[MESSAGE_TIMESTAMP])
        return any(row[name] != known[name] for name in self._told_apart(rule.update))

    def _build(self) -> Executable:
        columns = self.table.c
        statement: Insert = insert(self.table).values({name: self._value(name) for name in self._columns})
        match self._rule:
            case FirstWins(key=key):
                # Named: a conflict with another unique key is no duplicate, but the database refusing the message.
                statement = statement.on_conflict_do_nothing(index_elements=list(key))
            case LastWins(key=key, update=update):
                new = statement.excluded
                statement = statement.on_conflict_do_update(
                    index_elements=list(key),
                    set_={name: new[name] for name in (*update, MESSAGE_TIMESTAMP)},
                    where=or_(
                        columns[MESSAGE_TIMESTAMP] < new[MESSAGE_TIMESTAMP],
                        and_(
                            columns[MESSAGE_TIMESTAMP] == new[MESSAGE_TIMESTAMP],
                            or_(*(columns[name].is_distinct_from(new[name]) for name in self._told_apart(update))),
                        ),
                    ),
                )
            case _:
                return statement
        return statement.returning(*(columns[name] for name in self._key))

    def _value(self, name: str) -> ColumnElement[Any]:
        """The column's bind parameter; where the server has a default, an absent value gets it."""
        column = self.table.c[name]
        value: ColumnElement[Any] = bindparam(name, type_=column.type)
        if column.server_default is not None:
            default = column.server_default.arg  # type: ignore[attr-defined]
            if isinstance(default, str):  # a value: as a bind parameter it would have the type of a text
                default = literal_column("'" + default.replace("'", "''") + "'")
            value = func.coalesce(value, default)
        return value

    def _told_apart(self, update: tuple[str, ...]) -> list[str]:
        # A default such as now() differs at each delivery: it does not make a redelivered message a new one.
        return [name for name in update if self.table.c[name].server_default is None]


def _hashable(returned: Any) -> Any:
    key = tuple(returned)
    return key if len(key) > 1 else key[0]
