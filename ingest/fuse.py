"""The fuse: one cause that rejects everything stops its lane instead of emptying the topic into the dead letters.

At least 100 rejections in a row, for one cause, over at least two batches, open it. A lone bad message on a quiet topic
never does. The lane then tries again every minute, and ``ingest resume TOPIC --accept`` lets them become dead letters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Column, DateTime, PrimaryKeyConstraint, Table, Text, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.errors import LaneError
from ingest.records import Rejection
from ingest.tables import service_metadata

MAX_REJECTIONS = 100
"""Rejections in a row, for one cause, that open the fuse."""

fuses = Table(
    "ingest_fuses",
    service_metadata,
    Column("consumer_group", Text),
    Column("topic", Text),
    Column("cause", Text, nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("accepted_at", DateTime(timezone=True), comment="when somebody let the rejections become dead letters"),
    PrimaryKeyConstraint("consumer_group", "topic"),
    comment="topics whose messages are all rejected for one cause",
)


class FuseOpenError(LaneError):
    """The batch is rolled back: its rejections go on a streak that looks like a fault of the whole topic."""

    def __init__(self, cause: tuple[str, ...], count: int) -> None:
        self.cause = cause
        stage, reason, field_path, constraint = cause
        where = f" at {field_path}" if field_path else ""
        super().__init__(
            f"fuse open: {count} messages in a row rejected for one cause ({stage}: {reason}{where}"
            f"{', constraint ' + constraint if constraint else ''}); mend the producer or the contract, or let them "
            "become dead letters with `ingest resume TOPIC --accept`"
        )


@dataclass(frozen=True, slots=True)
class Streak:
    """Rejections in a row for one cause."""

    cause: tuple[str, ...] | None = None
    count: int = 0
    batches: int = 0
    accepted: tuple[str, ...] | None = None
    """A cause whose rejections somebody lets pass until a message is written again."""


_NONE = Streak()


class Fuse:
    """One lane's fuse. Pure: it sees the results of batches and keeps the streak of those that were committed."""

    def __init__(self, max_rejections: int = MAX_REJECTIONS) -> None:
        self._max = max_rejections
        self._streak = Streak()

    def judge(self, results: Iterable[Rejection | None]) -> Streak:
        """The streak after a batch whose messages ended so, in order. None stands for a message that was written.

        Raises FuseOpenError before anything of the batch is committed.
        """
        before, streak = self._streak, self._streak
        for result in results:
            if result is None:
                streak = _NONE
            elif result.cause != streak.cause:
                streak = Streak(result.cause, 1, 1, streak.accepted)
            else:
                batches = before.batches + 1 if streak is before else streak.batches
                streak = Streak(streak.cause, streak.count + 1, batches, streak.accepted)
                if streak.count >= self._max and streak.batches >= 2 and streak.cause != streak.accepted:
                    raise FuseOpenError(result.cause, streak.count)
        return streak

    def committed(self, streak: Streak) -> None:
        """The batch that led to this streak is committed."""
        self._streak = streak

    def accept(self, cause: tuple[str, ...]) -> None:
        """Lets rejections of this cause pass until a message of the topic is written again."""
        self._streak = replace(self._streak, accepted=cause)


async def report_open(connection: AsyncConnection, group: str, topic: str, cause: tuple[str, ...]) -> datetime:
    """Notes that the topic's fuse is open, for everybody to see. Returns the time by the database's clock."""
    found = await connection.execute(
        insert(fuses)
        .values(consumer_group=group, topic=topic, cause=" ".join(filter(None, cause)))
        .on_conflict_do_update(
            index_elements=["consumer_group", "topic"],
            set_={"cause": " ".join(filter(None, cause)), "opened_at": func.now()},
        )
        .returning(fuses.c.opened_at)
    )
    opened_at: datetime = found.scalar_one()
    return opened_at


async def accepted_since(connection: AsyncConnection, group: str, topic: str, opened_at: datetime) -> bool:
    """Whether somebody accepted the rejections after this lane had opened its fuse."""
    found = await connection.execute(
        select(fuses.c.accepted_at).where(fuses.c.consumer_group == group, fuses.c.topic == topic)
    )
    accepted_at = found.scalar_one_or_none()
    return accepted_at is not None and accepted_at >= opened_at


async def accept(connection: AsyncConnection, group: str, topic: str) -> str | None:
    """Lets the rejections of an open fuse become dead letters, in every pod. Returns the cause, or None: none open."""
    found = await connection.execute(
        update(fuses)
        .where(fuses.c.consumer_group == group, fuses.c.topic == topic)
        .values(accepted_at=func.now())
        .returning(fuses.c.cause)
    )
    cause: str | None = found.scalar_one_or_none()
    return cause
