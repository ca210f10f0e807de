"""The project's own revisions on a real TimescaleDB: they make what is declared, and take it back."""

from __future__ import annotations

from typing import Any

from ingest.hypertables import aggregates_of, hypertable_of
from ingest.local.postgres import query
from ingest.schema import SERVICE_TABLES
from ingest.topics.columns import metadata
from tests.support.database import alembic
from tests.support.topics import LOOM

FIRST_TOPICS = "93b84e5d17ca"
"""The last revision before hypertables."""
BEFORE_REFRESHES = "2c7e4d90ab15"
"""The last revision before those that a transaction can't hold."""
POLICIES = "SELECT count(*)::int FROM timescaledb_information.jobs WHERE job_id >= 1000"


def names(url: str, sql: str) -> set[str]:
    found: Any = query(url, sql)
    return {name for (name,) in found}


def test_upgrade_makes_what_is_declared_and_downgrade_takes_it_back(timescale_url: str) -> None:
    alembic(timescale_url, "upgrade", "head", timescale="required")
    declared = {table for topic in LOOM.values() for table in topic.tables} | set(SERVICE_TABLES)
    assert names(timescale_url, "SELECT hypertable_name FROM timescaledb_information.hypertables") == {
        table.name for table in declared if hypertable_of(table)
    }
    assert names(timescale_url, "SELECT view_name FROM timescaledb_information.continuous_aggregates") == {
        each.name for each in aggregates_of(metadata)
    }
    assert "No new upgrade operations detected" in alembic(timescale_url, "check", timescale="required")
    alembic(timescale_url, "downgrade", "base", timescale="required")
    assert query(timescale_url, POLICIES) == [(0,)]
    assert names(timescale_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == {"alembic_version"}


def test_rows_of_ordinary_tables_are_kept_on_the_way_to_hypertables_and_back(timescale_url: str) -> None:
    alembic(timescale_url, "upgrade", FIRST_TOPICS, timescale="required")
    query(
        timescale_url,
        "INSERT INTO device_sensor_gps_raw (device_id, timestamp, latitude, longitude) "
        "SELECT 'd', now() - n * interval '1 day', 52, 13 FROM generate_series(1, 100) AS n",
    )
    alembic(timescale_url, "upgrade", BEFORE_REFRESHES, timescale="required")
    # As if the upgrade had been cut off in its last revision, which commits each refresh: it is tried again.
    query(timescale_url, "CALL refresh_continuous_aggregate('device_sensor_gps_per_minute', NULL, NULL)")
    alembic(timescale_url, "upgrade", "head", timescale="required")
    # Also those that are older than what retention keeps: its first run has not come before the aggregate had them.
    count = "SELECT sum(messages)::int FROM device_sensor_gps_per_minute"
    assert query(timescale_url, count) == [(100,)]
    alembic(timescale_url, "downgrade", FIRST_TOPICS, timescale="required")
    kept = "SELECT count(*)::int FROM device_sensor_gps_raw WHERE timestamp > now() - interval '25 days'"
    assert query(timescale_url, kept) == [(24,)]
