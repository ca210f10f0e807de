"""Autogenerate proposes exactly what changed, and its operations and their reverses do what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from alembic.autogenerate import render_python_code
from alembic.operations.ops import UpgradeOps
from sqlalchemy import Column, Connection, DateTime, MetaData, Table, func, select, text

from ingest.errors import FatalError
from ingest.hypertables import Columnstore, ContinuousAggregate, Hypertable, RefreshPolicy, days, hours, time_bucket
from ingest.timescale.capability import EVERYTHING, Capability, Target
from ingest.timescale.catalog import read_aggregates
from ingest.timescale.compare import Scope, changes
from tests.support.declared import carry_out, compared, on_database, proposed, without
from tests.timescale.doors import REFRESH, VIEWS, Doors, metadata_of

CHANGES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"chunk_interval": days(2)}, [("set_chunk_interval", "doors")]),
    ({"retention": None}, [("remove_retention_policy", "doors")]),
    ({"retention": days(20)}, [("remove_retention_policy", "doors"), ("add_retention_policy", "doors")]),
    (
        {"columnstore": Columnstore(days(5), ("door",), ("timestamp desc",))},
        [("remove_columnstore_policy", "doors"), ("add_columnstore_policy", "doors")],
    ),
    (
        {"columnstore": Columnstore(None, ("door",), ("timestamp desc",))},
        [("remove_columnstore_policy", "doors")],
    ),
    (
        {"columnstore": Columnstore(days(7), (), ("door", "timestamp desc"))},
        [("enable_columnstore", "doors")],
    ),
    ({"columnstore": None}, [("remove_columnstore_policy", "doors"), ("disable_columnstore", "doors")]),
    (
        {"refresh": RefreshPolicy(days(4), hours(1), hours(1))},
        [
            ("remove_continuous_aggregate_policy", "doors_per_hour"),
            ("add_continuous_aggregate_policy", "doors_per_hour"),
        ],
    ),
    ({"refresh": None}, [("remove_continuous_aggregate_policy", "doors_per_hour")]),
    ({"kept": None}, [("remove_retention_policy", "doors_per_minute")]),
    (
        {"per_hour": False},
        [
            ("remove_continuous_aggregate_policy", "doors_per_hour"),
            ("drop_continuous_aggregate", "doors_per_hour"),
        ],
    ),
    (
        {"longest": True},
        [
            ("remove_retention_policy", "doors_per_minute"),
            ("remove_continuous_aggregate_policy", "doors_per_hour"),
            ("remove_continuous_aggregate_policy", "doors_per_minute"),
            ("drop_continuous_aggregate", "doors_per_hour"),
            ("drop_continuous_aggregate", "doors_per_minute"),
            ("create_continuous_aggregate", "doors_per_minute"),
            ("create_continuous_aggregate", "doors_per_hour"),
            ("refresh_continuous_aggregate", "doors_per_minute"),
            ("refresh_continuous_aggregate", "doors_per_hour"),
            ("add_continuous_aggregate_policy", "doors_per_minute"),
            ("add_continuous_aggregate_policy", "doors_per_hour"),
            ("add_retention_policy", "doors_per_minute"),
        ],
    ),
    (
        {"hypertable": False, "per_minute": False, "per_hour": False},
        [
            ("remove_retention_policy", "doors_per_minute"),
            ("remove_retention_policy", "doors"),
            ("remove_continuous_aggregate_policy", "doors_per_hour"),
            ("remove_continuous_aggregate_policy", "doors_per_minute"),
            ("drop_continuous_aggregate", "doors_per_hour"),
            ("drop_continuous_aggregate", "doors_per_minute"),
            ("remove_columnstore_policy", "doors"),
            ("disable_columnstore", "doors"),
            ("revert_hypertable", "doors"),
        ],
    ),
]
"""What is declared otherwise, and exactly the operations for it."""


APACHE = Capability(hypertables=True, community=False, lack="its TimescaleDB is the Apache-licensed build")


def fill(connection: Connection) -> None:
    """Chunks, compressed chunks and materialized aggregates."""
    connection.execute(
        text(
            "INSERT INTO doors SELECT 'front', at FROM generate_series("
            "now() - INTERVAL '20 days', now() - INTERVAL '1 hour', INTERVAL '6 hours') at"
        )
    )
    connection.execute(text("SELECT compress_chunk(c) FROM show_chunks('doors', older_than => INTERVAL '9 days') c"))
    connection.commit()
    call(connection, *(f"refresh_continuous_aggregate('{name}', NULL, NULL)" for name in reversed(VIEWS)))


def call(connection: Connection, *procedures: str) -> None:
    """Those that a transaction can't hold."""
    connection.execution_options(isolation_level="AUTOCOMMIT")
    for procedure in procedures:
        connection.execute(text(f"CALL {procedure}"))
    connection.rollback()
    connection.execution_options(isolation_level="READ COMMITTED")


def numbers(connection: Connection) -> tuple[Any, ...]:
    counts = [
        connection.scalar(text(f"SELECT {sum_of} FROM {name}"))  # noqa: S608 - the test's own
        for sum_of, name in (
            ("count(*)", "doors"),
            ("sum(events)", "doors_per_minute"),
            ("sum(events)", "doors_per_hour"),
        )
    ]
    connection.rollback()
    return tuple(counts)


def run_policies(connection: Connection) -> None:
    """Refreshes from fine to coarse, as each of them runs by itself soon after it was added; then retention."""
    jobs = connection.scalars(
        text(
            "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name IN"
            " ('policy_refresh_continuous_aggregate', 'policy_retention') ORDER BY proc_name, schedule_interval"
        )
    ).all()
    connection.rollback()
    call(connection, *(f"run_job({job})" for job in jobs))


def test_each_change_is_exactly_its_operations_and_its_downgrade_takes_it_back(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        # Where a scheduler runs, policies would change the numbers meanwhile.
        connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
        connection.commit()
        before = metadata_of(Doors())
        made = compared(connection, before)
        carry_out(connection, made.upgrade_ops)
        assert proposed(connection, before) == []
        fill(connection)
        assert proposed(connection, before) == []
        full = numbers(connection)
        for change, expected in CHANGES:
            after = metadata_of(replace(Doors(), **change))
            script = compared(connection, after)
            assert proposed(connection, after) == expected
            carry_out(connection, script.upgrade_ops)
            assert proposed(connection, after) == [], change
            carry_out(connection, script.downgrade_ops)
            assert proposed(connection, before) == [], change
            if any(kind == "drop_continuous_aggregate" for kind, _ in expected):
                # Made again: a policy reaches only so far back, and takes the rest for done.
                run_policies(connection)
            assert numbers(connection) == full, change
        carry_out(connection, made.downgrade_ops)
        left = connection.scalar(text("SELECT count(*) FROM pg_class WHERE relname LIKE 'doors%'"))
        assert left == 0
        assert connection.scalar(text("SELECT count(*) FROM timescaledb_information.jobs WHERE job_id >= 1000")) == 0

    on_database(timescale_url, work)


def test_what_is_not_declared_is_left_alone(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        declared = metadata_of(Doors())
        connection.execute(text("CREATE TABLE others (timestamp timestamptz NOT NULL, door text)"))
        connection.execute(text("SELECT create_hypertable('others', by_range('timestamp'))"))
        connection.execute(
            text(
                "CREATE MATERIALIZED VIEW others_per_day WITH (timescaledb.continuous) AS"
                " SELECT time_bucket('1 day', timestamp) AS day, count(*) FROM others GROUP BY 1 WITH NO DATA"
            )
        )
        connection.commit()
        carry_out(connection, compared(connection, declared).upgrade_ops)
        assert proposed(connection, declared) == []

    on_database(timescale_url, work)


def test_a_hypertable_made_by_hand_is_taken_as_declared_with_its_default_index(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        declared = metadata_of(Doors(columnstore=None, retention=None, per_minute=False))
        carry_out(connection, compared(connection, metadata_of(Doors(hypertable=False, per_minute=False))).upgrade_ops)
        connection.execute(text("SELECT create_hypertable('doors', by_range('timestamp', INTERVAL '1 day'))"))
        connection.commit()
        assert connection.scalar(text("SELECT 1 FROM pg_indexes WHERE indexname = 'doors_timestamp_idx'")) == 1
        connection.rollback()
        assert proposed(connection, declared) == []
        # Its name is cut at 63 bytes, in whole characters.
        for table, column in (("d" * 60, "timestamp"), ("d" * 40, "t" * 40), ("ü" * 30, "tim\u00e9" * 5)):
            long = MetaData()
            Table(
                table,
                long,
                Column(column, DateTime(timezone=True), nullable=False),
                Hypertable(column, chunk_interval=days(1)),
            )
            connection.execute(text(f'CREATE TABLE "{table}" ("{column}" timestamptz NOT NULL)'))
            connection.execute(text(f"SELECT create_hypertable('\"{table}\"', by_range('{column}', INTERVAL '1 day'))"))
            connection.commit()
            assert proposed(connection, long) == []
            connection.execute(text(f'CREATE INDEX another ON "{table}" ("{column}")'))
            connection.commit()
            assert proposed(connection, long) == [("remove_index", "another")]
            connection.execute(text("DROP INDEX another"))
            connection.commit()

    on_database(timescale_url, work)


def test_rows_from_before_become_chunks_and_the_aggregate_shows_all_of_them(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        carry_out(connection, compared(connection, metadata_of(Doors(hypertable=False, per_minute=False))).upgrade_ops)
        connection.execute(
            text("INSERT INTO doors SELECT 'front', now() - n * INTERVAL '1 day' FROM generate_series(1, 20) n")
        )
        connection.commit()
        declared = metadata_of(Doors())
        # A policy's first run comes at once: by then the aggregates have the numbers.
        assert [kind for kind, _ in proposed(connection, declared)][-6:] == [
            "refresh_continuous_aggregate",
            "refresh_continuous_aggregate",
            "add_continuous_aggregate_policy",
            "add_continuous_aggregate_policy",
            "add_retention_policy",
            "add_retention_policy",
        ]
        carry_out(connection, compared(connection, declared).upgrade_ops)
        assert proposed(connection, declared) == []
        assert numbers(connection) == (20, 20, 20)
        # Older than the window of its policy: it would never be materialized otherwise.
        assert not any(each.empty for each in read_aggregates(connection).values())

    on_database(timescale_url, work)


def test_dropping_a_table_is_reversed_to_the_hypertable_it_was(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        declared = metadata_of(Doors())
        carry_out(connection, compared(connection, declared).upgrade_ops)
        script = without(connection, declared, MetaData())
        carry_out(connection, script.upgrade_ops)
        assert connection.scalar(text("SELECT to_regclass('doors')")) is None
        connection.rollback()
        carry_out(connection, script.downgrade_ops)
        assert proposed(connection, declared) == []

    on_database(timescale_url, work)


def test_the_apache_build_keeps_hypertables_and_gets_plain_views(
    timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build here is the other one, so what it would find out is given."""
    monkeypatch.setattr(Target, "capability", property(lambda self: APACHE))

    def work(connection: Connection) -> None:
        declared = metadata_of(Doors())
        for lacking, of in (
            ("columnstore of doors", Doors()),
            ("retention of doors", Doors(columnstore=None)),
            ("continuous aggregate doors_per_minute", Doors(columnstore=None, retention=None)),
        ):
            with pytest.raises(FatalError, match=f"^{lacking} can't be kept: .*Apache"):
                compared(connection, metadata_of(of), "required")
        script = compared(connection, declared, "auto")
        carry_out(connection, script.upgrade_ops, "auto")
        assert proposed(connection, declared, "auto") == []
        connection.execute(text("INSERT INTO doors SELECT 'front', '2026-01-01Z'"))
        connection.commit()
        assert numbers(connection) == (1, 1, 1)
        assert connection.scalar(text("SELECT count(*) FROM timescaledb_information.hypertables")) == 1
        assert connection.scalar(text("SELECT count(*) FROM timescaledb_information.continuous_aggregates")) == 0
        connection.rollback()
        carry_out(connection, script.downgrade_ops, "auto")
        assert connection.scalar(text("SELECT count(*) FROM pg_class WHERE relname LIKE 'doors%'")) == 0

    on_database(timescale_url, work)


def test_where_aggregates_cannot_be_kept_those_that_are_there_are_left_alone(
    timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of what they keep may be gone long ago."""

    def work(connection: Connection) -> None:
        made = metadata_of(Doors(per_hour=False))
        carry_out(connection, compared(connection, made).upgrade_ops)
        with monkeypatch.context() as licence:
            licence.setattr(Target, "capability", property(lambda self: APACHE))
            assert proposed(connection, made, "auto") == []
        for other in (made, metadata_of(Doors(per_hour=False, longest=True)), metadata_of(Doors(per_minute=False))):
            assert proposed(connection, other, "off") == []
        # One that is not there becomes a plain view, also over a continuous aggregate, and is compared as such.
        carry_out(connection, compared(connection, metadata_of(Doors()), "off").upgrade_ops, "off")
        assert proposed(connection, metadata_of(Doors()), "off") == []
        assert proposed(connection, made, "off") == []
        assert list(read_aggregates(connection)) == [("public", "doors_per_minute")]

    on_database(timescale_url, work)


def test_an_aggregate_may_read_a_table_of_another_schema(timescale_url: str) -> None:
    metadata = MetaData()
    Table(
        "doors",
        metadata,
        Column("timestamp", DateTime(timezone=True), nullable=False),
        Hypertable("timestamp", chunk_interval=days(1)),
        schema="house",
    )
    bucket = time_bucket(hours(1), metadata.tables["house.doors"].c.timestamp).label("bucket")
    per_hour = select(bucket, func.count().label("events")).group_by("bucket")
    ContinuousAggregate("doors_per_hour", metadata, per_hour, refresh=REFRESH)

    def work(connection: Connection) -> None:
        def differences() -> UpgradeOps:
            found = changes(connection, [metadata], Scope(EVERYTHING, strict=True))
            connection.rollback()
            return UpgradeOps([*found.before, *found.after, *found.outside])

        connection.execute(text("CREATE SCHEMA house"))
        metadata.create_all(connection)
        connection.execute(text("INSERT INTO house.doors SELECT now() FROM generate_series(1, 5)"))
        connection.commit()
        made = differences()
        carry_out(connection, made)
        assert differences().is_empty()
        assert connection.scalar(text("SELECT sum(events) FROM doors_per_hour")) == 5
        connection.execute(text("CREATE TABLE doors (timestamp timestamptz)"))  # another one
        connection.commit()
        aggregate = metadata.info.pop("continuous_aggregates")
        dropped = differences()
        assert not dropped.is_empty()
        carry_out(connection, dropped)
        carry_out(connection, dropped.reverse())
        metadata.info["continuous_aggregates"] = aggregate
        assert differences().is_empty()
        carry_out(connection, made.reverse())
        assert read_aggregates(connection) == {}

    on_database(timescale_url, work)


def test_a_revision_is_ready_to_be_committed(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        script = compared(connection, metadata_of(Doors()))
        assert script.upgrade_ops is not None and script.downgrade_ops is not None
        up = render_python_code(script.upgrade_ops)
        assert CREATION in up
        assert all(len(line) <= 120 for line in up.splitlines())
        down = [line.strip() for line in render_python_code(script.downgrade_ops).splitlines() if "op." in line]
        assert down == [
            'op.drop_continuous_aggregate("doors_per_hour")',
            'op.drop_continuous_aggregate("doors_per_minute")',
            "op.drop_index('doors_opened_idx', table_name='doors')",
            "op.drop_table('doors')",
        ]

    on_database(timescale_url, work)


CREATION = '''\
    op.create_hypertable("doors", "timestamp", chunk_interval=timedelta(days=1))
    op.enable_columnstore("doors", segment_by=("door",), order_by=("timestamp DESC",))
    op.add_columnstore_policy("doors", after=timedelta(days=7))
    op.add_retention_policy("doors", drop_after=timedelta(days=30))
    op.create_continuous_aggregate(
        "doors_per_minute",
        """
        SELECT
            {bucket} AS bucket,
            door,
            count(*) AS events,
            sum(CASE WHEN (opened > 0) THEN 1 ELSE 0 END) AS opened
        FROM doors
        WHERE door NOT LIKE '%a:b%'
        GROUP BY {bucket}, door
        """,
        source="doors",
        time_column="timestamp",
        bucket_width=timedelta(minutes=1),
    )
'''
