"""Where a group stands in each partition: by the ledger, by its dead letters, and by the broker.

It is read while the service runs. The broker's starts and committed offsets are asked for before the ledger is read, in
one snapshot and without a lock, and the ends after it. What only grows is so compared in its order: neither a message
that arrives meanwhile nor one that is written can look like a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BindParameter, and_, bindparam, exists, func, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest import ledger
from ingest.consumer import Bounds, Committed
from ingest.dead_letters import dead_letters
from ingest.inquiry import Inquiry, Place


@dataclass(frozen=True, slots=True)
class Row:
    """A partition's row of the ledger, with its account."""

    next_offset: int
    first_offset: int | None
    """Where the account begins; None in a row from before accounts."""
    written: int
    duplicate: int
    dead_lettered: int
    passed: int
    moved: int
    last_timestamp: int | None
    """Kafka timestamp of the last message that ended here, ms since 1970."""
    updated_at: datetime

    @property
    def off(self) -> int | None:
        """By how many offsets the row stands further than its account says: 0 where that closes."""
        if self.first_offset is None:
            return None
        told = self.written + self.duplicate + self.dead_lettered + self.passed + self.moved
        return self.next_offset - self.first_offset - told


@dataclass(frozen=True, slots=True)
class Move:
    """A gap, or a move by hand: a row of ``ingest_offset_gaps``."""

    from_offset: int
    to_offset: int
    reason: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition, from all sides."""

    topic: str
    partition: int
    row: Row | None = None
    bounds: Bounds | None = None
    """None: the broker has no such partition, does not show it to this login, or can't tell for want of a leader."""
    committed: Committed | None = None
    letters: int = 0
    """Rows of ``ingest_dead_letters``."""
    outside: int = 0
    """Those of them that the row need not have counted: they are older than its account, or lie where it was moved past
    them. Rows of the ledger that were lost and made again leave such."""
    repeated: tuple[int, int] | None = None
    """Messages that are dead letters more often than moves back explain: how many, and the first one's offset."""
    moves: tuple[Move, ...] = ()
    leaderless: bool = False

    @property
    def lag(self) -> int | None:
        """Offsets that are left to read."""
        return None if self.row is None or self.bounds is None else max(self.bounds.end - self.row.next_offset, 0)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    database_id: str
    rows: dict[Place, Row]
    letters: dict[Place, tuple[int, int]]
    repeated: dict[Place, tuple[int, int]]
    moves: dict[Place, list[Move]]


async def read(
    engine: AsyncEngine, inquiry: Inquiry, group: str, topics: Collection[str]
) -> tuple[str, list[Standing]]:
    """The database's id, and every partition of the topics that broker or ledger knows, in their order."""
    before = await inquiry.partitions(topics)
    starts, committed = await inquiry.starts(_led(before)), await inquiry.committed(before)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        snapshot = await _snapshot(connection, group, topics)
    now = await inquiry.partitions(topics)
    starts |= await inquiry.starts(_led(now) - starts.keys())
    ends = await inquiry.ends(_led(now))
    found = [
        Standing(
            *place,
            row=snapshot.rows.get(place),
            bounds=Bounds(starts[place], ends[place]) if place in ends else None,
            leaderless=now.get(place) is False,
            committed=committed.get(place),
            letters=letters,
            outside=outside,
            repeated=snapshot.repeated.get(place),
            moves=tuple(snapshot.moves.get(place, ())),
        )
        for place in sorted(set(now) | set(snapshot.rows) | set(snapshot.letters))
        for letters, outside in (snapshot.letters.get(place, (0, 0)),)
    ]
    return snapshot.database_id, found


def _led(partitions: Mapping[Place, bool]) -> set[Place]:
    return {place for place, led in partitions.items() if led}


async def _snapshot(connection: AsyncConnection, group: str, topics: Collection[str]) -> _Snapshot:
    given = {"b_group": group, "b_topics": list(topics)}
    rows = {
        (row.topic, row.partition): Row(
            row.next_offset,
            row.first_offset,
            row.written,
            row.duplicate,
            row.dead_lettered,
            row.passed,
            row.moved,
            row.last_timestamp,
            row.updated_at,
        )
        for row in await connection.execute(_ROWS, given)
    }
    moves: dict[Place, list[Move]] = {}
    for row in await connection.execute(_MOVES, given):
        move = Move(row.from_offset, row.to_offset, row.reason, row.created_at)
        moves.setdefault((row.topic, row.partition), []).append(move)
    return _Snapshot(
        await ledger.database_id(connection),
        rows,
        {(row.topic, row.partition): (row.letters, row.outside) for row in await connection.execute(_LETTERS, given)},
        {(row.topic, row.partition): (row.messages, row.first) for row in await connection.execute(_REPEATED, given)},
        moves,
    )


_group: BindParameter[str] = bindparam("b_group")
_topics: BindParameter[list[str]] = bindparam("b_topics", expanding=True)
_gaps, _coordinates = ledger.offset_gaps, (dead_letters.c.topic, dead_letters.c.partition)
_mine = (dead_letters.c.consumer_group == _group, dead_letters.c.topic.in_(_topics))

_ROWS = select(ledger.offsets).where(ledger.offsets.c.consumer_group == _group, ledger.offsets.c.topic.in_(_topics))
_MOVES = select(_gaps).where(_gaps.c.consumer_group == _group, _gaps.c.topic.in_(_topics)).order_by(_gaps.c.id)
_with_row = dead_letters.outerjoin(
    ledger.offsets,
    and_(
        ledger.offsets.c.consumer_group == dead_letters.c.consumer_group,
        ledger.offsets.c.topic == dead_letters.c.topic,
        ledger.offsets.c.partition == dead_letters.c.partition,
    ),
)
_moved_past = exists().where(
    _gaps.c.consumer_group == _group,
    _gaps.c.topic == dead_letters.c.topic,
    _gaps.c.partition == dead_letters.c.partition,
    _gaps.c.from_offset <= dead_letters.c.kafka_offset,
    _gaps.c.to_offset > dead_letters.c.kafka_offset,
)
_outside = and_(
    ledger.offsets.c.topic.is_not(None),
    or_(
        ledger.offsets.c.first_offset.is_(None),
        dead_letters.c.kafka_offset < ledger.offsets.c.first_offset,
        _moved_past,
    ),
)
_LETTERS = (
    select(*_coordinates, func.count().label("letters"), func.count().filter(_outside).label("outside"))
    .select_from(_with_row)
    .where(*_mine)
    .group_by(*_coordinates)
)
_messages = (
    select(*_coordinates, dead_letters.c.kafka_offset, func.count().label("letters"))
    .select_from(_with_row)
    .where(*_mine, not_(_outside))
    .group_by(*_coordinates, dead_letters.c.kafka_offset)
    .having(func.count() > 1)
    .subquery()
)
# A message may become a dead letter once more for each move that went back over it.
_read_again = (
    select(func.count())
    .select_from(_gaps)
    .where(
        _gaps.c.consumer_group == _group,
        _gaps.c.topic == _messages.c.topic,
        _gaps.c.partition == _messages.c.partition,
        _gaps.c.to_offset <= _messages.c.kafka_offset,
        _gaps.c.from_offset > _messages.c.kafka_offset,
    )
    .scalar_subquery()
)
_REPEATED = (
    select(
        _messages.c.topic,
        _messages.c.partition,
        func.count().label("messages"),
        func.min(_messages.c.kafka_offset).label("first"),
    )
    .where(_messages.c.letters - 1 > _read_again)
    .group_by(_messages.c.topic, _messages.c.partition)
)
