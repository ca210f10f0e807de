"""``docs/schema.md`` is what the code declares."""

from __future__ import annotations

import subprocess
import sys

from ingest.hypertables import aggregates_of
from ingest.schema import SERVICE_TABLES
from ingest.topics.columns import metadata
from tests.support.database import ROOT
from tests.support.topics import LOOM

PAGE = ROOT / "docs" / "schema.md"


def test_page_is_current() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "schema-docs"], capture_output=True, text=True, check=True
    ).stdout
    assert PAGE.read_text() == printed, "scripts/schema-docs > docs/schema.md makes it anew"


def test_page_describes_every_table_and_aggregate_once() -> None:
    lines = PAGE.read_text().splitlines()
    tables = {table.name for topic in LOOM.values() for table in topic.tables} | {each.name for each in SERVICE_TABLES}
    names = tables | {each.name for each in aggregates_of(metadata)}
    assert {name: lines.count(f"### {name}") for name in names} == dict.fromkeys(names, 1)


def test_page_has_every_column_with_its_type() -> None:
    sections = {part.partition("\n")[0]: part for part in PAGE.read_text().split("\n### ")}
    for topic in LOOM.values():
        for table in topic.tables:
            for column in table.columns:
                assert f"\n| `{column.name}` | " in sections[table.name], (table.name, column.name)
    assert "| `segment_audio_data` | bytea |" in sections["media_audio_voice_segments_raw"]
    assert "| `key_topics` | text[] |" in sections["analysis_context_reasoning_chains_raw"]
    assert "| `unit` | text | not null | `'m/s²'` |" in sections["device_sensor_accelerometer_raw"]
