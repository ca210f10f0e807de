"""The monitoring views at the edges of their times, to the millisecond, and what they recommend first.

Samples are put in and read within one transaction: its ``now()`` stands still, so an age is exact.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.integration.test_monitoring_views import TOPIC, Samples


@pytest.fixture
async def samples(database_url: str) -> AsyncIterator[Samples]:
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    yield Samples(connection)
    await transaction.rollback()
    await connection.close()


async def lag_now(samples: Samples) -> dict[str, Any]:
    (row,) = await samples.read("v_consumer_lag_now")
    return row


@pytest.mark.parametrize(("ago", "stale"), [(179.999, False), (180, False), (180.001, True)])
async def test_a_sample_is_stale_after_three_minutes(samples: Samples, ago: float, stale: bool) -> None:
    await samples.lag(5, ago=ago)
    assert (await lag_now(samples))["stale"] == stale
    row = await samples.monitor()
    assert (row["partitions"], row["stale_partitions"]) == ((0, 1) if stale else (1, 0))


@pytest.mark.parametrize(
    ("lag", "said"),
    [(0, ""), (1, ", 1 of them in partitions that nobody reports now")],
)
async def test_the_lag_alert_says_how_much_of_it_nobody_reports(samples: Samples, lag: int, said: str) -> None:
    await samples.lag(500)
    await samples.lag(lag, first=1, ago=200)
    descriptions = {row["alert"]: row["description"] for row in await samples.read("v_consumer_alerts")}
    assert descriptions["lag"] == f"{500 + lag} messages behind (WATCH){said}"


async def test_a_partition_without_a_known_lag_that_nobody_reports_is_one_alert(samples: Samples) -> None:
    await samples.lag(5)
    await samples.lag(None, first=1, ago=180.001)
    assert await samples.alerts() == [(TOPIC, "stale", "INVESTIGATE")]
    await samples.lag(None, first=1, ago=180)
    assert await samples.alerts() == [(TOPIC, "unknown_lag", "MONITOR")]


@pytest.mark.parametrize(
    ("earlier", "stalled"),
    [(299.999, False), (300, True), (300.001, True), (599.999, True), (600, False), (600.001, False)],
)
async def test_a_partition_is_stalled_by_a_sample_of_five_to_ten_minutes_ago(
    samples: Samples, earlier: float, stalled: bool
) -> None:
    await samples.lag(5, ago=earlier)
    await samples.lag(5)
    assert (await lag_now(samples))["stalled"] == stalled
    assert (await samples.monitor())["stalled_partitions"] == stalled
    assert await samples.alerts() == ([(TOPIC, "stalled", "IMMEDIATE_ACTION")] if stalled else [])


@pytest.mark.parametrize(("newest", "stalled"), [(179.999, True), (180, True), (180.001, False)])
async def test_a_partition_that_is_stale_is_not_called_stalled(samples: Samples, newest: float, stalled: bool) -> None:
    await samples.lag(5, ago=400)
    await samples.lag(5, ago=newest)
    assert (await lag_now(samples))["stalled"] == stalled


@pytest.mark.parametrize(
    ("earlier", "newest", "stalled"),
    [
        ((1, 1_000), (1, 1_000), True),
        ((0, 1_000), (1, 1_000), False),  # nothing waited then
        ((1, 1_000), (0, 1_000), False),  # nothing waits now
        ((1, 1_000), (1, 1_001), False),
        ((1, 1_001), (1, 1_000), False),  # moved back: somebody set the ledger
        ((None, 1_000), (1, 1_000), False),
        ((1, 1_000), (None, 1_000), False),
    ],
)
async def test_a_partition_is_stalled_by_one_message_that_waits_at_both_times(
    samples: Samples, earlier: tuple[int | None, int], newest: tuple[int | None, int], stalled: bool
) -> None:
    for (lag, at), ago in ((earlier, 310), (newest, 10)):
        await samples.lag(lag, at=at, ago=ago)
    assert (await lag_now(samples))["stalled"] == stalled


@pytest.mark.parametrize(("ago", "counted"), [(299.999, True), (300, False), (300.001, False)])
async def test_work_counts_for_five_minutes(samples: Samples, ago: float, counted: bool) -> None:
    await samples.lag(0)
    await samples.work(0)
    await samples.work(999, 1, ago=ago)
    row = await samples.monitor()
    assert (row["messages_processed"], row["messages_failed"]) == ((999, 1) if counted else (0, 0))
    assert row["error_rate_percent"] == (Decimal("0.1") if counted else None)
    assert await samples.alerts() == ([(TOPIC, "errors", "MONITOR")] if counted else [])


@pytest.mark.parametrize(("ago", "counted"), [(179.999, True), (180, True), (180.001, False)])
async def test_a_lane_counts_for_three_minutes(samples: Samples, ago: float, counted: bool) -> None:
    await samples.lag(0)
    await samples.work(0, state="retrying", ago=ago)
    row = await samples.monitor()
    assert (row["pods"], row["topics_in_trouble"]) == ((1, 1) if counted else (0, 0))
    assert await samples.alerts() == ([(TOPIC, "lane", "INVESTIGATE")] if counted else [])


@pytest.mark.parametrize(("ago", "rate"), [(10, "100"), (190, "10"), (289.999, "6.67"), (290, "6.67"), (299, "6.67")])
async def test_messages_per_second_are_since_the_first_interval_began_and_of_five_minutes_at_most(
    samples: Samples, ago: float, rate: str
) -> None:
    await samples.work(1_500, 500, ago=ago)  # of an interval of 10 s
    assert (await samples.monitor())["messages_per_second"] == Decimal(rate)


NOTHING = "Nothing to do"
SITUATIONS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # what the lag samples say, what the lanes' samples say, what is recommended
    "no pod, and lag": ({"lag": 50_000, "ago": 200}, {"ago": 200}, "No pod reports"),
    "no pod, and a lane that stopped": ({"ago": 200}, {"ago": 200, "state": "stopped"}, "No pod reports"),
    "a lane that stopped, and no lag": ({"ago": 200}, {"state": "stopped"}, "Lanes do not write"),
    "a lane that is paused": ({}, {"state": "paused"}, "Lanes do not write"),
    "no lag": ({"ago": 200}, {}, "No lag is sampled"),
    "unreported, stalled and behind": ({"lag": 50_000, "stalled": True, "stale": True}, {}, "are not reported"),
    "stalled, behind and dead letters": ({"lag": 50_000, "stalled": True}, {"failed": 1}, "Partitions do not move"),
    "stalled": ({"lag": 1, "stalled": True}, {}, "Partitions do not move"),
    "far behind, and dead letters": ({"lag": 10_001}, {"failed": 1}, "Scale out"),
    "behind, and dead letters": ({"lag": 1_001}, {"failed": 1}, "whether the lag falls"),
    "somewhat behind, and dead letters": ({"lag": 1_000}, {"failed": 1}, "ingest dead-letters list"),
    "dead letters": ({}, {"failed": 1}, "ingest dead-letters list"),
    "not in the ledger, and dead letters": ({"lag": None}, {"failed": 1}, "ingest dead-letters list"),
    "somewhat behind": ({"lag": 101}, {}, "Look again in some minutes"),
    "not in the ledger": ({"lag": None}, {}, "Partitions are not in the ledger yet"),
    "well": ({"lag": 100}, {}, NOTHING),
}


@pytest.mark.parametrize(("lags", "lanes", "said"), SITUATIONS.values(), ids=SITUATIONS)
async def test_what_hinders_most_is_recommended_first(
    samples: Samples, lags: dict[str, Any], lanes: dict[str, Any], said: str
) -> None:
    lag = lags.get("lag", 0)
    await samples.lag(lag, ago=lags.get("ago", 5))
    if lags.get("stalled"):
        await samples.lag(lag, ago=310)
    if lags.get("stale"):
        await samples.lag(lag, first=1, ago=200)
    await samples.work(10, **lanes)
    assert said in (await samples.monitor())["recommendation"]


async def test_history_goes_back_thirty_days(samples: Samples) -> None:
    into_the_hour = float(
        await samples.connection.fetchval("SELECT extract(epoch FROM now() - date_trunc('hour', now(), 'UTC'))")
    )
    first = into_the_hour + 719 * 3_600
    await samples.work(1, ago=first + 0.001)  # the hour before
    await samples.work(2, ago=first)
    await samples.work(4, ago=first - 3_599.999)
    await samples.work(8, ago=first - 3_600)
    await samples.work(16, ago=29 * 86_400)
    await samples.work(32, ago=0)
    rows = await samples.read("v_consumer_performance_history")
    assert sorted(row["messages_processed"] for row in rows) == [6, 8, 16, 32]
