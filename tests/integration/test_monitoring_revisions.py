"""Revisions that change the monitoring views can be taken back."""

from __future__ import annotations

from typing import Any

from ingest.local.postgres import query
from tests.support.database import alembic


def test_a_downgrade_gives_the_views_the_text_that_they_had(empty_database_url: str) -> None:
    definitions = "SELECT viewname, definition FROM pg_views WHERE viewname LIKE 'v\\_consumer\\_%' ORDER BY 1"
    alembic(empty_database_url, "upgrade", "a4d81f6c2e90")
    before: Any = query(empty_database_url, definitions)
    alembic(empty_database_url, "upgrade", "c91e5b3fa076")
    after: Any = query(empty_database_url, definitions)
    assert [name for (name, old), (_, new) in zip(before, after, strict=True) if old != new] == [
        "v_consumer_alerts",
        "v_consumer_performance_monitor",
    ]
    alembic(empty_database_url, "downgrade", "a4d81f6c2e90")
    assert query(empty_database_url, definitions) == before
