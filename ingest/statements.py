"""How rows get into one table, by statements built once from its declaration and its conflict rule.

Three ways, of which the fastest that serves is taken:

* ``INSERT … VALUES`` of up to 1,000 rows at a time ("insertmanyvalues"): few rows, and every type. ``RETURNING`` tells
  which keys it changed.
* COPY straight into the table: new rows of a table where none is updated. A row that is there already ends it; then,
  and for the batches after, rows are staged.
* COPY into a temporary table, and from there by ``INSERT … SELECT`` (``ingest.staging``).

Promises kept here:

* An older message never overwrites a newer row.
* Whichever way is taken, the same rows end in the table, and the same are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from operator import eq, itemgetter
from typing import Any, Literal, TypeAlias

import asyncpg
import structlog
from sqlalchemy import REAL, ColumnElement, and_, bindparam, func, literal_column, or_
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import UserDefinedType

from ingest.copying import NotEncodedError, copy_rows, travels_as
from ingest.database import Failure, classify, describe
from ingest.errors import RecordError
from ingest.records import Row
from ingest.searching import Refusal
from ingest.sifting import Sieve
from ingest.staging import Staging
from ingest.topics import FirstWins, LastWins, Topic, Write
from ingest.topics.topic import MESSAGE_TIMESTAMP

log = structlog.get_logger(__name__)

COPY_FROM_ROWS = 30
"""From so many rows on COPY straight into the table costs less than ``INSERT … VALUES``."""
STAGE_FROM_ROWS = 100
"""And from so many COPY into a temporary table, which needs more statements."""
STAGED_BATCHES = 50
"""How long rows are staged after a batch that could not be copied straight: an ended COPY leaves dead rows."""


Values: TypeAlias = tuple[Any, ...]
"""A row's values in the order of the writer's columns."""


class TableWriter:
    """Writes rows of one table and says which of them changed it."""

    def __init__(self, topic: Topic, write: Write) -> None:
        self.table = write.table
        self._rule = write.rule
        self._columns = tuple(topic.columns_of(write))
        self._key = () if not isinstance(write.rule, FirstWins | LastWins) else write.rule.key
        places = {name: place for place, name in enumerate(self._columns)}
        self._values_of = _getter(self._columns)
        self._key_of = itemgetter(*(places[name] for name in self._key)) if self._key else None
        self._statement = self._build()
        self._with_default = {
            name: place for name, place in places.items() if self.table.c[name].server_default is not None
        }
        kinds = {name: travels_as(self.table.c[name].type) for name in self._columns}
        known = {name: kind for name, kind in kinds.items() if kind is not None}
        # A default that is the client's, not the server's, only SQLAlchemy's own INSERT gives to each row.
        known_by_the_server = all(column.default is None for column in self.table.columns)
        self._staging = (
            Staging(self.table, known, self._key, value=self._or_default, with_rule=self._with_rule)
            if len(known) == len(kinds) and known_by_the_server
            else None
        )
        self._refers_to_itself = any(
            key.target_fullname.rpartition(".")[0] == self.table.fullname for key in self.table.foreign_keys
        )
        as_they_are = all(kind is self.table.c[name].type for name, kind in kinds.items())
        self._copies = known_by_the_server and as_they_are and not isinstance(write.rule, LastWins)
        """Whether rows can be copied straight into the table at all."""
        self._sieve = Sieve(self.table, known, places)
        self._staged_batches = 0
        """How many more batches are staged rather than copied straight."""

    async def prepare(self, connection: AsyncConnection, count: int) -> None:
        """Makes ready what :meth:`write` of so many rows will need, outside its savepoint."""
        staged = self._staged_batches or not self._copies or self._sieve.asks
        staging = self._staging if count >= STAGE_FROM_ROWS and staged else None
        if staging is not None and await staging.allowed(connection):
            await staging.prepare(connection)

    async def write(
        self, connection: AsyncConnection, rows: list[Row], *, search: bool = False
    ) -> list[bool | Refusal]:
        """Inserts or updates; for each row, in the order given, whether it changed the table.

        A key that occurs twice is resolved before: the result is as if the rows had been written one by one, and of
        equal keys only the one that prevails has changed anything. Rows go in key order, so that two writers of the
        same keys don't deadlock.

        A row that the database refuses fails the whole, and the transaction has to go back to a savepoint. With
        ``search``, and where rows are staged and have different keys, only such rows are left out, and their place has
        the reason.
        """
        positions, in_order = self._in_order(rows)
        # Where a row of a key that occurs twice is refused, another one of it may prevail: that is not for the server.
        # Nor where a row may refer to another one, which the search would bring only later.
        search = search and len(positions) == len(rows) > 1 and not self._refers_to_itself
        result: list[bool | Refusal] = [False] * len(rows)
        for position in positions:
            result[position] = True
        write = self._write_sifted if search and len(rows) >= STAGE_FROM_ROWS else self._write
        for index, refusal in (await write(connection, in_order, search)).items():
            result[positions[index]] = refusal or False
        return result

    async def _write_sifted(
        self, connection: AsyncConnection, rows: list[Values], search: bool
    ) -> dict[int, Refusal | None]:
        """The same as :meth:`_write`, the rows that a CHECK is known to refuse apart from the others."""
        staging = self._staging if self._sieve.asks else None
        if staging is None or not await staging.allowed(connection):
            return await self._write(connection, rows, search)
        suspects = await self._sieve.suspects(connection, rows)
        if not suspects:
            return await self._write(connection, rows, search)
        clear = sorted(set(range(len(rows))).difference(suspects))
        found = await self._write(connection, [rows[index] for index in clear], search) if clear else {}
        result = {clear[index]: refusal for index, refusal in found.items()}
        await self._fill(connection, staging, [rows[index] for index in suspects])
        found = await staging.search(connection, suspects=True)
        return result | {suspects[index]: refusal for index, refusal in found.items()}

    async def _write(self, connection: AsyncConnection, rows: list[Values], search: bool) -> dict[int, Refusal | None]:
        """Writes rows whose keys are all different; returns the indexes of those that changed nothing."""
        if len(rows) < COPY_FROM_ROWS:
            return await self._write_values(connection, rows)
        if self._staged_batches:
            self._staged_batches -= 1
        elif self._copies:
            copied = await self._copy(connection, rows, search)
            if copied == "all":
                return {}
            if copied == "refused":
                # Not for ever: each time, one more constraint is known.
                found = await self._write_sifted(connection, rows, search)
                for refusal in found.values():
                    if refusal is not None:
                        refusal.attempts += 1
                return found
        if len(rows) >= STAGE_FROM_ROWS and self._staging is not None and await self._staging.allowed(connection):
            try:
                return await self._stage(connection, self._staging, rows, search)
            except NotEncodedError:
                pass  # the other way says which row it is
        return await self._write_values(connection, rows)

    async def _write_values(self, connection: AsyncConnection, rows: list[Values]) -> dict[int, Refusal | None]:
        named = [dict(zip(self._columns, row, strict=True)) for row in rows]
        found = await connection.execute(self._statement, named)
        if self._key_of is None:
            return {}
        changed = {_hashable(key) for key in found}
        return {index: None for index, row in enumerate(rows) if self._key_of(row) not in changed}

    async def _copy(
        self, connection: AsyncConnection, rows: list[Values], search: bool
    ) -> Literal["all", "refused", "none"]:
        """Copies rows straight into the table, all or none. ``refused``: none, by a CHECK that can be asked about from
        now on."""
        if any(len({row[place] is None for row in rows}) > 1 for place in self._with_default.values()):
            return "none"  # COPY gives a default to all rows or to none
        absent = {name for name, place in self._with_default.items() if rows[0][place] is None}
        columns = [name for name in self._columns if name not in absent]
        present = [place for place, name in enumerate(self._columns) if name not in absent]
        sent = map(_getter(present), rows) if absent else rows
        try:
            async with connection.begin_nested():
                if await copy_rows(connection, self.table, columns, sent) == len(rows):
                    return "all"
                raise _LeftOutError("a trigger left rows out")
        except asyncpg.InvalidCachedStatementError:
            raise
        except (
            asyncpg.FeatureNotSupportedError,
            asyncpg.WrongObjectTypeError,
            asyncpg.InsufficientPrivilegeError,
        ) as error:
            # Row-level security, a view, no right to read every column: INSERT may do.
            log.info("a table takes no COPY; its rows are staged", table=self.table.fullname, reason=describe(error))
            self._copies = False
        except Exception as error:
            # A row is there already, or refused, or left out: staged, each can be told apart.
            if classify(error) is not Failure.RECORD:
                raise
            if search and len(rows) >= STAGE_FROM_ROWS and await self._sieve.learn(connection, error):
                return "refused"
            self._staged_batches = STAGED_BATCHES
        return "none"

    async def _stage(
        self, connection: AsyncConnection, staging: Staging, rows: list[Values], search: bool
    ) -> dict[int, Refusal | None]:
        await self._fill(connection, staging, rows)
        if not search:
            return dict.fromkeys(await staging.insert(connection))
        try:
            async with connection.begin_nested():
                return dict.fromkeys(await staging.insert(connection))
        except Exception as error:
            if classify(error) is not Failure.RECORD:
                raise
            await self._sieve.learn(connection, error)
        return await staging.search(connection)

    async def _fill(self, connection: AsyncConnection, staging: Staging, rows: list[Values]) -> None:
        async with connection.begin_nested():
            await staging.fill(connection, ((index, *row) for index, row in enumerate(rows)))

    def _in_order(self, rows: list[Row]) -> tuple[list[int], list[Values]]:
        """The rows to be written in key order, each key once, and the position of each among those given."""
        # Of each row everything is taken at once: a batch is larger than the caches, and each visit to a dict is slow.
        values = list(map(self._values_of, rows))
        if self._key_of is None:
            return list(range(len(rows))), values
        keys = list(map(self._key_of, values))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        in_order = [keys[position] for position in order]
        if not any(map(eq, in_order, islice(in_order, 1, None))):
            return order, [values[position] for position in order]
        prevailing = self._resolve(rows)
        prevailed = [prevailing[key] for key in sorted(prevailing)]
        return [position for position, _ in prevailed], [self._values_of(row) for _, row in prevailed]

    def _resolve(self, rows: list[Row]) -> dict[Any, tuple[int, Row]]:
        """Key → position of the row that prevails, and the row to be written."""
        prevailing: dict[Any, tuple[int, Row]] = {}
        rule = self._rule
        key_of = itemgetter(*self._key)
        for position, row in enumerate(rows):
            key = key_of(row)
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
        statement = insert(self.table).values({name: self._parameter(name) for name in self._columns})
        returned = [self.table.c[name] for name in self._key]
        return self._with_rule(statement).returning(*returned) if returned else statement

    def _with_rule(self, statement: Insert) -> Insert:
        columns = self.table.c
        match self._rule:
            case FirstWins(key=key):
                # Named: a conflict with another unique key is no duplicate, but the database refusing the message.
                return statement.on_conflict_do_nothing(index_elements=list(key))
            case LastWins(key=key, update=update):
                new = statement.excluded
                return statement.on_conflict_do_update(
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
        return statement

    def _parameter(self, name: str) -> ColumnElement[Any]:
        kind = self.table.c[name].type
        return self._or_default(name, bindparam(name, type_=_Real() if isinstance(kind, REAL) else kind))

    def _or_default(self, name: str, value: ColumnElement[Any]) -> ColumnElement[Any]:
        """A value for the column; where the server has a default, an absent one gets it."""
        column = self.table.c[name]
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


class _LeftOutError(RecordError):
    """COPY took fewer rows than it was sent."""


class _Real(UserDefinedType[float]):
    """A parameter that is sent as ``real``, as COPY sends it: SQLAlchemy would send a double, which the server refuses
    where it is too small, rather than rounding it to 0."""

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        return "REAL"


def _getter(places: Sequence[Any]) -> Callable[[Any], Values]:
    """What takes the values at these places out of a row, always as a tuple."""
    if len(places) == 1:
        (only,) = places
        return lambda row: (row[only],)
    return itemgetter(*places)
