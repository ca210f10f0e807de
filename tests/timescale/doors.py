"""A declared table with two aggregates, one on the other, to be varied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    case,
    func,
    select,
)

from ingest.hypertables import (
    Columnstore,
    ContinuousAggregate,
    Hypertable,
    RefreshPolicy,
    days,
    hours,
    minutes,
    time_bucket,
)

VIEWS = ("doors_per_hour", "doors_per_minute")
"""From coarse to fine."""

COLUMNSTORE = Columnstore(days(7), ("door",), ("timestamp desc",))
REFRESH = RefreshPolicy(days(3), hours(1), hours(1))


@dataclass(frozen=True)
class Doors:
    """What is declared; a test changes one thing with ``dataclasses.replace``."""

    hypertable: bool = True
    chunk_interval: timedelta = timedelta(days=1)
    columnstore: Columnstore | None = COLUMNSTORE
    retention: timedelta | None = timedelta(days=30)
    per_minute: bool = True
    longest: bool = False
    """Whether the finer aggregate has one more column."""
    per_hour: bool = True
    busiest: bool = False
    """Whether the coarser aggregate has one more column."""
    refresh: RefreshPolicy | None = REFRESH
    """Of the coarser one."""
    kept: timedelta | None = timedelta(days=365)
    """Retention of the finer one."""
    floor: bool = False
    """Whether the table has one more column."""
    indexed: bool = False
    """Whether it has one more index."""


def metadata_of(doors: Doors) -> MetaData:
    metadata = MetaData()
    hypertable = Hypertable(
        "timestamp",
        chunk_interval=doors.chunk_interval,
        columnstore=doors.columnstore,
        retention=doors.retention,
    )
    table = Table(
        "doors",
        metadata,
        Column("door", Text, nullable=False),
        Column("timestamp", DateTime(timezone=True), nullable=False),
        Column("opened", Integer, server_default="1"),
        *([Column("floor", Integer)] if doors.floor else []),
        UniqueConstraint("door", "timestamp", name="doors_key"),
        CheckConstraint("opened >= 0", name="doors_opened_check"),
        Index("doors_opened_idx", "opened"),
        *([Index("doors_door_opened_idx", "door", "opened")] if doors.indexed else []),
        *([hypertable] if doors.hypertable else []),
        comment="who went where",
    )
    if not doors.per_minute:
        return metadata
    more = [func.max(table.c.opened).label("longest")] if doors.longest else []
    per_minute = ContinuousAggregate(
        "doors_per_minute",
        metadata,
        select(
            time_bucket(minutes(1), table.c.timestamp).label("bucket"),
            table.c.door,
            func.count().label("events"),
            func.sum(case((table.c.opened > 0, 1), else_=0)).label("opened"),
            *more,
        )
        .where(table.c.door.not_like("%a:b%"))
        .group_by("bucket", table.c.door),
        refresh=RefreshPolicy(days(3), minutes(1), minutes(1)),
        retention=doors.kept,
    )
    if doors.per_hour:
        more = [func.max(per_minute.c.events).label("busiest")] if doors.busiest else []
        ContinuousAggregate(
            "doors_per_hour",
            metadata,
            select(
                time_bucket(hours(1), per_minute.c.bucket).label("bucket"),
                per_minute.c.door,
                func.sum(per_minute.c.events).label("events"),
                *more,
            ).group_by("bucket", per_minute.c.door),
            refresh=doors.refresh,
        )
    return metadata
