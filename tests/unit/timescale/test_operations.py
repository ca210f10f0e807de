"""Every operation has its reverse, and says what it does in words and as SQL that is only printed."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

import ingest.timescale  # noqa: F401 - registers the operations
from ingest.timescale import operations as ops

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
AGGREGATE = ops.CreateContinuousAggregate(
    "doors_per_hour", "SELECT {bucket} AS bucket FROM doors", source="doors", time_column="timestamp", bucket_width=HOUR
)
EVERY = [
    ops.CreateHypertable("doors", "timestamp", chunk_interval=DAY),
    ops.SetChunkInterval("doors", DAY, was=HOUR),
    ops.EnableColumnstore("doors", segment_by=("door",), order_by=("timestamp DESC",)),
    ops.EnableColumnstore("doors", segment_by=("door",), was=((), ())),
    ops.AddColumnstorePolicy("doors", after=DAY),
    ops.AddRetentionPolicy("doors", drop_after=DAY, schema="acme"),
    AGGREGATE,
    ops.AddContinuousAggregatePolicy("doors_per_hour", start_offset=DAY, end_offset=HOUR, schedule_interval=HOUR),
]


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: operation.operation)
def test_a_reverse_of_the_reverse_is_the_operation(operation: ops.TimescaleOperation) -> None:
    assert operation.reverse() != operation
    assert operation.reverse().reverse() == operation


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: operation.operation)
def test_what_ends_with_its_table_has_nothing_to_take_back(operation: ops.TimescaleOperation) -> None:
    operation = type(operation)(**{**vars(operation), "ends_with_owner": True})
    taken_back = operation.reverse()
    assert isinstance(taken_back, ops.Nothing)
    assert taken_back.reverse() is operation


def test_an_aggregate_without_a_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match=r"its query has no \{bucket\}"):
        ops.CreateContinuousAggregate("x", "SELECT 1", source="doors", time_column="timestamp", bucket_width=HOUR)


def test_a_person_reads_what_is_done() -> None:
    assert str(EVERY[0]) == "create_hypertable doors: time_column timestamp, chunk_interval 1 day"


def test_printed_sql_makes_the_extension_once() -> None:
    printed = printed_by("required", *EVERY[:3], AGGREGATE)
    assert printed.count("CREATE EXTENSION") == 1
    assert "segmentby = 'door', timescaledb.orderby = 'timestamp DESC'" in printed
    assert "time_bucket(INTERVAL '1 hour', doors.timestamp)" in printed


def test_printed_sql_for_plain_postgresql_knows_no_timescaledb() -> None:
    printed = printed_by("off", *EVERY[:6], AGGREGATE, AGGREGATE.reverse())
    assert "timescale" not in printed
    assert "CREATE VIEW doors_per_hour AS" in printed
    assert "DROP VIEW doors_per_hour" in printed


def printed_by(mode: str, *operations: object) -> str:
    buffer = io.StringIO()
    options = {"as_sql": True, "output_buffer": buffer, "timescale": mode}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    for operation in operations:
        Operations(context).invoke(operation)  # type: ignore[arg-type]
    return buffer.getvalue()
