"""The monitoring views tell what the samples say, at each threshold's edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from ingest.monitoring_views import VIEWS
from tests.support.database import ROOT

GROUP = "group"
TOPIC = "topic.a"


@dataclass
class Samples:
    """Puts samples into the tables as pods would have, and reads the views. Ages are in seconds."""

    connection: asyncpg.Connection

    async def lag(
        self,
        *lags: int | None,
        ago: float = 5,
        group: str = GROUP,
        topic: str = TOPIC,
        first: int = 0,
        at: int = 1_000,
    ) -> None:
        """A sample of each of the partitions from ``first`` on, whose ledger stands at ``at``."""
        for number, lag in enumerate(lags, first):
            await self.connection.execute(
                "INSERT INTO consumer_lag_history VALUES "
                "($1, $2, $3, $4, $5, $6, now() - make_interval(secs => $7))",
                group, topic, number, None if lag is None else at, at + (lag or 0), lag, ago,
            )  # fmt: skip

    async def work(
        self,
        processed: int = 0,
        failed: int = 0,
        *,
        ago: float = 5,
        group: str = GROUP,
        topic: str = TOPIC,
        service: str = "pod-1",
        batches: int = 1,
        batch_size: float | None = 10,
        duration_ms: float | None = 20,
        write_failures: int = 0,
        state: str = "running",
        problem: str | None = None,
    ) -> None:
        """A metrics row of a lane for an interval of 10 s."""
        await self.connection.execute(
            "INSERT INTO consumer_processing_metrics (service, consumer_group, topic, interval_ms, batches, "
            "batch_size, duration_ms, messages_processed, messages_failed, write_failures, lane_state, problem, "
            "timestamp) VALUES ($1, $2, $3, 10000, $4, $5, $6, $7, $8, $9, $10, $11, "
            "now() - make_interval(secs => $12))",
            service, group, topic, batches, batch_size, duration_ms, processed, failed, write_failures, state, problem,
            ago,
        )  # fmt: skip

    async def read(self, view: str) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.connection.fetch(f"SELECT * FROM {view}")]  # noqa: S608 - a constant

    async def monitor(self, group: str = GROUP) -> dict[str, Any]:
        (row,) = [row for row in await self.read("v_consumer_performance_monitor") if row["consumer_group"] == group]
        return row

    async def alerts(self) -> list[tuple[str | None, str, str]]:
        """Topic, alert and what is asked for, in the view's order."""
        rows = await self.read("v_consumer_alerts")
        return [(row["topic"], row["alert"], row["action_required"]) for row in rows]


@pytest.fixture
async def samples(database_url: str) -> AsyncIterator[Samples]:
    connection = await asyncpg.connect(database_url)
    yield Samples(connection)
    await connection.close()


async def test_without_samples_nothing_is_told(samples: Samples) -> None:
    assert [await samples.read(view) for view in VIEWS] == [[], [], [], []]


@pytest.mark.parametrize(
    ("total", "status", "action"),
    [
        (0, "HEALTHY", None),
        (100, "HEALTHY", None),
        (101, "WATCH", "MONITOR"),
        (1_000, "WATCH", "MONITOR"),
        (1_001, "WARNING", "INVESTIGATE"),
        (10_000, "WARNING", "INVESTIGATE"),
        (10_001, "CRITICAL", "IMMEDIATE_ACTION"),
    ],
)
async def test_status_and_action_follow_the_sum_of_the_partitions(
    samples: Samples, total: int, status: str, action: str | None
) -> None:
    await samples.lag(total // 3, total - total // 3)
    await samples.work(10)
    row = await samples.monitor()
    assert (row["total_lag"], row["max_partition_lag"], row["lag_status"]) == (total, total - total // 3, status)
    assert (row["partitions"], row["stale_partitions"], row["pods"]) == (2, 0, 1)
    assert await samples.alerts() == ([(None, "lag", action)] if action else [])


async def test_lag_now_is_the_newest_sample_of_each_partition(samples: Samples) -> None:
    await samples.lag(9_000, 9_000, ago=65)
    await samples.lag(50, 60, ago=25)
    await samples.lag(7, 8)
    assert (await samples.monitor())["total_lag"] == 15
    rows = await samples.read("v_consumer_lag_now")
    assert [(row["topic"], row["partition"], row["lag"], row["stale"]) for row in rows] == [
        (TOPIC, 0, 7, False),
        (TOPIC, 1, 8, False),
    ]


async def test_a_partition_that_moved_counts_once_and_by_its_newest_owner(samples: Samples) -> None:
    await samples.lag(500, ago=20, at=100)  # the old owner
    await samples.lag(20, ago=12, at=580)  # the new one
    await samples.lag(480, ago=15, at=120)  # the old one, which does not know yet
    assert ((await samples.monitor())["total_lag"], (await samples.monitor())["partitions"]) == (20, 1)
    await samples.lag(20, ago=12, at=580)  # both at once: the ledger told both the same
    assert ((await samples.monitor())["total_lag"], (await samples.monitor())["partitions"]) == (20, 1)


async def test_groups_and_topics_are_kept_apart(samples: Samples) -> None:
    await samples.lag(5, topic="topic.a")
    await samples.lag(6, topic="topic.b")
    await samples.lag(20_000, group="other", topic="topic.a")
    await samples.work(50, 50, group="other")
    await samples.work(100)
    mine, other = await samples.monitor(), await samples.monitor("other")
    assert (mine["total_lag"], mine["lag_status"], mine["error_rate_percent"]) == (11, "HEALTHY", 0)
    assert (other["total_lag"], other["lag_status"], other["error_rate_percent"]) == (20_000, "CRITICAL", 50)
    assert {row["consumer_group"] for row in await samples.read("v_consumer_alerts")} == {"other"}


async def test_lag_of_a_partition_that_nobody_reports_counts_and_raises_an_alert(samples: Samples) -> None:
    await samples.lag(7, ago=170)
    await samples.lag(9_000, 9_001, first=1, ago=190)
    await samples.work(10)
    row = await samples.monitor()
    assert (row["total_lag"], row["max_partition_lag"], row["lag_status"]) == (18_008, 9_001, "CRITICAL")
    assert (row["partitions"], row["stale_partitions"]) == (1, 2)
    assert "not reported" in row["recommendation"]
    assert await samples.alerts() == [(None, "lag", "IMMEDIATE_ACTION"), (TOPIC, "stale", "INVESTIGATE")]
    assert [row["description"] for row in await samples.read("v_consumer_alerts")] == [
        "18008 messages behind (CRITICAL), 18001 of them in partitions that nobody reports now",
        "no lag sample for over 3 minutes of partitions 1, 2",
    ]


async def test_lag_does_not_go_away_with_the_last_pod(samples: Samples) -> None:
    await samples.lag(20_000, 10_000, ago=3_600)
    await samples.work(10, ago=3_600)
    row = await samples.monitor()
    assert (row["total_lag"], row["max_partition_lag"], row["lag_status"]) == (30_000, 20_000, "CRITICAL")
    assert (row["partitions"], row["stale_partitions"], row["pods"]) == (0, 2, 0)
    assert "No pod reports" in row["recommendation"]
    assert await samples.alerts() == [(None, "lag", "IMMEDIATE_ACTION"), (None, "silent", "IMMEDIATE_ACTION")]


async def test_a_group_that_fell_silent_needs_somebody_at_once_however_little_it_was_behind(samples: Samples) -> None:
    await samples.lag(7, 0, ago=3_600)
    await samples.work(10, ago=3_600)
    row = await samples.monitor()
    assert (row["total_lag"], row["lag_status"], row["partitions"], row["pods"]) == (7, "HEALTHY", 0, 0)
    assert "No pod reports" in row["recommendation"]
    assert await samples.alerts() == [(None, "silent", "IMMEDIATE_ACTION")]


async def test_pods_that_report_no_lag_point_at_the_broker(samples: Samples) -> None:
    await samples.lag(700, ago=3_600)
    await samples.work(0, batches=0, batch_size=None, duration_ms=None)
    row = await samples.monitor()
    assert (row["pods"], row["partitions"], row["total_lag"], row["lag_status"]) == (1, 0, 700, "WATCH")
    assert "broker" in row["recommendation"]
    assert await samples.alerts() == [(None, "silent", "IMMEDIATE_ACTION"), (None, "lag", "MONITOR")]
    silent, lag = await samples.read("v_consumer_alerts")
    assert lag["observed_at"] == silent["observed_at"] < row["last_sample_at"]  # of the lag, not of the lanes


async def test_a_topic_given_up_is_behind_until_its_samples_are_deleted(samples: Samples) -> None:
    await samples.lag(20_000, topic="old.topic", ago=6 * 86_400)
    await samples.lag(7)
    await samples.work(10)
    assert await samples.alerts() == [(None, "lag", "IMMEDIATE_ACTION"), ("old.topic", "stale", "INVESTIGATE")]
    (forget,) = [
        line
        for line in (ROOT / "docs" / "monitoring.md").read_text().splitlines()
        if line.startswith("DELETE FROM consumer_lag_history") and "'old.topic'" in line
    ]
    await samples.connection.execute(forget)
    assert await samples.alerts() == []
    row = await samples.monitor()
    assert (row["total_lag"], row["lag_status"], row["recommendation"]) == (7, "HEALTHY", "Nothing to do")


async def test_a_group_that_has_no_lag_sample_yet_is_told_of(samples: Samples) -> None:
    await samples.work(10)
    row = await samples.monitor()
    assert (row["pods"], row["partitions"], row["total_lag"], row["lag_status"]) == (1, 0, None, "UNKNOWN")


async def test_lag_that_is_not_known_is_no_lag_of_zero(samples: Samples) -> None:
    await samples.lag(None, None)
    await samples.work(0)
    row = await samples.monitor()
    assert (row["total_lag"], row["lag_status"], row["partitions"]) == (None, "UNKNOWN", 2)
    assert await samples.alerts() == [(TOPIC, "unknown_lag", "MONITOR")]
    await samples.lag(150, first=2)
    assert (await samples.monitor())["lag_status"] == "WATCH"


@pytest.mark.parametrize(
    ("failed", "rate", "action"),
    [
        (0, "0", None),
        (1, "0.01", "MONITOR"),
        (99, "0.99", "MONITOR"),
        (100, "1", "INVESTIGATE"),
        (999, "9.99", "INVESTIGATE"),
        (1_000, "10", "IMMEDIATE_ACTION"),
        (10_000, "100", "IMMEDIATE_ACTION"),
    ],
)
async def test_dead_letters_ask_for_action_by_their_share(
    samples: Samples, failed: int, rate: str, action: str | None
) -> None:
    await samples.lag(0)
    await samples.work(10_000 - failed, 0, ago=100)
    await samples.work(0, failed)
    row = await samples.monitor()
    assert row["error_rate_percent"] == Decimal(rate)
    assert (row["messages_processed"], row["messages_failed"]) == (10_000 - failed, failed)
    assert await samples.alerts() == ([(TOPIC, "errors", action)] if action else [])
    assert ("dead letters" in row["recommendation"]) == bool(failed)


async def test_a_busy_topic_does_not_hide_the_errors_of_a_quiet_one(samples: Samples) -> None:
    await samples.lag(0)
    await samples.work(1_000_000, topic="busy")
    await samples.work(0, 3, topic="quiet")
    assert (await samples.monitor())["error_rate_percent"] < 1
    assert await samples.alerts() == [("quiet", "errors", "IMMEDIATE_ACTION")]


async def test_errors_of_long_ago_are_forgotten(samples: Samples) -> None:
    await samples.lag(0)
    await samples.work(0, 100, ago=310)
    await samples.work(10)
    assert await samples.alerts() == []
    assert (await samples.monitor())["error_rate_percent"] == 0


async def test_without_messages_there_is_no_rate_of_errors(samples: Samples) -> None:
    await samples.work(0, batches=0, batch_size=None, duration_ms=None)
    row = await samples.monitor()
    assert (row["error_rate_percent"], row["messages_per_second"]) == (None, 0)
    assert (row["avg_batch_size"], row["avg_processing_time_ms"]) == (None, None)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("stopped", "IMMEDIATE_ACTION"),
        ("fuse_open", "IMMEDIATE_ACTION"),
        ("retrying", "INVESTIGATE"),
        ("paused", "INVESTIGATE"),
    ],
)
async def test_a_lane_that_does_not_write_is_an_alert_with_its_reason(
    samples: Samples, state: str, action: str
) -> None:
    await samples.lag(0)
    await samples.work(10, service="pod-1")
    await samples.work(0, service="pod-2", state=state, problem="permission denied")
    row = await samples.monitor()
    assert (row["topics_in_trouble"], row["pods"], row["lag_status"]) == (1, 2, "HEALTHY")
    assert "Lanes do not write" in row["recommendation"]
    assert await samples.alerts() == [(TOPIC, "lane", action)]
    (alert,) = await samples.read("v_consumer_alerts")
    assert alert["description"] == f"1 of 2 pods: {state}: permission denied"


async def test_a_lane_that_recovered_or_a_pod_that_is_gone_raises_no_alert(samples: Samples) -> None:
    await samples.lag(0)
    await samples.work(0, state="stopped", ago=30)
    await samples.work(10, ago=20)
    await samples.work(0, service="pod-gone", state="stopped", ago=190)
    assert await samples.alerts() == []
    assert ((await samples.monitor())["topics_in_trouble"], (await samples.monitor())["pods"]) == (0, 1)


async def test_messages_that_wait_while_nothing_moves_are_an_alert(samples: Samples) -> None:
    await samples.lag(5, 5, 0, 5, ago=310, at=1_000)
    await samples.lag(5, ago=5, at=1_000)  # stands still
    await samples.lag(5, first=1, ago=5, at=1_001)  # moves
    await samples.lag(5, first=2, ago=5, at=1_000)  # had nothing to do until just now
    await samples.lag(5, first=3, ago=290, at=1_000)  # stood still, and nobody reports it now
    await samples.work(10)
    rows = await samples.read("v_consumer_lag_now")
    assert [row["stalled"] for row in rows] == [True, False, False, False]
    assert await samples.alerts() == [(TOPIC, "stalled", "IMMEDIATE_ACTION"), (TOPIC, "stale", "INVESTIGATE")]
    assert (await samples.monitor())["stalled_partitions"] == 1


async def test_a_partition_is_not_stalled_before_five_minutes(samples: Samples) -> None:
    await samples.lag(5, ago=290)
    await samples.lag(5)
    assert [row["stalled"] for row in await samples.read("v_consumer_lag_now")] == [False]


async def test_averages_are_made_of_counts(samples: Samples) -> None:
    await samples.work(100, batches=10, batch_size=10, duration_ms=5)
    await samples.work(120, batches=1, batch_size=120, duration_ms=60, ago=15)
    await samples.work(0, batches=0, batch_size=None, duration_ms=None, ago=25)
    row = await samples.monitor()
    assert (row["avg_batch_size"], row["avg_processing_time_ms"]) == (20, 10)


async def test_messages_per_second_of_a_young_service_are_over_its_time(samples: Samples) -> None:
    await samples.work(900, 100, ago=10, service="pod-1")
    await samples.work(1_000, ago=10, service="pod-2")
    assert Decimal(95) < (await samples.monitor())["messages_per_second"] <= Decimal(100)
    await samples.work(4_000, ago=295)
    assert (await samples.monitor())["messages_per_second"] == Decimal(20)  # of the last 300 s, not 305


async def test_the_most_urgent_alert_comes_first(samples: Samples) -> None:
    await samples.lag(500)
    await samples.work(0, topic="b", state="retrying")
    await samples.work(0, topic="c", state="stopped")
    assert [action for *_, action in await samples.alerts()] == ["IMMEDIATE_ACTION", "INVESTIGATE", "MONITOR"]


@pytest.mark.parametrize(
    ("lag", "said"),
    [(50, "Nothing to do"), (500, "Look again"), (5_000, "whether the lag falls"), (50_000, "Scale out")],
)
async def test_the_recommendation_fits_the_status(samples: Samples, lag: int, said: str) -> None:
    await samples.lag(lag)
    await samples.work(10)
    assert said in (await samples.monitor())["recommendation"]


async def test_history_tells_each_hour_by_itself(samples: Samples) -> None:
    await samples.connection.execute("SET TimeZone = 'Asia/Kolkata'")  # half an hour beside UTC's hours
    into_the_hour = await samples.connection.fetchval("SELECT extract(epoch FROM now())::int % 3600")
    await samples.work(1_800, 1_800, ago=into_the_hour + 60, batches=9, batch_size=4, duration_ms=10)
    await samples.work(3_600, 0, ago=into_the_hour + 120, batches=1, batch_size=14, duration_ms=30, service="pod-2")
    await samples.work(720, 0, ago=into_the_hour + 3_660, group="other")
    await samples.work(1, 0, ago=31 * 86_400)
    rows = {row["consumer_group"]: row for row in await samples.read("v_consumer_performance_history")}
    assert set(rows) == {GROUP, "other"}
    mine, other = rows[GROUP], rows["other"]
    assert (mine["messages_per_second"], mine["error_rate_percent"], mine["pods"]) == (2, 25, 2)
    assert (mine["batches"], mine["avg_batch_size"], mine["avg_processing_time_ms"]) == (10, 5, 12)
    assert other["messages_per_second"] == Decimal("0.2")
    assert (mine["hour"] - other["hour"]).total_seconds() == 3_600
    assert mine["hour"].timestamp() % 3_600 == 0


async def test_a_week_of_samples_is_not_read_to_tell_the_lag_now(samples: Samples) -> None:
    await samples.connection.execute(
        "INSERT INTO consumer_lag_history SELECT 'group', 'topic', p, 1, 1, 0, now() - s * interval '10 minutes' "
        "FROM generate_series(0, 1000) AS s, generate_series(0, 39) AS p ORDER BY s DESC, p"  # as they came
    )
    await samples.connection.execute(
        "INSERT INTO consumer_processing_metrics SELECT 'pod', 'group', 'topic', 10000, 1, 1, 1, 1, 0, 0, 'running', "
        "NULL, now() - s * interval '1 minute' FROM generate_series(0, 20000) AS s ORDER BY s DESC"
    )
    await samples.connection.execute("ANALYZE consumer_lag_history, consumer_processing_metrics")
    for sql in (
        "SELECT * FROM v_consumer_lag_now",
        "SELECT * FROM v_consumer_performance_monitor",
        "SELECT * FROM v_consumer_alerts",
        "SELECT * FROM v_consumer_performance_history WHERE hour > now() - interval '3 hours'",
    ):
        plan = [line for (line,) in await samples.connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {sql}")]
        assert not [line for line in plan if "Seq Scan on consumer_" in line], plan
        buffers = next(line for line in plan if "Buffers: " in line)  # of the topmost node, with all below it
        read = sum(int(word.partition("=")[2]) for word in buffers.split() if word.startswith(("hit=", "read=")))
        assert read < 5_000, plan


async def test_the_database_has_the_views_of_the_code(samples: Samples) -> None:
    for name, sql in VIEWS.items():
        await samples.connection.execute(f"CREATE TEMPORARY VIEW of_the_code AS {sql}")
        live, code = [
            await samples.connection.fetchval("SELECT pg_get_viewdef($1::regclass, true)", view)
            for view in (f"public.{name}", "of_the_code")
        ]
        assert live == code, f"{name} differs: its change needs a revision"
        await samples.connection.execute("DROP VIEW of_the_code")


async def test_every_column_of_tables_and_views_is_explained(samples: Samples) -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    sections = {part.split("`")[1]: part for part in page.split("\n## ")[1:] if part.startswith("`")}
    found = await samples.connection.fetch(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_name LIKE 'v\\_consumer\\_%' OR table_name LIKE 'consumer\\_%'"
    )
    assert len(found) > 50
    assert [(table, column) for table, column in found if f"\n| `{column}` |" not in sections.get(table, "")] == []
