"""From where a partition is read: the ledger decides, and the broker must still agree with it.

Promise kept here: nothing is skipped or repeated silently. A lost ledger, another database, a retention gap and a topic
made anew each stop the partition with an error that says so (or, by setting, go on and record what was missed).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import ledger
from ingest.consumer import Bounds, Broker
from ingest.errors import LaneError
from ingest.holders import StaleHolders
from ingest.ledger import LastRecord, LedgerRow
from ingest.metrics import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a partition's reader begins."""

    next_offset: int
    """The first offset that isn't written."""
    seek_to: int
    """Where to seek: the last written record, if the broker still has it, so that it can be compared."""
    verify: LastRecord | None
    """What the record at ``seek_to`` must be."""


@dataclass(eq=False, slots=True)
class Partition:
    """One partition of the present assignment. The next assignment makes new ones."""

    number: int
    phase: Literal["unsought", "reading", "held"] = "unsought"
    next_offset: int = -1
    """The first offset that is not written: where the ledger stands."""
    taken: int = -1
    """The first offset that is in no transaction yet."""
    tail: int = -1
    """The offset that arrives next."""
    last: LastRecord | None = None
    """The last message that is written."""
    verify: LastRecord | None = None
    """What the first record that arrives must be, if it lies below ``tail``."""
    mismatch: LastRecord | None = None
    """The ledger's last record, where the broker was found to hold another one."""
    sought: int = 0
    """How often it was sought. What the client handed out before is not what comes next."""
    gone: bool = False
    """The broker no longer has what comes next. What was read before is written first."""
    retry_at: float = 0.0
    problem: str | None = None


class Positions:
    """Answers for one consumer group and one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        broker: Broker,
        *,
        group: str,
        database_id: str,
        auto_offset_reset: Literal["earliest", "latest"],
        on_missing_offsets: Literal["stop", "earliest"],
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._broker = broker
        self._group = group
        self._holders = StaleHolders(engine, group)
        self._database_id = database_id
        self._auto_offset_reset = auto_offset_reset
        self._on_missing_offsets = on_missing_offsets
        self._metrics = metrics

    async def start_of(
        self,
        topic: str,
        partition: int,
        *,
        mismatch: LastRecord | None = None,
        known: bool = False,
        beside: Collection[int] = (),
    ) -> Start:
        """Where to read from. ``mismatch``: the ledger's last record, in whose place the broker
        was found to hold another one. ``known``: this process has read the partition's row before.
        ``beside``: other partitions that it is to read and whose rows it has never read.

        Raises LaneError when nobody but a person can say; KafkaError or the database's errors when either fails.
        """
        where = f"{topic} partition {partition}"
        row = await self._row(topic, partition)
        if row is None and known:
            raise LaneError(
                f"the row of {where} was deleted from ingest_offsets while it was being read: the ledger is lost. "
                "Restore the row, or use another LOOM_KAFKA_GROUP_ID to begin anew"
            )
        if row is None:
            await self._begin(topic, partition, beside)
            row = await self._row(topic, partition)
            assert row is not None  # created by us or by somebody else just now
        bounds = (await self._broker.bounds(topic, [partition]))[partition]
        recreated = mismatch is not None and row.last == mismatch  # else somebody mended the ledger meanwhile
        if recreated or row.next_offset > bounds.end:
            found = (
                f"its record at offset {row.last.offset} is another one than the ledger wrote"
                if recreated and row.last
                else f"it ends at offset {bounds.end}, before the ledger's {row.next_offset}"
            )
            row = await self._skip(topic, partition, row, bounds.start, f"{where} was made anew or cut: {found}")
        elif row.next_offset < bounds.start:
            reason = (
                f"{where} begins at offset {bounds.start}: {bounds.start - row.next_offset} offsets from "
                f"{row.next_offset} were deleted before they were read"
            )
            row = await self._skip(topic, partition, row, bounds.start, reason)
        return _start(row, bounds)

    async def plain_starts(self, topic: str, partitions: Collection[int]) -> dict[int, Start]:
        """The same for many at once, of those about which nothing is to be said: nobody holds their rows, and the
        broker has what comes next. The others are missing from the result; :meth:`start_of` answers for each.

        Raises KafkaError or the database's errors.
        """
        async with self._engine.begin() as connection:
            rows = await ledger.read_free(connection, self._group, topic, partitions)
        bounds = await self._broker.bounds(topic, rows) if rows else {}
        return {
            partition: _start(row, bounds[partition])
            for partition, row in rows.items()
            if bounds[partition].start <= row.next_offset <= bounds[partition].end
        }

    async def begin(self, topic: str, partitions: Collection[int]) -> None:
        """Makes the rows of those that have none, by one question each to ledger and broker. This process must never
        have read a row of theirs. A partition for which only a person can say where it begins gets none.

        Raises as :meth:`start_of`.
        """
        await self._begin(topic, None, partitions)

    async def _begin(self, topic: str, partition: int | None, beside: Collection[int]) -> None:
        first = await self._first_offsets(topic, partition, beside)
        if first:  # else somebody else has begun it since we looked
            async with self._engine.begin() as connection:
                await ledger.create(connection, self._group, topic, first)

    async def _row(self, topic: str, partition: int) -> LedgerRow | None:
        try:
            async with self._engine.begin() as connection:
                return await ledger.read(connection, self._group, topic, partition)
        except Exception as error:
            await self._holders.look_after(error, topic)
            raise

    async def _first_offsets(self, topic: str, partition: int | None, beside: Collection[int]) -> dict[int, int]:
        """Where partitions without a ledger row begin. All of a topic that is new to the group, at once, so that
        ``latest`` means one moment. Else those that are to be read: they were added to the topic, and begin at their
        beginning. ``partition`` is the one that must get an answer, if there is one."""
        async with self._engine.connect() as connection:
            known = await ledger.known_partitions(connection, self._group, topic)
        asked = set() if partition is None else {partition}
        partitions = (asked | set(beside if known else self._broker.partitions(topic))) - known
        if not partitions:
            return {}
        committed = await self._broker.committed(topic, partitions)
        for number, offset in committed.items():
            if offset.marker is None:
                continue
            if number == partition or not known:
                raise LaneError(
                    f"{topic} partition {number} has an offset committed from the ledger of database {offset.marker}, "
                    f"but this database ({self._database_id}) has no row for it in ingest_offsets: the ledger is "
                    "lost, or this is another database. Restore ingest_offsets, or use another LOOM_KAFKA_GROUP_ID to "
                    "begin anew"
                )
            partitions.discard(number)  # it is told when it is sought itself
        adopted = {number: offset.offset for number, offset in committed.items() if number in partitions}
        if adopted:
            log.info("adopting the offsets of a former system", topic=topic, partitions=sorted(adopted))
        bounds = await self._broker.bounds(topic, partitions - set(adopted))
        at_end = self._auto_offset_reset == "latest" and not known
        return {number: each.end if at_end else each.start for number, each in bounds.items()} | adopted

    async def _skip(self, topic: str, partition: int, row: LedgerRow, to_offset: int, reason: str) -> LedgerRow:
        if self._on_missing_offsets == "stop":
            raise LaneError(
                f"{reason}. LOOM_KAFKA_ON_MISSING_OFFSETS=earliest goes on at offset {to_offset} and records the gap"
            )
        async with self._engine.begin() as connection:
            ours = await ledger.move(connection, self._group, topic, partition, row.next_offset, to_offset, reason)
            moved = await ledger.read(connection, self._group, topic, partition)
        if ours:
            self._metrics.offset_gaps.labels(topic).inc()
        log.warning("going on after a gap", topic=topic, partition=partition, to_offset=to_offset, reason=reason)
        assert moved is not None
        return moved


def _start(row: LedgerRow, bounds: Bounds) -> Start:
    # A last record at or after the next offset: somebody moved the row back by hand, and left it in place.
    if row.last is None or not bounds.start <= row.last.offset < row.next_offset:
        return Start(row.next_offset, row.next_offset, None)
    return Start(row.next_offset, row.last.offset, row.last)
