"""What a sampler writes, without a broker."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import ledger, monitoring
from ingest.metrics import Metrics
from ingest.pipeline import Pipeline
from ingest.settings import DatabaseSettings, KafkaSettings, ServiceSettings, Settings
from tests.support.topics import GPS

GROUP = "group"


async def test_a_pod_without_partitions_writes_nothing_and_does_not_even_connect(
    engine: AsyncEngine, database_url: str
) -> None:
    pipeline = Pipeline(
        Settings(KafkaSettings(bootstrap_servers="127.0.0.1:1"), DatabaseSettings(url=database_url), ServiceSettings()),
        {GPS.name: GPS},
        engine=engine,
        database_id="",
        metrics=Metrics(),
        client_id="loom-ingest-kafka-test",
    )
    await pipeline._sampler.sample()
    async with engine.connect() as connection:
        found = await connection.execute(
            text(
                "SELECT (SELECT count(*) FROM consumer_lag_history), (SELECT count(*) FROM "
                "consumer_processing_metrics), (SELECT count(*) FROM pg_stat_activity WHERE "
                "datname = current_database() AND application_name LIKE '%-monitor')"
            )
        )
        assert tuple(found.one()) == (0, 0, 0)
    await pipeline.close(within_s=1)


async def test_lag_is_against_the_ledger_and_unknown_without_it(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await ledger.create(connection, GROUP, "a", {0: 40, 1: 90})
        await ledger.create(connection, "another group", "a", {2: 7})
        await monitoring.add_lag(connection, GROUP, {("a", 0): 100, ("a", 1): 50, ("a", 2): 10, ("b", 0): 3})
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT topic, partition, current_offset, log_end_offset, lag FROM consumer_lag_history ORDER BY 1, 2")
        )
    assert [tuple(row) for row in rows] == [
        ("a", 0, 40, 100, 60),
        ("a", 1, 90, 50, 0),  # cut, or made anew: no lag below 0
        ("a", 2, None, 10, None),
        ("b", 0, None, 3, None),
    ]


async def test_limits_end_with_the_transaction(engine: AsyncEngine) -> None:
    show = text("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
    async with engine.connect() as connection:
        before = tuple((await connection.execute(show)).one())
        await connection.rollback()
        await monitoring.limit(connection, lock_timeout_ms=500, statement_timeout_ms=2_000)
        assert tuple((await connection.execute(show)).one()) == ("500ms", "2s")
        await connection.commit()
        assert tuple((await connection.execute(show)).one()) == before
