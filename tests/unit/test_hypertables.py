"""Declarations say at once, in one line, what TimescaleDB would refuse later or what would delete data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
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
        (
            lambda m: per(
                hours(1),
                doors(m, hypertable=Hypertable("timestamp", chunk_interval=hours(1))),
                refresh=RefreshPolicy(days(30), hours(1), hours(1)),
                retention=days(30),
            ),
            "start_offset 30 days reaches behind its own retention, 30 days: refreshing would make again",
        ),
        (
            lambda m: per(
                minutes(1),
                doors(m, hypertable=Hypertable("timestamp", chunk_interval=days(7))),
                refresh=RefreshPolicy(days(6), hours(1), hours(1)),
            ),
            "start_offset 6 days is shorter than the chunk_interval of doors, 7 days: every refresh would read more",
        ),
        (
            lambda m: per(
                hours(1),
                per(minutes(1), doors(m, hypertable=Hypertable("timestamp", chunk_interval=days(7))), "finer"),
                retention=days(70),
            ),
            "retention 70 days is not longer than its chunks of 70 days, 10 times the chunk_interval of doors",
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


def test_the_shortest_lengths_that_fit_one_another_are_taken() -> None:
    metadata = MetaData()
    table = doors(metadata, hypertable=Hypertable("timestamp", chunk_interval=days(3), retention=days(4)))
    finer = per(
        minutes(1), table, "finer", refresh=RefreshPolicy(days(3), hours(1), hours(1)), retention=days(30) + hours(1)
    )
    coarser = per(hours(1), finer, refresh=RefreshPolicy(hours(3), hours(1), hours(1)), retention=days(31))
    assert aggregates_of(metadata) == (finer, coarser)


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        (lambda table: Index("one", table.c.door, unique=True), "unique index one of doors .door. lacks timestamp"),
        (
            lambda table: table.append_constraint(UniqueConstraint("door", name="one")),
            "unique key one of doors .door. lacks timestamp",
        ),
        (lambda table: table.append_constraint(PrimaryKeyConstraint("door")), "the primary key of doors .door. lacks"),
        (
            lambda table: table.append_column(Column("number", Integer, unique=True)),
            "unique key of doors .number. lacks timestamp",
        ),
    ],
)
def test_a_key_that_comes_after_its_table_is_refused_as_it_comes(attempt: Callable[[Table], Any], error: str) -> None:
    table = doors(MetaData())
    Index("any", table.c.door)
    Index("fitting", table.c.door, table.c.timestamp, unique=True)
    with pytest.raises(ValueError, match=error):
        attempt(table)


def test_arguments_of_a_table_come_in_any_order() -> None:
    declared = Hypertable("timestamp", chunk_interval=days(1))
    table = Table(
        "doors",
        MetaData(),
        declared,
        Column("door", Text, primary_key=True),
        Column("number", Integer, index=True),
        Column("timestamp", DateTime(timezone=True), primary_key=True),
    )
    assert hypertable_of(table) is declared


def referring(metadata: MetaData, name: str, to: str, *more: Any) -> Table:
    columns = (Column("door", Text), Column("timestamp", DateTime(timezone=True), nullable=False))
    key = ForeignKeyConstraint(["door", "timestamp"], [f"{to}.door", f"{to}.timestamp"], name="to_doors")
    return Table(name, metadata, *columns, key, *more)


HOURLY = partial(Hypertable, "timestamp", chunk_interval=hours(1))


@pytest.mark.parametrize("first", ["doors", "visits"])
def test_a_hypertable_refers_to_no_other_hypertable_whichever_comes_first(first: str) -> None:
    metadata = MetaData()
    tables = {"doors": lambda: doors(metadata), "visits": lambda: referring(metadata, "visits", "doors", HOURLY())}
    tables.pop(first)()
    (other,) = tables.values()
    with pytest.raises(ValueError, match="visits has a foreign key to doors: a hypertable can't refer to another one"):
        other()


def test_a_foreign_key_between_hypertables_is_refused_when_it_comes_after_both() -> None:
    metadata = MetaData()
    doors(metadata)
    visits = doors(metadata, name="visits")
    with pytest.raises(ValueError, match="visits has a foreign key to doors"):
        visits.append_constraint(
            ForeignKeyConstraint(["door", "timestamp"], ["doors.door", "doors.timestamp"], name="to_doors")
        )


def test_foreign_keys_that_timescaledb_takes_are_taken() -> None:
    """Between a hypertable and an ordinary table, in both directions, and from a hypertable to itself."""
    metadata = MetaData()
    doors(metadata)
    referring(metadata, "plain", "doors")
    referring(metadata, "hourly", "plain", HOURLY())
    own = referring(metadata, "own", "own", HOURLY())
    assert hypertable_of(own) is not None


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
