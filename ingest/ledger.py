"""The ledger: how far each partition is written, kept in the same database and moved in the same transaction.

Promises kept here:

* An offset moves only in the transaction that writes its rows and dead letters.
* Every message ends exactly once: a transaction that does not find its partition at the offset it expects writes
  nothing of it (*fenced*: another owner was faster, or a crash of the database host took its last transactions back).

It also keeps each partition's account, which closes when processes and their counters are gone:

    next_offset − first_offset = written + duplicate + dead_lettered + passed + moved
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    PrimaryKeyConstraint,
    Row,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.errors import SchemaError
from ingest.records import Message
from ingest.tables import service_metadata

offsets = Table(
    "ingest_offsets",
    service_metadata,
    Column("consumer_group", Text),
    Column("topic", Text),
    Column("partition", Integer),
    Column("next_offset", BigInteger, nullable=False, comment="the first offset that is not written yet"),
    Column(
        "last_offset",
        BigInteger,
        comment="the last message that ended here; control records have offsets, too",
    ),
    Column("last_timestamp", BigInteger, comment="its Kafka timestamp, ms since 1970"),
    Column("last_checksum", BigInteger, comment="CRC-32 of its key and value: tells a topic that was made anew"),
    Column("written", BigInteger, nullable=False, server_default=text("0")),
    Column("duplicate", BigInteger, nullable=False, server_default=text("0")),
    Column("dead_lettered", BigInteger, nullable=False, server_default=text("0")),
    Column(
        "passed",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="offsets without a message: control records, aborted transactions, what compaction took",
    ),
    Column(
        "moved",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="offsets skipped, less those gone back: the moves that ingest_offset_gaps lists",
    ),
    Column("first_offset", BigInteger, comment="where the account begins; empty in a row from before accounts"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("consumer_group", "topic", "partition"),
    comment="how far each partition is written; moved only in the transaction that writes its rows",
)

database_identity = Table(
    "ingest_database",
    service_metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True, server_default=func.gen_random_uuid()),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    comment="one row: the id that marks the offsets committed to Kafka as this database's",
)

offset_gaps = Table(
    "ingest_offset_gaps",
    service_metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("consumer_group", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("from_offset", BigInteger, nullable=False, comment="the first offset that was expected"),
    Column("to_offset", BigInteger, nullable=False, comment="the offset that was read next"),
    Column("reason", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    comment="where a partition went on elsewhere than after its last message: gaps, and moves by hand",
)


@dataclass(frozen=True, slots=True)
class LastRecord:
    """The last message that ended in the ledger: what the broker must still hold at this offset."""

    offset: int
    timestamp: int
    checksum: int

    @classmethod
    def of(cls, message: Message) -> LastRecord:
        checksum = zlib.crc32(message.value or b"", zlib.crc32(message.key or b""))
        return cls(message.offset, message.timestamp, checksum)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Where a partition stands."""

    next_offset: int
    last: LastRecord | None


@dataclass(slots=True)
class Advance:
    """What a transaction adds to one partition's row."""

    next_offset: int
    last: LastRecord | None = None
    written: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    passed: int = 0
    """Offsets between the row's old and new place that held no message."""


_of_partition = (
    offsets.c.consumer_group == bindparam("b_group"),
    offsets.c.topic == bindparam("b_topic"),
    offsets.c.partition == bindparam("b_partition"),
)
_SELECT_ROW = select(offsets).where(*_of_partition)
_SELECT_FREE = (
    select(offsets)
    .where(
        offsets.c.consumer_group == bindparam("b_group"),
        offsets.c.topic == bindparam("b_topic"),
        offsets.c.partition.in_(bindparam("b_partitions", expanding=True)),
    )
    .with_for_update(read=True, skip_locked=True)
)
_SELECT_ALL = select(offsets.c.topic, offsets.c.partition, offsets.c.next_offset).where(
    offsets.c.consumer_group == bindparam("b_group"), offsets.c.topic.in_(bindparam("b_topics", expanding=True))
)
_LOCK = (
    select(offsets.c.partition, offsets.c.next_offset)
    .where(
        offsets.c.consumer_group == bindparam("b_group"),
        offsets.c.topic == bindparam("b_topic"),
        offsets.c.partition.in_(bindparam("b_partitions", expanding=True)),
    )
    .order_by(offsets.c.partition)  # in key order: two batches that share partitions can't deadlock
    .with_for_update()
)
_ADVANCE = (
    update(offsets)
    .where(*_of_partition)
    .values(
        next_offset=bindparam("b_next_offset"),
        last_offset=func.coalesce(bindparam("b_last_offset", type_=BigInteger), offsets.c.last_offset),
        last_timestamp=func.coalesce(bindparam("b_last_timestamp", type_=BigInteger), offsets.c.last_timestamp),
        last_checksum=func.coalesce(bindparam("b_last_checksum", type_=BigInteger), offsets.c.last_checksum),
        written=offsets.c.written + bindparam("b_written", type_=BigInteger),
        duplicate=offsets.c.duplicate + bindparam("b_duplicate", type_=BigInteger),
        dead_lettered=offsets.c.dead_lettered + bindparam("b_dead_lettered", type_=BigInteger),
        passed=offsets.c.passed + bindparam("b_passed", type_=BigInteger),
        updated_at=func.now(),
    )
)


_IS_WRITABLE = select(offsets.c.partition).limit(0).with_for_update()
_DURABLE = text("SET LOCAL synchronous_commit = on")
"""For what no later transaction could tell from a lost ledger. A crash may take a step back, but not the row itself."""


async def lock(connection: AsyncConnection, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Locks the rows of the partitions until the transaction ends; returns partition → next_offset.

    A partition whose row is gone is missing from the result. Waits for whoever holds a row.
    """
    found = await connection.execute(_LOCK, {"b_group": group, "b_topic": topic, "b_partitions": sorted(partitions)})
    return {row.partition: row.next_offset for row in found}


async def advance(connection: AsyncConnection, group: str, topic: str, steps: Mapping[int, Advance]) -> None:
    """Moves the locked rows. The caller holds their lock in this transaction."""
    await connection.execute(
        _ADVANCE,
        [
            {
                "b_group": group,
                "b_topic": topic,
                "b_partition": partition,
                "b_next_offset": step.next_offset,
                "b_last_offset": step.last.offset if step.last else None,
                "b_last_timestamp": step.last.timestamp if step.last else None,
                "b_last_checksum": step.last.checksum if step.last else None,
                "b_written": step.written,
                "b_duplicate": step.duplicate,
                "b_dead_lettered": step.dead_lettered,
                "b_passed": step.passed,
            }
            for partition, step in steps.items()
        ],
    )


async def read(connection: AsyncConnection, group: str, topic: str, partition: int) -> LedgerRow | None:
    """The partition's row, or None. Waits for a transaction that is just moving it."""
    found = await connection.execute(
        _SELECT_ROW.with_for_update(read=True), {"b_group": group, "b_topic": topic, "b_partition": partition}
    )
    row = found.one_or_none()
    return None if row is None else _ledger_row(row)


async def read_free(
    connection: AsyncConnection, group: str, topic: str, partitions: Iterable[int]
) -> dict[int, LedgerRow]:
    """Partition → its row, of those that nobody is just moving. Waits for nobody."""
    found = await connection.execute(
        _SELECT_FREE, {"b_group": group, "b_topic": topic, "b_partitions": list(partitions)}
    )
    return {row.partition: _ledger_row(row) for row in found}


def _ledger_row(row: Row[Any]) -> LedgerRow:
    last = None
    if row.last_offset is not None:
        last = LastRecord(row.last_offset, row.last_timestamp, row.last_checksum)
    return LedgerRow(row.next_offset, last)


async def read_all(connection: AsyncConnection, group: str, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """(topic, partition) → next_offset, of every row of the group's topics."""
    found = await connection.execute(_SELECT_ALL, {"b_group": group, "b_topics": list(topics)})
    return {(row.topic, row.partition): row.next_offset for row in found}


async def require_writable(connection: AsyncConnection) -> None:
    """Raises the database's 25006 where it takes no writes: a standby, after a failover. Changes and locks no row."""
    await connection.execute(_IS_WRITABLE)


async def create(connection: AsyncConnection, group: str, topic: str, first: Mapping[int, int]) -> None:
    """Makes rows, partition → first offset, except where somebody else just did; theirs stay.

    The transaction is on the server's disk when it ends: an offset may be committed to Kafka right afterwards.
    """
    await connection.execute(_DURABLE)
    await connection.execute(
        insert(offsets).on_conflict_do_nothing(),
        [
            {
                "consumer_group": group,
                "topic": topic,
                "partition": partition,
                "next_offset": offset,
                "first_offset": offset,
            }
            for partition, offset in sorted(first.items())
        ],
    )


async def known_partitions(connection: AsyncConnection, group: str, topic: str) -> set[int]:
    """The partitions of the topic that have a row. If any has, one without is a partition that was added."""
    found = await connection.execute(
        select(offsets.c.partition).where(offsets.c.consumer_group == group, offsets.c.topic == topic)
    )
    return set(found.scalars())


async def move(
    connection: AsyncConnection,
    group: str,
    topic: str,
    partition: int,
    from_offset: int,
    to_offset: int,
    reason: str,
) -> bool:
    """Sets the row to an offset that no message led it to, forward or back, and records that; durably, as
    :func:`create`. False when the row is not at ``from_offset`` any more."""
    await connection.execute(_DURABLE)
    moved = await connection.execute(
        update(offsets)
        .where(
            offsets.c.consumer_group == group,
            offsets.c.topic == topic,
            offsets.c.partition == partition,
            offsets.c.next_offset == from_offset,  # else another owner was here already
        )
        .values(
            next_offset=to_offset,
            last_offset=None,
            last_timestamp=None,
            last_checksum=None,
            moved=offsets.c.moved + (to_offset - from_offset),
            updated_at=func.now(),
        )
    )
    if moved.rowcount:
        await connection.execute(
            insert(offset_gaps).values(
                consumer_group=group,
                topic=topic,
                partition=partition,
                from_offset=from_offset,
                to_offset=to_offset,
                reason=reason,
            )
        )
    return bool(moved.rowcount)


async def database_id(connection: AsyncConnection) -> str:
    """The id that the first revision gave this database."""
    found: Sequence[str] = (await connection.execute(select(database_identity.c.id))).scalars().all()
    if len(found) != 1:
        raise SchemaError(f"ingest_database holds {len(found)} rows instead of one; `alembic upgrade head` makes it")
    return found[0]


def timestamp_of(milliseconds: int) -> datetime | None:
    """Kafka's milliseconds as a time. None where they are none: -1, which is no timestamp, and what a producer that
    counts in smaller units has filled in, so that it lies after the year 9999."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds >= 0 else None
    except (ValueError, OverflowError, OSError):
        return None
