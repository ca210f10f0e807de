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
BEFORE_KEYS = "d07c35e1a8f4"
"""The last revision before the order of the keys' columns was changed."""
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
    for mode in ("required", "off"):  # also where aggregates are not wanted, those that are there are no plain views
        assert "No new upgrade operations detected" in alembic(timescale_url, "check", timescale=mode)
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


def test_a_key_gets_its_new_order_also_where_chunks_are_compressed(timescale_url: str) -> None:
    alembic(timescale_url, "upgrade", BEFORE_KEYS, timescale="required")
    insert = (
        "INSERT INTO media_audio_voice_segments_raw (device_id, message_id, timestamp, segment_start_time, "
        "segment_end_time, duration_ms, confidence_score, audio_sample_rate) "
        "SELECT 'd', 'm' || n, date_trunc('day', now()) - n * interval '1 day', now(), now(), 1, 1, 16000 "
        "FROM generate_series(1, 20) AS n ON CONFLICT (device_id, message_id, timestamp) DO NOTHING"
    )
    query(timescale_url, insert)
    chunks: Any = query(
        timescale_url, "SELECT show_chunks('media_audio_voice_segments_raw', older_than => interval '5 days')::text"
    )
    assert chunks
    for (chunk,) in chunks:
        query(timescale_url, f"CALL convert_to_columnstore('{chunk}')")
    for way, revision, columns in (
        ("upgrade", "head", 'device_id, "timestamp", message_id'),
        ("downgrade", BEFORE_KEYS, 'device_id, message_id, "timestamp"'),
    ):
        alembic(timescale_url, way, revision, timescale="required")
        found: Any = query(
            timescale_url, "SELECT indexdef FROM pg_indexes WHERE indexname LIKE '%media_audio_voice_segments_raw_key'"
        )
        assert found
        assert all(f"({columns})" in definition for (definition,) in found)
        query(timescale_url, insert)  # each of them is there
        assert query(timescale_url, "SELECT count(*)::int FROM media_audio_voice_segments_raw") == [(20,)]
