"""The service's samples of itself on a real TimescaleDB, where they are hypertables: every test of the views, as on
PostgreSQL, and how the samples get there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import ledger, monitoring
from tests.integration.test_monitoring_edges import *  # noqa: F403 - what is added there is tried here, too
from tests.integration.test_monitoring_samples import (  # noqa: F401 - pytest finds it by its name
    test_lag_is_against_the_ledger_and_unknown_without_it,
)
from tests.integration.test_monitoring_views import *  # noqa: F403
from tests.integration.test_monitoring_views import GROUP, TOPIC, Samples


@pytest.fixture
async def samples(shared_timescale_url: str) -> AsyncIterator[Samples]:
    """What a test has put in is taken back with its transaction."""
    connection = await asyncpg.connect(shared_timescale_url)
    transaction = connection.transaction()
    await transaction.start()
    yield Samples(connection)
    await transaction.rollback()
    await connection.close()


@pytest.fixture
def engine(shared_timescale_engine: AsyncEngine) -> AsyncEngine:
    return shared_timescale_engine


async def test_the_samples_of_a_pod_are_told_by_the_views(engine: AsyncEngine) -> None:
    lane = monitoring.LaneSample(
        TOPIC,
        interval_ms=10_000,
        batches=2,
        batch_size=30,
        duration_ms=15,
        messages_processed=59,
        messages_failed=1,
        write_failures=1,
        lane_state="running",
        problem=None,
    )
    async with engine.begin() as connection:
        await ledger.create(connection, GROUP, TOPIC, {0: 40})
        await monitoring.add_lag(connection, GROUP, {(TOPIC, 0): 240})
        await monitoring.add_metrics(connection, "pod-1", GROUP, [lane])
    async with engine.connect() as connection:
        (row,) = (await connection.execute(text("SELECT * FROM v_consumer_performance_monitor"))).mappings()
        (hour,) = (await connection.execute(text("SELECT * FROM v_consumer_performance_history"))).mappings()
        alerts = await connection.execute(text("SELECT topic, alert FROM v_consumer_alerts"))
        assert [tuple(alert) for alert in alerts] == [(TOPIC, "errors"), (None, "lag")]
        chunks = await connection.execute(text("SELECT hypertable_name FROM timescaledb_information.chunks ORDER BY 1"))
        assert list(chunks.scalars()) == ["consumer_lag_history", "consumer_processing_metrics"]
    assert (row["pods"], row["partitions"], row["total_lag"], row["lag_status"]) == (1, 1, 200, "WATCH")
    assert (row["avg_batch_size"], row["avg_processing_time_ms"], row["write_failures"]) == (30, 15, 1)
    assert (hour["batches"], hour["messages_processed"], hour["messages_failed"]) == (2, 59, 1)
