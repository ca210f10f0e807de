"""Declarations say at once, in one line, what TimescaleDB would refuse later or what would delete data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)

from ingest.hypertables import (
    Columnstore,
    ContinuousAggregate,
    Hypertable,
    OrderBy,
    RefreshPolicy,
    aggregates_of,
    days,
    group_by_of,
    hours,
    hypertable_of,
    hypertable_time,
    interval,
    minutes,
    time_bucket,
)


def doors(metadata: MetaData, *more: Any, hypertable: Hypertable | None = None, name: str = "doors") -> Table:
    return Table(
        name,
        metadata,
        Column("door", Text, nullable=False),
        Column("timestamp", DateTime(timezone=True), nullable=False),
        Column("opened", Integer),
        Column("seen_at", DateTime(timezone=True)),
        hypertable or Hypertable("timestamp", chunk_interval=days(1), retention=days(30)),
        *more,
    )


def per(width: Any, source: Any, name: str = "doors_per_hour", **options: Any) -> Any:
    time = source.c[hypertable_time(source)]
    query = select(time_bucket(width, time).label("bucket"), source.c.door).group_by("bucket", source.c.door)
    return ContinuousAggregate(name, source.metadata, query, **options)


def test_a_table_has_its_declaration() -> None:
    declared = Hypertable("timestamp", chunk_interval=days(1))
    table = doors(MetaData(), UniqueConstraint("door", "timestamp"), hypertable=declared)
    assert hypertable_of(table) is declared
    assert hypertable_of(Table("plain", MetaData())) is None
    assert table.to_metadata(MetaData()).info["hypertable"] is declared


def test_aggregates_come_in_the_order_they_are_built_in() -> None:
    metadata = MetaData()
    finer = per(minutes(1), doors(metadata), "doors_per_minute")
    coarser = per(hours(1), finer)
    assert aggregates_of(metadata) == (finer, coarser)
    assert coarser.source is finer
    assert (coarser.bucket_column, coarser.bucket_width) == ("bucket", hours(1))
    assert [column.name for column in coarser.c] == ["bucket", "door"]


def test_grouping_by_a_label_means_the_label_not_a_column_of_the_source() -> None:
    metadata = MetaData()
    finer = per(minutes(1), doors(metadata), "doors_per_minute")
    coarser = per(hours(1), finer)
    assert group_by_of(coarser.query)[0] is coarser.time_bucket


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        (lambda m: doors(m, hypertable=Hypertable("time", chunk_interval=days(1))), "doors has no column 'time'"),
        (lambda m: doors(m, hypertable=Hypertable("opened", chunk_interval=days(1))), r"DateTime\(timezone=True\)"),
        (lambda m: doors(m, hypertable=Hypertable("seen_at", chunk_interval=days(1))), "seen_at must be NOT NULL"),
        (lambda m: doors(m, UniqueConstraint("door", name="one")), "unique key one of doors .door. lacks timestamp"),
        (lambda m: doors(m, PrimaryKeyConstraint("door")), "the primary key of doors .door. lacks timestamp"),
        (lambda m: doors(m, Hypertable("timestamp", chunk_interval=days(1))), "declared a hypertable twice"),
        (lambda m: Column("timestamp", DateTime, Hypertable("timestamp", chunk_interval=days(1))), "of a Table"),
        (lambda m: Hypertable("timestamp", chunk_interval=days(0)), "chunk_interval .* is not positive"),
        (lambda m: Hypertable("timestamp", chunk_interval=1), r"chunk_interval is a timedelta such as days\(1\)"),
        (lambda m: Hypertable("t", chunk_interval=days(7), retention=days(7)), "not shorter than retention 7 days"),
        (
            lambda m: Hypertable("t", chunk_interval=days(1), retention=days(7), columnstore=Columnstore(days(7))),
            "dropped before it is converted",
        ),
        (lambda m: Columnstore(segment_by="door"), "several names"),
        (lambda m: Columnstore(order_by=("door SIDEWAYS",)), "'door SIDEWAYS' is not"),
        (lambda m: Columnstore(segment_by=("door",), order_by=("door",)), "door can't be in segment_by and order_by"),
        (
            lambda m: doors(
                m, hypertable=Hypertable("timestamp", chunk_interval=days(1), columnstore=Columnstore(order_by=("no",)))
            ),
            "columnstore of doors: there is no column no",
        ),
        (
            lambda m: doors(
                m,
                hypertable=Hypertable(
                    "timestamp", chunk_interval=days(1), columnstore=Columnstore(segment_by=("timestamp",))
                ),
            ),
            "segment_by can't hold the time column",
        ),
        (lambda m: RefreshPolicy(days(1), days(1), hours(1)), "refresh window is empty"),
        (lambda m: RefreshPolicy(days(1), -days(1), hours(1)), "negative"),
        (lambda m: time_bucket(days(0), Column("t", DateTime)), "bucket width .* is not positive"),
        (lambda m: per(hours(1), doors(m), "n" * 64), "at most 63 bytes"),
        (lambda m: per(hours(1), doors(m), "doors"), "there is a table or an aggregate of that name"),
        (
            lambda m: per(hours(1), doors(m), refresh=RefreshPolicy(days(30), hours(1), hours(1))),
            "start_offset 30 days reaches behind the retention of doors, 30 days: refreshing would delete history",
        ),
        (
            lambda m: per(hours(1), doors(m), refresh=RefreshPolicy(hours(2), minutes(1), hours(1))),
            "shorter than two buckets of 1 hour",
        ),
        (lambda m: per(hours(1), doors(m), retention=days(30)), "retention 30 days is not longer than that of doors"),
        (
            lambda m: per(minutes(90), per(hours(1), doors(m)), "coarser"),
            "bucket 1 hour 30 minutes is not a multiple of 1 hour, the bucket of doors_per_hour",
        ),
        (
            lambda m: ContinuousAggregate("none", m, select(doors(m).c.door)),
            "selects exactly one time_bucket",
        ),
    ],
)
def test_a_wrong_declaration_is_one_clear_line(attempt: Callable[[MetaData], Any], error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error) as raised:
        attempt(MetaData())
    assert "\n" not in str(raised.value)


def test_an_aggregate_is_grouped_by_the_bucket_of_its_sources_time() -> None:
    metadata = MetaData()
    table = doors(metadata)
    bucket = time_bucket(hours(1), table.c.timestamp).label("bucket")
    with pytest.raises(ValueError, match="is not grouped by its bucket 'bucket'"):
        ContinuousAggregate("wrong", metadata, select(bucket, func.count().label("n")).group_by(table.c.door))
    other = time_bucket(hours(1), table.c.seen_at).label("bucket")
    with pytest.raises(ValueError, match=r"its bucket is of doors\.seen_at, not of doors\.timestamp"):
        ContinuousAggregate("wrong", metadata, select(other).group_by(other))
    with pytest.raises(ValueError, match="1 of its columns have no name"):
        ContinuousAggregate("wrong", metadata, select(bucket, func.count()).group_by(bucket))
    with pytest.raises(ValueError, match="reads exactly one hypertable"):
        plain = Table("plain", metadata, Column("timestamp", DateTime(timezone=True)))
        of_plain = time_bucket(hours(1), plain.c.timestamp).label("bucket")
        ContinuousAggregate("wrong", metadata, select(of_plain).group_by(of_plain))
    assert aggregates_of(metadata) == ()


def test_orders_are_compared_with_their_defaults_spelled_out() -> None:
    assert OrderBy.parse("timestamp desc") == OrderBy.parse("timestamp DESC NULLS FIRST")
    assert OrderBy.parse("timestamp") == OrderBy("timestamp", descending=False, nulls_first=False)


def test_intervals_read_as_people_write_them() -> None:
    assert [interval(each) for each in (days(30), hours(36), minutes(1), days(0))] == [
        "30 days",
        "1 day 12 hours",
        "1 minute",
        "0 seconds",
    ]


def test_an_interval_loses_no_digit() -> None:
    length = timedelta(days=1_234_567, seconds=12, microseconds=345_678)
    assert interval(length) == "1234567 days 12.345678 seconds"
