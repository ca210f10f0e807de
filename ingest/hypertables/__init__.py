"""What a table is in TimescaleDB, declared beside its columns: hypertable, columnstore, retention, aggregates.

Plain data in the terms of TimescaleDB's documentation. A declaration checks itself when it is made or attached, and
says what is wrong in one line. What it means for a database is :mod:`ingest.timescale`'s business.

>>> from sqlalchemy import Column, DateTime, MetaData, Table, Text, UniqueConstraint, func, select
>>> metadata = MetaData()
>>> doors = Table(
...     "doors",
...     metadata,
...     Column("door", Text, nullable=False),
...     Column("timestamp", DateTime(timezone=True), nullable=False),
...     UniqueConstraint("door", "timestamp"),
...     Hypertable(
...         "timestamp",
...         chunk_interval=days(1),
...         columnstore=Columnstore(after=days(1), segment_by=("door",), order_by=("timestamp DESC",)),
...         retention=days(30),
...     ),
... )
>>> per_hour = ContinuousAggregate(
...     "doors_per_hour",
...     metadata,
...     select(time_bucket(hours(1), doors.c.timestamp).label("bucket"), doors.c.door, func.count().label("events"))
...     .group_by("bucket", doors.c.door),
...     refresh=RefreshPolicy(start_offset=days(2), end_offset=hours(1), schedule_interval=hours(1)),
...     retention=days(365),
... )
>>> [column.name for column in per_hour.c]
['bucket', 'door', 'events']
"""

from ingest.hypertables.aggregate import (
    MAX_NAME_BYTES,
    ContinuousAggregate,
    RefreshPolicy,
    Source,
    TimeBucket,
    aggregates_of,
    group_by_of,
    hypertable_time,
    time_bucket,
)
from ingest.hypertables.intervals import days, hours, interval, minutes
from ingest.hypertables.table import INFO_KEY, Columnstore, Hypertable, OrderBy, hypertable_of

__all__ = [
    "INFO_KEY",
    "MAX_NAME_BYTES",
    "Columnstore",
    "ContinuousAggregate",
    "Hypertable",
    "OrderBy",
    "RefreshPolicy",
    "Source",
    "TimeBucket",
    "aggregates_of",
    "days",
    "group_by_of",
    "hours",
    "hypertable_of",
    "hypertable_time",
    "interval",
    "minutes",
    "time_bucket",
]
