"""One bad or slow topic does not stop the others."""

from __future__ import annotations

import json
import subprocess
import sys
from urllib.parse import urlsplit

import asyncpg
import psutil
from aiokafka import TopicPartition

from tests.acceptance.conftest import PARTITIONS, System
from tests.support import kafka, messages, proxy
from tests.support.database import ROOT
from tests.support.topics import EMOTIONS, GPS, PLAIN
from tests.support.waiting import eventually

BATCH, POLL = 100, 50


async def test_a_topic_whose_table_is_gone_stops_alone_and_goes_on_by_itself(system: System) -> None:
    service = system.service()
    service.wait_until_said("partitions assigned")
    await system.sql("ALTER TABLE device_sensor_gps_raw RENAME TO elsewhere")
    await system.produce(GPS, [messages.gps(number) for number in range(50)])
    stopped = service.wait_until_said("lane stopped")
    assert stopped["topic"] == system.topic(GPS)
    assert "42P01" in stopped["reason"]
    await system.produce(EMOTIONS, [messages.emotion(number) for number in range(50)])
    await system.caught_up([EMOTIONS])
    status, body = service.page("/readyz")
    assert (status, list(json.loads(body)["degraded"])) == (200, [system.topic(GPS)])
    assert service.metric("ingest_lane_state", topic=system.topic(GPS), state="stopped") == 1
    await system.sql("ALTER TABLE elsewhere RENAME TO device_sensor_gps_raw")
    await system.caught_up([GPS])  # within 30 s, when it tries again
    assert await system.account(GPS) == (50, 0, 0)
    assert await system.sql("SELECT * FROM ingest_dead_letters") == []


async def test_a_lane_in_trouble_keeps_no_more_than_its_batches_and_holds_back_only_itself(system: System) -> None:
    database = urlsplit(system.database_url).path[1:]
    await system.sql(f"ALTER DATABASE {database} SET statement_timeout = '2s'")  # or a lock is waited for 20 s
    service = system.service(
        LOOM_KAFKA_BATCH_SIZE="50",
        LOOM_KAFKA_MAX_POLL_RECORDS=str(POLL),
        LOOM_BATCH_MAX_MESSAGES=str(BATCH),
        LOOM_KAFKA_MAX_PARTITION_FETCH_BYTES="262144",
    )
    await system.produce(PLAIN, [messages.plain(f"a{number}") for number in range(30)])
    await system.caught_up([PLAIN])
    process, topic = psutil.Process(service.process.pid), system.topic(PLAIN)
    before = process.memory_info().rss
    migration = await asyncpg.connect(system.database_url)
    async with migration.transaction():
        await migration.execute("LOCK TABLE test_plain IN ACCESS EXCLUSIVE MODE")
        await system.produce(PLAIN, [messages.plain(f"b{number}" + "x" * 20_000) for number in range(3_000)])
        service.wait_until_said("can't write")
        await system.produce(GPS, [messages.gps(number) for number in range(200)])
        await system.caught_up([GPS])

        async def failures() -> float:
            return service.metric("ingest_write_failures_total", topic=topic, failure="transient")

        async def committed(of: str) -> int:
            """What a lag tool sees: the sum over the partitions."""
            wanted = [TopicPartition(of, number) for number in range(PARTITIONS)]
            async with kafka.admin(system.stack.kafka) as admin:
                found = await admin.list_consumer_group_offsets(system.group, partitions=wanted)
            return sum(max(each.offset, 0) for each in found.values())

        await eventually(failures, until=lambda count: count >= 3)
        await eventually(lambda: committed(system.topic(GPS)), until=lambda offset: offset == 200)
        assert await committed(topic) == 30  # what is read is not committed before it is written
        # One batch is being written, one is full, and each may be over by one poll.
        assert BATCH <= service.metric("ingest_messages_buffered", topic=topic) <= 2 * (BATCH + POLL)
        assert process.memory_info().rss - before < 30 * 2**20  # of the backlog's 60 MB
        status, body = service.page("/readyz")
        assert (status, json.loads(body)["degraded"][topic].partition(":")[0]) == (200, "retrying")
        assert service.page("/healthz")[0] == 200
        assert len([line for line in service.said("can't write") if line["topic"] == topic]) == 1
        assert len(service.said("partitions assigned")) == 1
    await migration.close()
    await system.caught_up([PLAIN])
    assert await system.account(PLAIN) == (3_030, 0, 0)
    assert await system.sql("SELECT * FROM ingest_dead_letters") == []


async def test_one_cause_that_rejects_everything_opens_the_fuse_until_somebody_accepts(system: System) -> None:
    # One read must not bring them all: they would be one batch, and the fuse wants two.
    service = system.service(LOOM_KAFKA_BATCH_SIZE="10", LOOM_BATCH_MAX_MESSAGES="60", LOOM_KAFKA_MAX_POLL_RECORDS="60")
    service.wait_until_said("partitions assigned")
    bad = [messages.plain("x") | {"timestamp": "2026-03-01T12:00:00"} for _ in range(400)]
    await system.produce(PLAIN, bad)
    opened = service.wait_until_said("fuse opened")
    assert "timezone_aware at timestamp" in opened["reason"]
    before = (await system.account(PLAIN))[2]
    assert before < 400
    await system.produce(GPS, [messages.gps(number) for number in range(50)])
    await system.caught_up([GPS])
    _, body = service.page("/readyz")
    assert json.loads(body)["degraded"][system.topic(PLAIN)].startswith("fuse_open")
    (fuse,) = await system.sql("SELECT topic, cause FROM ingest_fuses")
    assert fuse == {"topic": system.topic(PLAIN), "cause": "contract timezone_aware timestamp"}
    assert (await system.account(PLAIN))[2] == before  # nothing moved meanwhile

    refused = _command(system, "resume", system.topic(PLAIN))
    assert (refused.returncode, "--accept" in refused.stderr) == (2, True)
    accepted = _command(system, "resume", system.topic(PLAIN), "--accept")
    assert accepted.returncode == 0, accepted.stderr
    await system.caught_up([PLAIN])
    assert await system.account(PLAIN) == (0, 0, 400)


async def test_a_lone_bad_message_on_a_quiet_topic_never_opens_the_fuse(system: System) -> None:
    service = system.service()
    service.wait_until_said("partitions assigned")
    for number in range(3):
        await system.produce(PLAIN, [b"{"])
        await system.written(PLAIN, number + 1)
    assert await system.account(PLAIN) == (0, 0, 3)
    assert not service.said("fuse opened")


async def test_a_paused_topic_is_held_in_every_process_until_it_is_resumed(system: System) -> None:
    first = system.service()
    first.wait_until_said("partitions assigned")
    await system.produce(PLAIN, [messages.plain(f"a{number}") for number in range(20)])
    await system.caught_up([PLAIN])
    topic = system.topic(PLAIN)
    paused = _command(system, "pause", topic)
    assert (paused.returncode, paused.stderr) == (0, "")
    first.wait_until_said("lane paused")
    await system.produce(PLAIN, [messages.plain(f"b{number}") for number in range(20)])
    await system.produce(GPS, [messages.gps(number) for number in range(20)])
    second = system.service()  # one that starts meanwhile holds it from the beginning
    second.wait_until_said("lane paused")
    second.wait_until_said("partitions assigned", within_s=60)
    await system.caught_up([GPS])
    for service in (first, second):
        status, body = service.page("/readyz")
        assert (status, json.loads(body)["degraded"][topic].partition(":")[0]) == (200, "paused")
        assert service.metric("ingest_lane_state", topic=topic, state="paused") == 1
    assert await system.account(PLAIN) == (20, 0, 0)

    resumed = _command(system, "resume", topic)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    await system.caught_up([PLAIN])
    assert await system.account(PLAIN) == (40, 0, 0)
    assert service.metric("ingest_lane_state", topic=topic, state="running") == 1
    assert [_command(system, *words).returncode for words in (("resume", topic), ("pause", "no.such.topic"))] == [2, 2]


async def test_no_lane_begins_before_it_is_known_whether_it_is_paused(system: System) -> None:
    await system.produce(PLAIN, [messages.plain(f"a{number}") for number in range(20)])
    await system.produce(GPS, [messages.gps(number) for number in range(20)])
    await system.sql("INSERT INTO ingest_pauses VALUES ($1, $2)", system.group, system.topic(PLAIN))
    with proxy.to(system.database_url) as between:
        between.once(b"FROM ingest_pauses", "reset")
        service = system.service(LOOM_DATABASE_URL=proxy.through(system.database_url, between))
        service.wait_until_said("no lane begins before the ledger can be read; trying again")
        service.wait_until_said("lane paused")
        await system.caught_up([GPS])
        assert await system.account(PLAIN) == (0, 0, 0)
        assert service.stop() == 0


async def test_counters_close_the_account(system: System) -> None:
    service = system.service()
    bodies = [messages.emotion(number % 80) for number in range(100)]
    await system.produce(EMOTIONS, [*bodies, b"bad", messages.emotion(99, confidence_score=2), b"\xff"])
    await system.caught_up([EMOTIONS])
    topic = system.topic(EMOTIONS)

    def counters() -> tuple[float, ...]:
        names = ("read", "written", "duplicate", "dead_lettered", "dropped")
        return tuple(service.metric(f"ingest_messages_{name}_total", topic=topic) for name in names)

    assert counters() == (103, 80, 20, 3, 0)
    assert await system.account(EMOTIONS) == (80, 20, 3)
    assert service.metric("ingest_messages_buffered", topic=topic) == 0

    async def lag() -> float:
        return service.metric("ingest_lag_messages", topic=topic) + service.metric("ingest_lag_seconds", topic=topic)

    await eventually(lag, until=lambda found: found == 0)


async def test_unknown_fields_are_counted_and_their_messages_written(system: System) -> None:
    service = system.service()
    await system.produce(GPS, [messages.gps(1, satellites=7), messages.gps(2, satellites=8, **{"\x00odd": 1})])
    await system.caught_up([GPS])
    assert await system.account(GPS) == (2, 0, 0)
    assert service.metric("ingest_unknown_fields_total", topic=system.topic(GPS), field="satellites") == 2


def _command(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ingest", *arguments],
        env=system.services[0].environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
