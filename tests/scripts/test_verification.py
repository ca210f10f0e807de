"""The commands with which the platform's people verify the consumer give what they say, with the real tools."""

from __future__ import annotations

import asyncio
import subprocess
from urllib.parse import urlsplit

from tests.scripts.conftest import Consumer
from tests.scripts.programs import Programs
from tests.support.waiting import eventually

POOL = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%kafka%'"


def described(programs: Programs, consumer: Consumer) -> dict[int, str]:
    """LAG by partition of the GPS topic, as ``kafka-consumer-groups.sh --describe`` prints it."""
    done = subprocess.run(
        [
            str(programs.bin / "kafka-consumer-groups.sh"), "--bootstrap-server", consumer.stack.kafka,
            "--group", consumer.group, "--describe",
        ],
        env=programs.environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines() if f" {consumer.gps} " in line]
    return {int(row[2]): row[5] for row in rows}


def pool(programs: Programs, consumer: Consumer) -> int:
    """What psql prints, less the connections that other tests have to their own databases."""
    url = urlsplit(consumer.database_url)
    done = subprocess.run(
        [str(programs.bin / "psql"), "-X", "-A", "-t", "-c", f"{POOL} AND datname = current_database()"],
        env=programs.environment(
            PGHOST=str(url.hostname), PGPORT=str(url.port), PGUSER=str(url.username), PGPASSWORD=str(url.password),
            PGDATABASE=url.path[1:],
        ),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return int(done.stdout)


async def test_the_groups_lag_is_seen_falling_and_the_pool_is_counted(consumer: Consumer, programs: Programs) -> None:
    await consumer.produce(20)
    consumer.start()
    await consumer.caught_up()
    assert pool(programs, consumer) >= 2
    consumer.stop()
    await eventually(lambda: asyncio.to_thread(pool, programs, consumer), until=lambda count: count == 0)

    await consumer.produce(2000)
    assert described(programs, consumer) == {0: "2000", 1: "0", 2: "0"}
    consumer.start()

    async def lag() -> dict[int, str]:
        return await asyncio.to_thread(described, programs, consumer)

    await eventually(lag, until=lambda lags: lags == {0: "0", 1: "0", 2: "0"}, within_s=60)
