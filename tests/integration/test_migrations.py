"""Migrations make the whole schema, take it back, and agree with the tables in the code."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlalchemy.dialects import postgresql

from ingest.hypertables import aggregates_of
from ingest.local.postgres import query
from ingest.monitoring_views import VIEWS
from ingest.schema import SERVICE_TABLES
from ingest.topics.columns import metadata
from tests.support.database import ROOT, alembic
from tests.support.topics import LOOM

FOUND = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
)
TABLES = (*SERVICE_TABLES, *{table for topic in LOOM.values() for table in topic.tables})
preparer = postgresql.dialect().identifier_preparer


def test_upgrade_creates_everything_and_downgrade_takes_it_all_back(empty_database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "head")
    found: Any = query(empty_database_url, FOUND)
    declared = {table.name for table in TABLES} | {each.name for each in aggregates_of(metadata)} | set(VIEWS)
    assert {name for (name,) in found} == declared
    alembic(empty_database_url, "downgrade", "base")
    assert query(empty_database_url, FOUND) == []
    assert query(empty_database_url, "SELECT 1 FROM pg_extension WHERE extname = 'vector'") == []
    alembic(empty_database_url, "upgrade", "head")


def test_alembic_check_is_silent(empty_database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "head")
    assert "No new upgrade operations detected" in alembic(empty_database_url, "check")


def test_downgrade_leaves_an_extension_that_others_use(empty_database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "head")
    query(empty_database_url, "CREATE TABLE others (v vector(3))")
    alembic(empty_database_url, "downgrade", "base")
    assert query(empty_database_url, "SELECT 1 FROM pg_extension WHERE extname = 'vector'")


def test_there_is_one_head() -> None:
    assert len(alembic("postgresql://unused", "heads").strip().splitlines()) == 1


def test_every_database_gets_an_id_of_its_own(empty_database_url: str, database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "head")
    ids = [query(url, "SELECT id FROM ingest_database") for url in (empty_database_url, database_url)]
    assert [len(found) for found in ids] == [1, 1]
    assert ids[0] != ids[1]


async def test_two_upgrades_at_once_are_one(empty_database_url: str) -> None:
    async def upgrade() -> tuple[int | None, bytes]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head",
            env={**os.environ, "LOOM_DATABASE_URL": empty_database_url, "LOOM_TIMESCALE": "auto"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode, output

    results = await asyncio.gather(upgrade(), upgrade(), upgrade())
    assert [code for code, _ in results] == [0, 0, 0], results


def test_bad_input_gets_one_line(database_url: str) -> None:
    for url, expected in (
        ("", "LOOM_DATABASE_URL is required and not set"),
        ("mysql://x", "LOOM_DATABASE_URL must begin with postgresql://"),
        (database_url.rsplit("/", 1)[0] + "/nowhere", 'database "nowhere" does not exist'),
    ):
        output = alembic(url, "upgrade", "head", check=False)
        assert "Traceback" not in output
        assert expected in output


def test_tables_of_others_are_left_alone(empty_database_url: str) -> None:
    query(empty_database_url, "CREATE TABLE somebody_elses (id int)")
    alembic(empty_database_url, "upgrade", "head")
    assert "No new upgrade operations detected" in alembic(empty_database_url, "check")


def test_every_check_of_the_declarations_is_in_the_database(database_url: str) -> None:
    """Alembic does not compare check constraints: nothing else would notice one that a revision forgot."""
    found: Any = query(
        database_url,
        "SELECT conrelid::regclass::text, conname FROM pg_constraint JOIN pg_namespace n ON n.oid = connamespace "
        "WHERE contype = 'c' AND n.nspname = 'public' AND conrelid <> 0",
    )
    declared = {
        (table.name, preparer.format_constraint(constraint))
        for table in TABLES
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert declared
    assert {tuple(row) for row in found} >= declared


def test_rows_of_a_ledger_from_before_accounts_stay_as_they_are_and_are_not_judged(empty_database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "b15f7e02d8c4")
    columns = "consumer_group, topic, partition, next_offset, written"
    row = f"INSERT INTO ingest_offsets ({columns}) VALUES ('g', 't', {{}}, 9, 5)"  # noqa: S608 - constants
    query(empty_database_url, row.format(0))
    alembic(empty_database_url, "upgrade", "head")
    query(empty_database_url, row.format(1))  # as a pod of the old version makes it while a roll lasts
    query(empty_database_url, "UPDATE ingest_offsets SET next_offset = 12, written = written + 2")
    found = "SELECT partition, next_offset, written, passed, moved, first_offset FROM ingest_offsets ORDER BY partition"
    assert query(empty_database_url, found) == [(0, 12, 7, 0, 0, None), (1, 12, 7, 0, 0, None)]
    alembic(empty_database_url, "downgrade", "b15f7e02d8c4")
    left = "SELECT partition, next_offset, written FROM ingest_offsets ORDER BY partition"
    assert query(empty_database_url, left) == [(0, 12, 7), (1, 12, 7)]


def test_the_columns_of_every_key_are_in_the_declared_order(database_url: str) -> None:
    """Alembic compares sets of columns. The order says where a row's place in the index is: next to its neighbours of
    that time, or anywhere."""
    found: Any = query(
        database_url,
        "SELECT conname, ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (attnum, n) "
        "JOIN pg_attribute a ON a.attnum = k.attnum AND attrelid = conrelid ORDER BY n) "
        "FROM pg_constraint WHERE contype = 'u' AND conname LIKE '%_key'",
    )
    declared = {
        preparer.format_constraint(constraint): [column.name for column in constraint.columns]
        for table in TABLES
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }
    assert len(declared) > 9
    assert {name: columns for name, columns in found if name in declared} == declared


def test_a_key_gets_its_new_order_with_rows_in_the_table_and_back(empty_database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "d07c35e1a8f4")
    query(
        empty_database_url,
        "INSERT INTO media_audio_voice_segments_raw (device_id, message_id, timestamp, segment_start_time, "
        "segment_end_time, duration_ms, confidence_score, audio_sample_rate) "
        "VALUES ('d', 'm', now(), now(), now(), 1, 1, 16000)",
    )
    definition = (
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'media_audio_voice_segments_raw_key'"
    )
    before = query(empty_database_url, definition)
    assert before == [('UNIQUE (device_id, message_id, "timestamp")',)]
    alembic(empty_database_url, "upgrade", "head")
    assert query(empty_database_url, definition) == [('UNIQUE (device_id, "timestamp", message_id)',)]
    alembic(empty_database_url, "downgrade", "d07c35e1a8f4")
    assert query(empty_database_url, definition) == before
