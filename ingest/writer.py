"""The writer: one transaction for a lane's batch, from the ledger's lock to the commit.

Promises kept here:

* Every message ends exactly once: as all rows of its tables, or as one dead letter.
* An offset moves only in the transaction that writes its rows and dead letters.
* One bad message costs O(log n) extra statements: bisection over messages, each half under a savepoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest import dead_letters, ledger
from ingest.database import Failure, classify, constraint_of, describe, sqlstate_of
from ingest.errors import TransientError
from ingest.fuse import Fuse, Streak
from ingest.records import Item, Record, Rejection
from ingest.searching import Refusal
from ingest.statements import TableWriter
from ingest.topics import Topic

_CHECK_DEFERRED = (text("SET CONSTRAINTS ALL IMMEDIATE"), text("SET CONSTRAINTS ALL DEFERRED"))
"""The first checks what is pending; the second lets what comes next wait again."""
_EXCLUSIVE = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("name"), 0)))


@dataclass(frozen=True, slots=True)
class Span:
    """What a batch does to one partition: it is expected at ``start`` and stands at ``end`` afterwards."""

    start: int
    end: int


@dataclass(slots=True)
class Work:
    """A batch on its way into the database: items in the order they arrived, and the span of each partition.

    A span may be wider than its items: control records and aborted transactions have offsets, too.
    """

    items: list[Item]
    spans: dict[int, Span]

    def split(self, count: int) -> tuple[Work, Work]:
        """The first ``count`` items, and the rest; both together do what the whole would."""
        head, tail = self.items[:count], self.items[count:]
        first_left: dict[int, int] = {}
        for item in tail:
            first_left.setdefault(item.message.partition, item.message.offset)
        heads = {
            partition: Span(span.start, first_left.get(partition, span.end)) for partition, span in self.spans.items()
        }
        tails = {partition: Span(offset, self.spans[partition].end) for partition, offset in first_left.items()}
        return Work(head, heads), Work(tail, tails)

    def without(self, partitions: set[int]) -> Work:
        """The same work for the other partitions."""
        return Work(
            [item for item in self.items if item.message.partition not in partitions],
            {partition: span for partition, span in self.spans.items() if partition not in partitions},
        )


@dataclass(slots=True)
class Outcome:
    """How a transaction ended, or would end if it was committed without an answer."""

    steps: dict[int, ledger.Advance] = field(default_factory=dict)
    fenced: set[int] = field(default_factory=set)
    rejections: list[Rejection] = field(default_factory=list)
    streak: Streak = field(default_factory=Streak)

    def only(self, partitions: set[int]) -> Outcome:
        """The same, for these partitions."""
        return Outcome(
            {partition: step for partition, step in self.steps.items() if partition in partitions},
            self.fenced & partitions,
            [each for each in self.rejections if each.message.partition in partitions],
            self.streak,
        )


class UnansweredCommit(TransientError):
    """COMMIT was sent and its answer never came. The ledger knows (see :meth:`Writer.write`)."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("the answer to COMMIT never came")
        self.outcome = outcome


class Writer:
    """Writes one topic's batches."""

    def __init__(self, engine: AsyncEngine, group: str, topic: Topic) -> None:
        self._engine = engine
        self._group = group
        self._topic = topic
        self._tables = [TableWriter(topic, write) for write in topic.writes]
        self._immediate = False
        """Whether a deferred constraint refused a COMMIT: from then on they are checked where a
        message can be isolated."""

    async def write(self, work: Work, fuse: Fuse, *, unanswered: Outcome | None = None) -> Outcome:
        """One attempt, one transaction.

        ``unanswered`` is the outcome of an attempt before whose COMMIT got no answer: where the ledger stands at the
        end of the work's spans, that attempt was committed, and its outcome is returned.

        Raises UnansweredCommit, FuseOpenError, and whatever the database raises (see ``ingest.database.classify``).
        """
        outcome = Outcome()
        async with self._engine.connect() as connection:
            transaction = await connection.begin()
            stands = await ledger.lock(connection, self._group, self._topic.name, work.spans)
            if unanswered is not None:
                if _committed(unanswered, stands):
                    return unanswered.only(set(stands))
                unanswered.steps.clear()  # it was not, and can't be any more
            outcome.fenced = {
                partition for partition, span in work.spans.items() if stands.get(partition) != span.start
            }
            work = work.without(outcome.fenced) if outcome.fenced else work
            if not work.spans:
                return outcome
            results = await self._write_items(connection, work.items)
            outcome.streak = fuse.judge(result if isinstance(result, Rejection) else None for result in results)
            outcome.rejections = [result for result in results if isinstance(result, Rejection)]
            outcome.steps = _steps(work, results)
            await dead_letters.write(connection, self._group, outcome.rejections)
            await ledger.advance(connection, self._group, self._topic.name, outcome.steps)
            try:
                await transaction.commit()
            except Exception as error:
                match classify(error):
                    case Failure.TRANSIENT:
                        raise UnansweredCommit(outcome) from error
                    case Failure.RECORD:
                        self._immediate = True
                        raise TransientError(f"refused at COMMIT: {describe(error)}") from error
                raise
        return outcome

    async def reaches_ledger(self, work: Work) -> bool:
        """Whether a transaction that only touches the ledger succeeds: then the batch is in trouble."""
        try:
            async with self._engine.begin() as connection:
                await ledger.lock(connection, self._group, self._topic.name, work.spans)
        except Exception as error:
            if classify(error) is Failure.TRANSIENT:
                return False
            raise
        return True

    async def accepts_any(self, items: Sequence[Item], work: Work) -> bool:
        """Whether any of these messages can be written just now, on the same way as ``work``: behind the same locks.
        Tries them one by one and keeps nothing."""
        for item in items:
            if not isinstance(item, Record):
                continue
            try:
                async with self._engine.connect() as connection:
                    await ledger.lock(connection, self._group, self._topic.name, work.spans)
                    await self._take_turns(connection)
                    await self._write_records(connection, [item])
                    await connection.rollback()
            except Exception as error:
                if classify(error) in (Failure.TRANSIENT, Failure.RECORD):
                    continue
                raise
            return True
        return False

    async def _write_items(self, connection: AsyncConnection, items: Sequence[Item]) -> list[bool | Rejection]:
        """For each item: whether it changed a row, or why it can't be written."""
        records = [item for item in items if isinstance(item, Record)]
        if records:
            await self._take_turns(connection)
            for table in self._tables:
                await table.prepare(connection, len(records))
        written = iter(await self._isolate(connection, records, attempts=1) if records else [])
        return [next(written) if isinstance(item, Record) else item for item in items]

    async def _take_turns(self, connection: AsyncConnection) -> None:
        if self._topic.exclusive is not None:
            await connection.execute(_EXCLUSIVE, {"name": f"loom-ingest {self._topic.exclusive}"})

    async def _isolate(
        self, connection: AsyncConnection, records: Sequence[Record], *, attempts: int
    ) -> list[bool | Rejection]:
        """Writes all; where the database refuses, each half by itself, down to the single message at fault."""
        try:
            async with connection.begin_nested():
                results = await self._write_records(connection, records)
                return [
                    self._rejection(record, result, attempts + result.attempts - 1)
                    if isinstance(result, Refusal)
                    else result
                    for record, result in zip(records, results, strict=True)
                ]
        except Exception as error:
            if classify(error) is not Failure.RECORD:
                raise
            if len(records) == 1:
                return [self._rejection(records[0], error, attempts)]
        half = len(records) // 2
        first = await self._isolate(connection, records[:half], attempts=attempts + 1)
        return first + await self._isolate(connection, records[half:], attempts=attempts + 1)

    async def _write_records(self, connection: AsyncConnection, records: Sequence[Record]) -> list[bool | Refusal]:
        """For each record, whether it changed any row of any of its tables, or why the database refuses it."""
        if len(self._tables) == 1 and not self._topic.follow_ups and not self._immediate:
            # A message is one row: which of them are refused is found in the server, where it can be.
            return await self._tables[0].write(connection, [record.rows[0] for record in records], search=True)
        changed: list[bool | Refusal] = [False] * len(records)
        for position, table in enumerate(self._tables):
            rows = [record.rows[position] for record in records]
            for index, each in enumerate(await table.write(connection, rows)):
                changed[index] = changed[index] or each
        for follow_up in self._topic.follow_ups:
            owners: dict[Any, int] = {}
            for index, record in enumerate(records):
                key = record.rows[0][follow_up.key_column]
                # Of several messages of one key, the one that prevailed answers for what followed.
                if key not in owners or changed[index]:
                    owners[key] = index
            found = await connection.execute(follow_up.statement, {"keys": sorted(owners)})
            for (key,) in found:
                changed[owners[key]] = True
        if self._immediate:
            for statement in _CHECK_DEFERRED:
                await connection.execute(statement)
        return changed

    def _rejection(self, record: Record, error: BaseException, attempts: int) -> Rejection:
        newest = self._topic.versions[-1]
        sqlstate = sqlstate_of(error)
        return Rejection(
            message=record.message,
            stage="database",
            reason=sqlstate or type(error).__name__,
            error=describe(error),
            field_path=None,
            contract=f"{newest.contract.__name__} {newest.name}",
            sqlstate=sqlstate,
            constraint_name=constraint_of(error),
            attempts=attempts,
        )

    def give_up(self, record: Record, error: BaseException, attempts: int) -> Rejection:
        """The rejection of a message that fails for ever while its neighbours can be written."""
        return self._rejection(record, error, attempts)


def _committed(unanswered: Outcome, stands: Mapping[int, int]) -> bool:
    # Partitions that went to another owner meanwhile are not locked any more, and tell nothing.
    known = [
        step.next_offset == stands[partition] for partition, step in unanswered.steps.items() if partition in stands
    ]
    return bool(known) and all(known)


def _steps(work: Work, results: Sequence[bool | Rejection]) -> dict[int, ledger.Advance]:
    """What the ledger rows of the work's partitions become."""
    steps = {
        partition: ledger.Advance(span.end, passed=span.end - span.start) for partition, span in work.spans.items()
    }
    last: dict[int, Item] = {}
    for item, result in zip(work.items, results, strict=True):
        step = steps[item.message.partition]
        step.passed -= 1  # of the span's offsets, those without a message are left
        if isinstance(result, Rejection):
            step.dead_lettered += 1
        elif result:
            step.written += 1
        else:
            step.duplicate += 1
        last[item.message.partition] = item
    for partition, item in last.items():
        steps[partition].last = ledger.LastRecord.of(item.message)
    return steps
