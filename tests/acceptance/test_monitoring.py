"""The service watches itself: its samples are true, and nothing waits for them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import pytest

from ingest.local.stack import Server
from tests.acceptance.conftest import PARTITIONS, Stream, System
from tests.support import kafka, messages
from tests.support.topics import EMOTIONS, GPS, PLAIN
from tests.support.waiting import eventually

EVERY_SECOND = {"LOOM_MONITOR_EVERY": "1"}
CANT_WRITE = "samples for monitoring can't be written"
AGAIN = "samples for monitoring are written again"


async def newest_lag(system: System) -> dict[tuple[str, int], dict[str, Any]]:
    rows = await system.sql(
        "SELECT DISTINCT ON (topic, partition) * FROM consumer_lag_history WHERE consumer_group = $1 "
        "ORDER BY topic, partition, timestamp DESC",
        system.group,
    )
    return {(row["topic"], row["partition"]): row for row in rows}


async def count(system: System, table: str) -> int:
    (row,) = await system.sql(f"SELECT count(*) AS n FROM {table}")  # noqa: S608 - a constant
    return int(row["n"])


@asynccontextmanager
async def locked(system: System, *tables: str) -> AsyncIterator[None]:
    """Somebody holds these tables so that nobody else may even read them."""
    connection = await asyncpg.connect(system.database_url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def backend(system: System, but: int = 0) -> int:
    """The process that serves the samples' connection."""
    rows = await system.sql(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE '%-monitor' AND pid <> $1",
        but,
    )
    return int(rows[0]["pid"])


@contextmanager
def frozen(pid: int) -> Iterator[int]:
    """A process that answers nothing, as behind a network that swallows packets."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_each_partition_gets_a_lag_row_and_each_lane_a_metrics_row_that_are_true(system: System) -> None:
    service = system.service(**EVERY_SECOND)
    service.wait_until_said("partitions assigned")
    await system.sql("ALTER TABLE device_sensor_gps_raw RENAME TO elsewhere")
    await system.produce(GPS, [messages.gps(number) for number in range(70)])
    bodies = [messages.emotion(number % 80) for number in range(100)]
    await system.produce(EMOTIONS, [*bodies, b"bad", messages.emotion(99, confidence_score=2), b"\xff"])
    service.wait_until_said("lane stopped")
    await system.caught_up([EMOTIONS])

    async def lags() -> dict[tuple[str, int], tuple[int, int, int]]:
        found = await newest_lag(system)
        return {where: (row["current_offset"], row["log_end_offset"], row["lag"]) for where, row in found.items()}

    expected = {(topic, number): (0, 0, 0) for topic in system.topics for number in range(PARTITIONS)}
    for topic in (EMOTIONS, GPS):
        for number, end in (await kafka.end_offsets(system.stack.kafka, system.topic(topic), PARTITIONS)).items():
            expected[system.topic(topic), number] = (end, end, 0) if topic is EMOTIONS else (0, end, end)
    await eventually(lags, until=lambda found: found == expected)

    async def work() -> dict[str, tuple[int, int]]:
        rows = await system.sql(
            "SELECT topic, sum(messages_processed)::int AS processed, sum(messages_failed)::int AS failed "
            "FROM consumer_processing_metrics WHERE consumer_group = $1 GROUP BY topic",
            system.group,
        )
        return {row["topic"]: (row["processed"], row["failed"]) for row in rows}

    done = dict.fromkeys(system.topics, (0, 0)) | {system.topic(EMOTIONS): (100, 3)}
    await eventually(work, until=lambda found: found == done)

    async def last_state_of_gps() -> str:
        # The sample that told of all this work may have been taken just before the lane stopped.
        rows = await system.sql(
            "SELECT lane_state FROM consumer_processing_metrics WHERE topic = $1 ORDER BY timestamp DESC LIMIT 1",
            system.topic(GPS),
        )
        return str(rows[0]["lane_state"])

    await eventually(last_state_of_gps, until=lambda state: state == "stopped")
    rows = await system.sql("SELECT * FROM consumer_processing_metrics ORDER BY timestamp")
    assert {row["interval_ms"] // 1_000 for row in rows} <= {1, 2, 3}
    emotions = [row for row in rows if row["topic"] == system.topic(EMOTIONS)]
    assert sum(row["batches"] for row in emotions) == service.metric(
        "ingest_batch_messages_count", topic=system.topic(EMOTIONS)
    )
    assert sum(row["batches"] * row["batch_size"] for row in emotions if row["batches"]) == pytest.approx(103)
    assert sum(row["batches"] * row["duration_ms"] for row in emotions if row["batches"]) == pytest.approx(
        1_000 * service.metric("ingest_write_seconds_sum", topic=system.topic(EMOTIONS))
    )
    assert all((row["batch_size"] is None) == (row["batches"] == 0) for row in rows)
    gps = [row for row in rows if row["topic"] == system.topic(GPS)]
    assert "42P01" in gps[-1]["problem"]
    assert sum(row["write_failures"] for row in gps) >= 1

    (monitor,) = await system.sql("SELECT * FROM v_consumer_performance_monitor")
    assert (monitor["consumer_group"], monitor["total_lag"], monitor["partitions"]) == (system.group, 70, 15)
    assert (monitor["topics_in_trouble"], monitor["pods"], monitor["lag_status"]) == (1, 1, "HEALTHY")
    alerts = await system.sql("SELECT topic, alert, action_required FROM v_consumer_alerts")
    assert [tuple(alert.values()) for alert in alerts] == [
        (system.topic(GPS), "lane", "IMMEDIATE_ACTION"),
        (system.topic(EMOTIONS), "errors", "INVESTIGATE"),
    ]


async def test_every_pod_samples_its_own_partitions(system: System) -> None:
    first, second = system.service(**EVERY_SECOND), system.service(**EVERY_SECOND)
    await eventually(
        lambda: asyncio.to_thread(lambda: [int(each.metric("ingest_partitions_assigned")) for each in (first, second)]),
        until=lambda owned: sum(owned) == 15 and 0 not in owned,
        within_s=60,
    )
    (row,) = await system.sql("SELECT now() AS shared")
    newest = await eventually(
        lambda: newest_lag(system),
        until=lambda found: len(found) == 15 and all(sample["timestamp"] > row["shared"] for sample in found.values()),
    )
    assert len({sample["timestamp"] for sample in newest.values()}) == 2  # one transaction each
    (monitor,) = await system.sql("SELECT pods, partitions, total_lag FROM v_consumer_performance_monitor")
    assert tuple(monitor.values()) == (2, 15, 0)


async def test_a_locked_monitoring_table_delays_no_write_and_no_shutdown(system: System, stream: Stream) -> None:
    service = system.service(**EVERY_SECOND, LOOM_DB_MIN_POOL_SIZE="1", LOOM_DB_MAX_POOL_SIZE="1")
    await eventually(lambda: count(system, "consumer_processing_metrics"))
    async with locked(system, "consumer_lag_history", "consumer_processing_metrics"):
        service.wait_until_said(CANT_WRITE)
        await stream.run(2_000)
        await system.caught_up([PLAIN, GPS], within_s=30)
        waits = await system.sql(
            "SELECT application_name FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name NOT LIKE '%-monitor'"
        )
        assert waits == []
        assert service.metric("ingest_write_failures_total") == 0
        assert len(service.said(CANT_WRITE)) == 1
    await asyncio.to_thread(service.wait_until_said, AGAIN)
    async with locked(system, "consumer_processing_metrics"):
        await eventually(
            lambda: system.sql("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '%-monitor' "
                               "AND wait_event_type = 'Lock'"),
            every_s=0.01,
        )  # fmt: skip
        started = time.monotonic()
        assert await asyncio.to_thread(service.stop) == 0
        assert time.monotonic() - started < 10
    await system.assert_nothing_lost_nothing_twice(stream.sent)


async def test_an_outage_drops_samples_and_says_so_once(system: System, stream: Stream) -> None:
    server: Server | None = system.stack.database_server
    if server is None:
        pytest.skip("the database is given by the environment: it is not ours to stop")
    service = system.service(**EVERY_SECOND)
    await stream.run(500)
    await system.caught_up([PLAIN, GPS])  # else nothing may be read yet that could fail to be written
    await eventually(lambda: count(system, "consumer_processing_metrics"))
    await asyncio.to_thread(server.kill)
    try:
        await asyncio.to_thread(service.wait_until_said, CANT_WRITE)
        await system.produce(PLAIN, [messages.plain(f"{system.suffix}-late-{number}") for number in range(50)])
        failures = lambda: asyncio.to_thread(service.metric, "ingest_write_failures_total")  # noqa: E731
        await eventually(failures, until=lambda found: found >= 6, within_s=60)
    finally:
        await asyncio.to_thread(server.start)
    await asyncio.to_thread(service.wait_until_said, AGAIN)
    await system.caught_up([PLAIN, GPS])
    assert (len(service.said(CANT_WRITE)), len(service.said(AGAIN))) == (1, 1)
    assert await system.account(PLAIN) == (550, 0, 0)
    before = await count(system, "consumer_lag_history")
    await eventually(lambda: count(system, "consumer_lag_history"), until=lambda found: found > before)


async def test_a_frozen_connection_of_the_samples_delays_no_write_and_no_shutdown(
    system: System, stream: Stream
) -> None:
    if system.stack.database_server is None:
        pytest.skip("the database is given by the environment: its processes are not ours to freeze")
    service = system.service(**EVERY_SECOND)
    await eventually(lambda: count(system, "consumer_processing_metrics"))
    with frozen(await backend(system)) as first:
        await stream.run(1_000)
        await system.caught_up([PLAIN, GPS])
        await asyncio.to_thread(service.wait_until_said, CANT_WRITE)
        await asyncio.to_thread(service.wait_until_said, AGAIN)  # by another connection
        with frozen(await backend(system, but=first)):
            started = time.monotonic()
            assert await asyncio.to_thread(service.stop) == 0
            assert time.monotonic() - started < 10
    await system.assert_nothing_lost_nothing_twice(stream.sent)


async def test_a_pod_whose_table_for_samples_is_gone_goes_on(system: System, stream: Stream) -> None:
    service = system.service(**EVERY_SECOND)
    service.wait_until_said("partitions assigned")
    await system.sql("DROP TABLE consumer_lag_history CASCADE")
    assert "42P01" in (await asyncio.to_thread(service.wait_until_said, CANT_WRITE))["reason"]
    await stream.run(500)
    await system.caught_up([PLAIN, GPS])
    assert (await asyncio.to_thread(service.page, "/readyz"))[0] == 200
