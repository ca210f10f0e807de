"""Operations as a revision shows them, as SQL, and taken back; without a database, which is only told what to do."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from alembic.autogenerate import render_python_code
from alembic.operations import Operations
from alembic.operations.ops import UpgradeOps
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, DateTime, MetaData, Table, Text, func, select

from ingest.errors import FatalError
from ingest.hypertables import ContinuousAggregate, Hypertable, days, hours, time_bucket
from ingest.timescale import operations as ops
from ingest.timescale import query, statements
from ingest.timescale.capability import Capability, Need, Target

APACHE = Capability(hypertables=True, community=False, lack="its TimescaleDB is the Apache-licensed build")
NONE = Capability(hypertables=False, community=False, lack="the server has no TimescaleDB; install it")
AGGREGATE = ops.CreateContinuousAggregate(
    "doors_per_hour",
    "SELECT {bucket} AS bucket, count(*) AS events FROM doors GROUP BY {bucket}",
    source="doors",
    time_column="timestamp",
    bucket_width=hours(1),
)
POLICY = ops.AddContinuousAggregatePolicy(
    "doors_per_hour", start_offset=None, end_offset=hours(1), schedule_interval=timedelta(minutes=90)
)

OPERATIONS: list[tuple[ops.TimescaleOperation, str, str]] = [
    (
        ops.CreateHypertable("doors", "timestamp", chunk_interval=days(1)),
        'op.create_hypertable("doors", "timestamp", chunk_interval=timedelta(days=1))',
        "SELECT create_hypertable('doors', by_range('timestamp', INTERVAL '1 day'), "
        "create_default_indexes => false, migrate_data => true)",
    ),
    (
        ops.CreateHypertable("Front Doors", "Time", schema="o'neil", chunk_interval=hours(36)),
        'op.create_hypertable("Front Doors", "Time", schema="o\'neil", chunk_interval=timedelta(days=1, hours=12))',
        "SELECT create_hypertable('\"o''neil\".\"Front Doors\"', by_range('Time', INTERVAL '1 day 12 hours'), "
        "create_default_indexes => false, migrate_data => true)",
    ),
    (
        ops.SetChunkInterval("doors", hours(6), was=days(1)),
        'op.set_chunk_interval("doors", timedelta(hours=6))',
        "SELECT set_chunk_time_interval('doors', INTERVAL '6 hours')",
    ),
    (
        ops.EnableColumnstore("doors", segment_by=("door", "Floor"), order_by=("Time DESC NULLS LAST",)),
        'op.enable_columnstore("doors", segment_by=("door", "Floor"), order_by=("Time DESC NULLS LAST",))',
        "ALTER TABLE doors SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'door, \"Floor\"', "
        "timescaledb.orderby = '\"Time\" DESC NULLS LAST')",
    ),
    (
        ops.EnableColumnstore("doors"),
        'op.enable_columnstore("doors")',
        "ALTER TABLE doors SET (timescaledb.enable_columnstore, timescaledb.segmentby = '')",
    ),
    (
        ops.AddColumnstorePolicy("doors", after=days(7)),
        'op.add_columnstore_policy("doors", after=timedelta(days=7))',
        "CALL add_columnstore_policy('doors', after => INTERVAL '7 days')",
    ),
    (
        ops.RemoveColumnstorePolicy("doors", after=days(7)),
        'op.remove_columnstore_policy("doors")',
        "CALL remove_columnstore_policy('doors', if_exists => true)",
    ),
    (
        ops.AddRetentionPolicy("doors", drop_after=days(30)),
        'op.add_retention_policy("doors", drop_after=timedelta(days=30))',
        "SELECT add_retention_policy('doors', drop_after => INTERVAL '30 days')",
    ),
    (
        ops.RemoveRetentionPolicy("doors", drop_after=days(30)),
        'op.remove_retention_policy("doors")',
        "SELECT remove_retention_policy('doors', if_exists => true)",
    ),
    (
        POLICY,
        'op.add_continuous_aggregate_policy(\n    "doors_per_hour",\n    start_offset=None,\n'
        "    end_offset=timedelta(hours=1),\n    schedule_interval=timedelta(hours=1, minutes=30),\n)",
        "SELECT add_continuous_aggregate_policy('doors_per_hour', start_offset => NULL, "
        "end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '1 hour 30 minutes')",
    ),
    (
        ops.RemoveContinuousAggregatePolicy("doors_per_hour", was=POLICY),
        'op.remove_continuous_aggregate_policy("doors_per_hour")',
        "SELECT remove_continuous_aggregate_policy('doors_per_hour', if_exists => true)",
    ),
    (
        AGGREGATE,
        'op.create_continuous_aggregate(\n    "doors_per_hour",\n    """\n'
        "    SELECT {bucket} AS bucket, count(*) AS events FROM doors GROUP BY {bucket}\n"
        '    """,\n    source="doors",\n    time_column="timestamp",\n    bucket_width=timedelta(hours=1),\n)',
        "CREATE MATERIALIZED VIEW doors_per_hour\n"
        "WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS\n"
        "SELECT time_bucket(INTERVAL '1 hour', doors.timestamp) AS bucket, count(*) AS events FROM doors "
        "GROUP BY time_bucket(INTERVAL '1 hour', doors.timestamp)\nWITH NO DATA",
    ),
    (
        replace(AGGREGATE, source_schema="house"),
        'op.create_continuous_aggregate(\n    "doors_per_hour",\n    """\n'
        "    SELECT {bucket} AS bucket, count(*) AS events FROM doors GROUP BY {bucket}\n"
        '    """,\n    source="doors",\n    source_schema="house",\n    time_column="timestamp",\n'
        "    bucket_width=timedelta(hours=1),\n)",
        "CREATE MATERIALIZED VIEW doors_per_hour\n"
        "WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS\n"
        "SELECT time_bucket(INTERVAL '1 hour', house.doors.timestamp) AS bucket, count(*) AS events FROM doors "
        "GROUP BY time_bucket(INTERVAL '1 hour', house.doors.timestamp)\nWITH NO DATA",
    ),
    (
        ops.DropContinuousAggregate("doors_per_hour", was=AGGREGATE),
        'op.drop_continuous_aggregate("doors_per_hour")',
        "DROP MATERIALIZED VIEW doors_per_hour",
    ),
]
"""An operation, what stands in the revision, and the SQL of ``alembic upgrade --sql``."""
NAMES = [f"{number}-{each.operation}" for number, (each, _, _) in enumerate(OPERATIONS)]


def printed(operation: ops.TimescaleOperation, mode: str = "required") -> str:
    """What ``alembic upgrade --sql`` prints for it."""
    out = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},  # as `run_migrations` does
        opts={"as_sql": True, "output_buffer": out, "timescale": mode},
    )
    Operations(context).invoke(operation)
    return out.getvalue()


def target(capability: Capability, mode: str) -> Target:
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "timescale": mode})
    found = Target.of(context)
    found._capability = capability
    return found


def rendered(operation: ops.TimescaleOperation) -> str:
    lines = render_python_code(UpgradeOps([operation])).splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if not line.strip().startswith("#"))


@pytest.mark.parametrize(("operation", "revision", "sql"), OPERATIONS, ids=NAMES)
def test_an_operation_is_rendered_so_that_it_can_be_read_and_run(
    operation: ops.TimescaleOperation, revision: str, sql: str
) -> None:
    assert rendered(operation) == revision
    assert all(len(line) <= 116 for line in revision.splitlines())
    extension, _, statement = printed(operation).rpartition("CREATE EXTENSION IF NOT EXISTS timescaledb;\n")
    assert extension == ""
    assert statement.strip().removesuffix(";") == sql


@pytest.mark.parametrize(("operation", "revision", "sql"), OPERATIONS, ids=NAMES)
def test_what_a_revision_says_is_the_operation(operation: ops.TimescaleOperation, revision: str, sql: str) -> None:
    out = io.StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": out})
    names: dict[str, Any] = {"timedelta": timedelta, "op": Operations(context)}
    eval(revision, names)  # noqa: S307 - what was rendered is what is tested
    assert sql in out.getvalue()


@pytest.mark.parametrize(("operation", "revision", "sql"), OPERATIONS, ids=NAMES)
def test_an_operation_taken_back_twice_is_itself(operation: ops.TimescaleOperation, revision: str, sql: str) -> None:
    back = operation.undo()
    assert back.operation != operation.operation or isinstance(operation, ops.SetChunkInterval)
    assert rendered(back.undo()) == revision


def test_an_aggregate_that_no_operation_can_make_again_is_left_to_a_person() -> None:
    back = ops.DropContinuousAggregate("doors_per_month").undo()
    assert rendered(back).startswith("raise NotImplementedError(\n    'write how doors_per_month is made again: ")


def test_a_colon_in_a_query_is_not_taken_for_a_parameter() -> None:
    operation = ops.CreateContinuousAggregate(
        "doors_per_hour",
        "SELECT {bucket} AS bucket FROM doors WHERE door = 'a:b' AND opened::text <> '%s' GROUP BY {bucket}",
        source="doors",
        time_column="timestamp",
        bucket_width=hours(1),
    )
    assert "WHERE door = 'a:b' AND opened::text <> '%s' GROUP BY" in printed(operation)


def test_off_prints_ordinary_sql_and_no_extension() -> None:
    quiet = [printed(operation, "off") for operation, _, _ in OPERATIONS]
    assert not any("timescaledb" in sql or "policy" in sql for sql in quiet)
    assert [sql.strip() for sql in quiet if sql.strip()] == [
        "CREATE VIEW doors_per_hour AS\n"
        "SELECT date_bin(INTERVAL '1 hour', doors.timestamp, TIMESTAMPTZ '2000-01-03 00:00:00+00') AS bucket, "
        "count(*) AS events FROM doors GROUP BY "
        "date_bin(INTERVAL '1 hour', doors.timestamp, TIMESTAMPTZ '2000-01-03 00:00:00+00');",
        "CREATE VIEW doors_per_hour AS\n"
        "SELECT date_bin(INTERVAL '1 hour', house.doors.timestamp, TIMESTAMPTZ '2000-01-03 00:00:00+00') AS bucket, "
        "count(*) AS events FROM doors GROUP BY "
        "date_bin(INTERVAL '1 hour', house.doors.timestamp, TIMESTAMPTZ '2000-01-03 00:00:00+00');",
        "DROP VIEW doors_per_hour;",
    ]


@pytest.mark.parametrize(
    ("need", "capability", "words"),
    [
        (
            Need.HYPERTABLES,
            NONE,
            "hypertable doors can't be kept: the server has no TimescaleDB; install it. "
            "Or set LOOM_TIMESCALE=auto to have ordinary tables instead",
        ),
        (
            Need.COMMUNITY,
            APACHE,
            "hypertable doors can't be kept: its TimescaleDB is the Apache-licensed build. "
            "Or set LOOM_TIMESCALE=auto to have ordinary tables instead",
        ),
    ],
)
def test_required_refuses_and_names_the_declaration(need: Need, capability: Capability, words: str) -> None:
    with pytest.raises(FatalError) as refused:
        target(capability, "required").serves(need, "hypertable doors", "ordinary tables")
    assert str(refused.value) == words


def test_auto_goes_on_and_says_once_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    found = target(APACHE, "auto")
    assert found.serves(Need.HYPERTABLES, "hypertable doors", "ordinary tables")
    for name in ("doors_per_hour", "doors_per_day"):
        assert not found.serves(Need.COMMUNITY, f"continuous aggregate {name}", "plain views")
    assert [record.message for record in caplog.records] == [
        "columnstore, retention and continuous aggregates are not available "
        "(its TimescaleDB is the Apache-licensed build): plain views instead"
    ]


def test_off_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "timescale": "off"})
    assert not Target.of(context).serves(Need.HYPERTABLES, "hypertable doors", "ordinary tables")
    assert caplog.records == []


def test_an_operation_reads_as_a_line_for_a_person() -> None:
    assert str(ops.EnableColumnstore("doors", segment_by=("door",), order_by=("timestamp DESC",))) == (
        "enable_columnstore doors: segment_by door, order_by timestamp DESC"
    )
    assert str(AGGREGATE) == (
        "create_continuous_aggregate doors_per_hour: source doors, time_column timestamp, bucket_width 1 hour"
    )
    assert str(ops.DropContinuousAggregate("doors_per_hour")) == "drop_continuous_aggregate doors_per_hour"


def test_a_query_is_a_column_a_line_and_serves_both_databases() -> None:
    metadata = MetaData()
    doors = Table(
        "Doors",
        metadata,
        Column("door", Text, nullable=False),
        Column("Time", DateTime(timezone=True), nullable=False),
        Hypertable("Time", chunk_interval=days(1)),
    )
    aggregate = ContinuousAggregate(
        "per_hour",
        metadata,
        select(time_bucket(hours(1), doors.c.Time).label("bucket"), doors.c.door, func.count().label("Events"))
        .where(doors.c.door != "it's")
        .group_by("bucket", doors.c.door),
    )
    text = query.query_text(aggregate)
    assert text.splitlines() == [
        "SELECT",
        "    {bucket} AS bucket,",
        "    door,",
        '    count(*) AS "Events"',
        'FROM "Doors"',
        "WHERE door != 'it''s'",
        "GROUP BY {bucket}, door",
    ]
    time = query.quoted(None, "Doors", "Time")
    assert query.for_timescale("{bucket}", hours(1), time) == 'time_bucket(INTERVAL \'1 hour\', "Doors"."Time")'
    assert query.for_postgresql("{bucket}", hours(1), time) == (
        "date_bin(INTERVAL '1 hour', \"Doors\".\"Time\", TIMESTAMPTZ '2000-01-03 00:00:00+00')"
    )


def test_buckets_of_two_widths_are_refused() -> None:
    metadata = MetaData()
    doors = Table(
        "doors",
        metadata,
        Column("timestamp", DateTime(timezone=True), nullable=False),
        Hypertable("timestamp", chunk_interval=days(1)),
    )
    bucket = time_bucket(hours(1), doors.c.timestamp)
    other = func.max(time_bucket(hours(2), doors.c.timestamp)).label("other")
    aggregate = ContinuousAggregate("per_hour", metadata, select(bucket.label("bucket"), other).group_by("bucket"))
    with pytest.raises(ValueError, match="continuous aggregate per_hour has buckets of two widths"):
        query.query_text(aggregate)


def test_chunks_become_rows_before_the_columnstore_is_switched_off() -> None:
    convert, disable = statements.disable_columnstore('"o\'neil".doors')
    assert "CALL convert_to_rowstore(chunk)" in convert
    assert "'\"o''neil\".doors'::regclass" in convert
    assert disable == 'ALTER TABLE "o\'neil".doors SET (timescaledb.enable_columnstore = false)'
