"""``ingest reconcile`` and ``ingest offsets``: what they say is so, and what they do keeps every account closed."""

from __future__ import annotations

import asyncio
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete

from ingest.database import create_plain_engine
from ingest.errors import FatalError
from ingest.inquiry import inquire
from ingest.offsets import carry_out, plan, refuse_active
from ingest.settings import KafkaSettings
from tests.acceptance.conftest import System
from tests.acceptance.test_commands import ingest
from tests.support import kafka, messages
from tests.support.service import service_environment
from tests.support.topics import GPS, PLAIN
from tests.support.waiting import eventually


async def command(system: System, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = service_environment(system.stack, system.database_url, system.suffix, **changes)
    return await asyncio.to_thread(ingest, environment, *arguments)


def rows_of(output: str) -> dict[tuple[str, int], list[str]]:
    """Topic and partition → the cells of its line of a table."""
    found: dict[tuple[str, int], list[str]] = {}
    topic = ""
    for line in output.splitlines():
        if line and not line.startswith(" "):
            topic = line
        elif cells := re.fullmatch(r" +(\d+) +(\S.*)", line):
            found[topic, int(cells[1])] = cells[2].split()
    return found


def plain(prefix: str, numbers: range) -> list[dict[str, Any]]:
    return [messages.plain(f"{prefix}{number}") for number in numbers]


async def stopped_after(system: System, *topics: Any, **changes: str) -> None:
    """Runs a service until it has caught up."""
    service = system.service(**changes)
    await system.caught_up(topics)
    assert service.stop() == 0


async def test_the_account_closes_over_all_that_a_partition_meets(system: System) -> None:
    """Duplicates, dead letters, control records, an aborted transaction, and a retention gap; while it runs, too."""
    name = system.topic(GPS)
    body = [messages.gps(number) for number in range(20)]
    await system.produce(GPS, [*body, *body[:7], b"bad", b"worse"], partition=0)
    async with kafka.producer(system.stack.kafka, transactional_id=f"tx-{system.suffix}") as producer:
        for kept in (True, False):
            await producer.begin_transaction()
            for number in range(20, 25):
                await producer.send(name, messages.encode(messages.gps(number)), partition=0)
            await (producer.commit_transaction() if kept else producer.abort_transaction())
    service = system.service()
    await system.caught_up([GPS])
    running = await command(system, "reconcile")
    assert running.returncode == 0, running.stdout
    assert service.stop() == 0
    assert rows_of(running.stdout)[name, 0] == ["0", "25", "7", "2", "7", "0", "41", "0", "closes"]
    assert "no findings" in running.stdout

    await system.produce(GPS, [messages.gps(number) for number in range(100, 130)], partition=0)
    async with kafka.admin(system.stack.kafka) as admin:
        await admin.delete_records({TopicPartition(name, 0): RecordsToDelete(before_offset=61)})
    gap = await command(system, "reconcile", name)
    assert gap.returncode == 1
    assert "offsets 41 to 60 are gone from the broker and were not read. Nothing is read until you decide" in gap.stdout
    await stopped_after(system, GPS, LOOM_KAFKA_ON_MISSING_OFFSETS="earliest")
    after = await command(system, "reconcile", name)
    assert (after.returncode, after.stderr) == (0, ""), after.stdout
    assert rows_of(after.stdout)[name, 0] == ["0", "35", "7", "2", "7", "20", "71", "0", "closes"]
    assert "moved from 41 to 61: " in after.stdout


async def test_a_row_that_was_moved_by_hand_is_found(system: System) -> None:
    name = system.topic(PLAIN)
    await system.produce(PLAIN, plain("a", range(50)), partition=0)
    await stopped_after(system, PLAIN)
    await system.sql("UPDATE ingest_offsets SET next_offset = 30 WHERE topic = $1 AND partition = 0", name)
    found = await command(system, "reconcile")
    assert found.returncode == 1
    assert rows_of(found.stdout)[name, 0][-3:] == ["30", "20", "-20"]
    (said,) = [line for line in found.stdout.splitlines() if "FOUND" in line]
    assert "the account does not close: next offset 30 is 20 short of 50" in said
    assert "1 finding" in found.stdout.splitlines()[-1]


async def test_dead_letters_are_compared_with_the_ledgers_count(system: System) -> None:
    name = system.topic(GPS)
    await system.produce(GPS, [b"bad", b"worse", messages.gps(1)], partition=0)
    await stopped_after(system, GPS)
    columns = "consumer_group, topic, partition, kafka_offset, kafka_timestamp, stage, reason, error, attempts"
    letter = f"INSERT INTO ingest_dead_letters ({columns}) SELECT {columns} FROM ingest_dead_letters"  # noqa: S608
    await system.sql(f"{letter} WHERE kafka_offset = 0")
    found = await command(system, "reconcile", name)
    assert found.returncode == 1
    assert "more dead letters, 3, than the ledger counted, 2" in found.stdout
    assert "offset 0 became a dead letter more often than it was read" in found.stdout
    await system.sql("DELETE FROM ingest_dead_letters WHERE kafka_offset = 0")
    deleted = await command(system, "reconcile", name)
    assert deleted.returncode == 0
    assert "note  partition 0: 1 of 2 dead letters were deleted" in deleted.stdout


async def test_what_is_not_begun_lost_or_without_a_broker_is_said(system: System) -> None:
    name = system.topic(PLAIN)
    await system.produce(PLAIN, plain("a", range(10)), partition=0)
    fresh = await command(system, "reconcile", name)
    assert fresh.returncode == 0
    assert "note  partition 0: not begun; reading begins at offset 0, its earliest" in fresh.stdout
    await stopped_after(system, PLAIN)
    await system.sql("DELETE FROM ingest_offsets WHERE topic = $1 AND partition = 0", name)
    lost = await command(system, "reconcile", name)
    assert (lost.returncode, "The ledger is lost, or this is another database" in lost.stdout) == (1, True)
    await system.sql("UPDATE ingest_offsets SET first_offset = NULL WHERE topic = $1 AND partition = 1", name)
    old = await command(system, "offsets", "set", f"{name}:0", "--to-offset", "10", "--execute")
    assert (old.returncode, old.stderr) == (0, "")
    before = await command(system, "reconcile", name)
    assert (before.returncode, "2 of 2 accounts close, 1 can't be judged" in before.stdout) == (0, True), before.stdout
    async with kafka.admin(system.stack.kafka) as admin:
        await admin.delete_topics([name])
        await eventually(admin.list_topics, until=lambda names: name not in names)
    gone = await command(system, "reconcile", name)
    assert gone.returncode == 1
    assert "partition 0: the broker has no such partition, and the ledger stands at 10 in it" in gone.stdout


async def test_offsets_are_not_set_while_a_process_of_the_group_runs(system: System) -> None:
    await system.produce(PLAIN, plain("a", range(20)), partition=0)
    service = system.service()
    await system.caught_up([PLAIN])
    for execute in ((), ("--execute",)):
        refused = await command(system, "offsets", "set", f"{system.topic(PLAIN)}:0", "--to-earliest", *execute)
        assert refused.returncode == 4
        assert f"group {system.group} is active (Stable: loom-ingest-kafka-" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    await system.caught_up([PLAIN])
    assert await system.sql("SELECT 1 FROM ingest_offset_gaps") == []
    assert service.stop() == 0


async def test_a_rewind_brings_duplicates_where_there_is_a_key_and_closes(system: System) -> None:
    name = system.topic(GPS)
    await system.produce(GPS, [*(messages.gps(number) for number in range(30)), b"bad"], partition=0)
    await stopped_after(system, GPS)
    before = await system.sql("SELECT * FROM ingest_offsets ORDER BY topic, partition")
    dry = await command(system, "offsets", "set", f"{name}:0", "--to-offset", "20")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert f"{name}:0  31 → 20: offsets 20 to 30 are read again: as duplicates" in dry.stdout
    assert "dry run: nothing was changed" in dry.stdout
    assert await system.sql("SELECT * FROM ingest_offsets ORDER BY topic, partition") == before

    done = await command(system, "offsets", "set", f"{name}:0", "--to-offset", "20", "--execute")
    assert (done.returncode, "done in group" in done.stdout) == (0, True)
    shown = await command(system, "offsets", "show", name)
    assert rows_of(shown.stdout)[name, 0][:5] == ["20", "11", "0", "31", "31"]
    ahead = await command(system, "reconcile", name)
    assert (ahead.returncode, "committed offset 31 is ahead of the ledger" in ahead.stdout) == (0, True), ahead.stdout
    await stopped_after(system, GPS)
    assert await system.account(GPS) == (30, 10, 2)
    # The bad message is a dead letter once more: it was read again.
    after = await command(system, "reconcile", name)
    assert (after.returncode, after.stderr) == (0, ""), after.stdout
    assert rows_of(after.stdout)[name, 0] == ["0", "30", "10", "2", "0", "-11", "31", "0", "closes"]
    assert "moved from 31 to 20: set from 31 to 20 by `ingest offsets set`" in after.stdout


async def test_offsets_are_set_forward_to_a_time_and_to_either_end(system: System) -> None:
    name = system.topic(PLAIN)
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    async with kafka.producer(system.stack.kafka) as producer:
        for number in range(20):
            body = messages.encode(messages.plain(f"m{number}"))
            time_ms = int(begin.timestamp() + number) * 1000
            await producer.send(name, body, partition=0, timestamp_ms=time_ms)
        await producer.flush()
    await stopped_after(system, PLAIN)
    at = (begin + timedelta(seconds=12)).isoformat()

    async def set_to(*target: str) -> str:
        done = await command(system, "offsets", "set", name, *target, "--execute")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert f"{name}:0  20 → 12: offsets 12 to 19 are read again: its rows are written once more" in await set_to(
        "--to-datetime", at
    )
    assert f"{name}:0  12 → 20: offsets 12 to 19 are never read" in await set_to("--to-datetime", "2099-01-01T00:00Z")
    assert f"{name}:0  20 → 0: offsets 0 to 19 are read again" in await set_to("--to-earliest")
    said = await set_to("--to-latest")
    assert f"{name}:0  0 → 20: offsets 0 to 19 are never read" in said
    assert f"{name}:1  stands at 0 already" in said
    gaps = await system.sql("SELECT partition, from_offset, to_offset FROM ingest_offset_gaps ORDER BY id")
    assert [tuple(gap.values()) for gap in gaps] == [(0, 20, 12), (0, 12, 20), (0, 20, 0), (0, 0, 20)]
    await system.produce(PLAIN, plain("next", range(1)), partition=0)
    await stopped_after(system, PLAIN)
    assert await system.account(PLAIN) == (21, 0, 0)
    after = await command(system, "reconcile", name)
    assert rows_of(after.stdout)[name, 0] == ["0", "21", "0", "0", "0", "0", "21", "0", "closes"]


async def test_a_process_that_joins_while_offsets_are_being_set_keeps_them_from_it(system: System) -> None:
    """It comes after the first look at the group and before the ledger is locked."""
    name, group = system.topic(PLAIN), system.group
    await system.produce(PLAIN, plain("a", range(20)), partition=0)
    await stopped_after(system, PLAIN)
    settings = KafkaSettings(bootstrap_servers=system.stack.kafka, group_id=group)
    engine = create_plain_engine(system.database_url, application_name="setting")
    holder = await asyncpg.connect(system.database_url)
    member = AIOKafkaConsumer(name, bootstrap_servers=system.stack.kafka, group_id=group, enable_auto_commit=False)
    try:
        async with inquire(settings) as inquiry:
            steps = await plan(engine, inquiry, group, name, 0, 5)
            await refuse_active(inquiry, group)
            holding = holder.transaction()
            await holding.start()
            await holder.execute("SELECT 1 FROM ingest_offsets FOR UPDATE")
            setting = asyncio.create_task(carry_out(engine, inquiry, group, name, steps))
            waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'setting' AND wait_event_type = 'Lock'"
            await eventually(lambda: system.sql(waits))
            await member.start()
            await eventually(inquiry.group, until=lambda found: found.active)
            await holding.rollback()
            with pytest.raises(FatalError, match="is active"):
                await setting
    finally:
        await member.stop()
        await holder.close()
        await engine.dispose()
    (row,) = await system.sql("SELECT next_offset FROM ingest_offsets WHERE topic = $1 AND partition = 0", name)
    assert row["next_offset"] == 20
    assert await system.sql("SELECT 1 FROM ingest_offset_gaps") == []


async def test_what_the_broker_does_not_have_gets_one_line_and_changes_nothing(system: System) -> None:
    name = system.topic(PLAIN)
    await system.produce(PLAIN, plain("a", range(5)), partition=0)
    for place, offset, said in (
        (f"{name}:9", "0", f"the broker has no partition 9 of {name}"),
        (f"{name}:0", "6", f"offset 6 of {name} is not on the broker: partition 0 holds 0 to 5"),
    ):
        refused = await command(system, "offsets", "set", place, "--to-offset", offset, "--execute")
        assert (refused.returncode, said in refused.stderr) == (4, True), refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert await system.sql("SELECT 1 FROM ingest_offsets") == []
    away = await command(system, "reconcile", LOOM_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (away.returncode, "is LOOM_KAFKA_BOOTSTRAP_SERVERS right" in away.stderr) == (4, True)
    assert len(away.stderr.splitlines()) == 1
