"""``ingest reconcile`` and ``ingest offsets``: what they say is so, and what they do keeps every account closed."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import standing
from ingest.database import create_plain_engine
from ingest.errors import FatalError
from ingest.inquiry import Inquiry, inquire
from ingest.offsets import Step, Target, carry_out, plan, refuse_active
from ingest.reconcile import closes, judge
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


@asynccontextmanager
async def asking(system: System) -> AsyncIterator[tuple[AsyncEngine, Inquiry]]:
    """What a command asks with, without the start of a process for each."""
    engine = create_plain_engine(system.database_url, application_name="asking")
    try:
        async with inquire(kafka_settings(system)) as inquiry:
            yield engine, inquiry
    finally:
        await engine.dispose()


def kafka_settings(system: System) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=system.stack.kafka, group_id=system.group)


async def said(system: System, topic: Any) -> tuple[dict[int, str], list[str]]:
    """Partition → how its account is, and the findings and notes about the topic."""
    async with asking(system) as (engine, inquiry):
        database_id, found = await standing.read(engine, inquiry, system.group, [system.topic(topic)])
    remarks = judge(found, kafka_settings(system), database_id)
    accounts = {each.partition: closes(each.row) for each in found if each.row is not None}
    return accounts, [f"{'FOUND' if each.finding else 'note'} {each.partition}: {each.text}" for each in remarks]


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
    _, remarks = await said(system, GPS)
    assert remarks == [
        "FOUND 0: offsets 41 to 60 are gone from the broker and were not read. Nothing is read until you decide"
    ]
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
    (line,) = [line for line in found.stdout.splitlines() if "FOUND" in line]
    assert "the account does not close: next offset 30 is 20 short of 50" in line
    assert "1 finding" in found.stdout.splitlines()[-1]


async def test_dead_letters_are_compared_with_the_ledgers_count(system: System) -> None:
    await system.produce(GPS, [b"bad", b"worse", messages.gps(1)], partition=0)
    await stopped_after(system, GPS)
    columns = "consumer_group, topic, partition, kafka_offset, kafka_timestamp, stage, reason, error, attempts"
    letter = f"INSERT INTO ingest_dead_letters ({columns}) SELECT {columns} FROM ingest_dead_letters"  # noqa: S608
    await system.sql(f"{letter} WHERE kafka_offset = 0")
    _, remarks = await said(system, GPS)
    assert remarks == [
        "FOUND 0: there are more dead letters, 3, than the ledger counted, 2",
        "FOUND 0: offset 0 became a dead letter more often than it was read",
    ]
    # As a producer leaves it that fills in microseconds; brokers before 4.0 take any time.
    odd = "kafka_timestamp = 1795723200123456 WHERE kafka_offset = 1 RETURNING id"
    (row,) = await system.sql(f"UPDATE ingest_dead_letters SET {odd}")  # noqa: S608
    await system.sql("UPDATE ingest_offsets SET last_timestamp = 1795723200123456 WHERE partition = 0")
    for arguments in (("dead-letters", "show", str(row["id"])), ("offsets", "show")):
        shown = await command(system, *arguments)
        assert (shown.returncode, "1795723200123456 ms" in shown.stdout) == (0, True), shown
    await system.sql("DELETE FROM ingest_dead_letters WHERE kafka_offset = 0")
    _, remarks = await said(system, GPS)
    assert remarks == ["note 0: 1 of 2 dead letters were deleted"]


async def test_dead_letters_of_a_lost_row_are_no_fault_of_the_one_that_was_made_again(system: System) -> None:
    name = system.topic(GPS)
    await system.produce(GPS, [b"bad", messages.gps(1), b"worse", messages.gps(2)], partition=0)
    await stopped_after(system, GPS)
    await system.sql("DELETE FROM ingest_offsets WHERE topic = $1 AND partition = 0", name)
    for place in ("--to-latest", "--to-earliest"):
        made = await command(system, "offsets", "set", f"{name}:0", place, "--execute")
        assert (made.returncode, made.stderr) == (0, "")
        await stopped_after(system, GPS)
        accounts, remarks = await said(system, GPS)
        assert accounts[0] == "closes"
        assert [remark for remark in remarks if remark.startswith("FOUND")] == []
        assert "the others are older than its row's account" in remarks[0]
    assert remarks[0].startswith("note 0: there are 4 dead letters, and the ledger counted 2")
    (row,) = await system.sql("SELECT first_offset FROM ingest_offsets WHERE topic = $1 AND partition = 0", name)
    assert row["first_offset"] == 4


async def test_what_is_not_begun_lost_or_without_a_broker_is_said(system: System) -> None:
    name = system.topic(PLAIN)
    await system.produce(PLAIN, plain("a", range(10)), partition=0)
    accounts, remarks = await said(system, PLAIN)
    assert (accounts, remarks[0]) == ({}, "note 0: not begun; reading begins at offset 0, its earliest")
    await stopped_after(system, PLAIN)
    await system.sql("DELETE FROM ingest_offsets WHERE topic = $1 AND partition = 0", name)
    await system.sql("UPDATE ingest_offsets SET first_offset = NULL WHERE topic = $1 AND partition = 1", name)
    accounts, (lost, old) = await said(system, PLAIN)
    assert accounts == {1: "unknown", 2: "closes"}
    assert lost.startswith("FOUND 0: nothing is read: offset 10 was committed from the ledger of database ")
    assert old.startswith("note 1: its row is from before accounts")
    restored = await command(system, "offsets", "set", f"{name}:0", "--to-offset", "10", "--execute")
    assert (restored.returncode, restored.stderr) == (0, "")
    again = await command(system, "reconcile", name)
    assert (again.returncode, "2 of 2 accounts close, 1 can't be judged" in again.stdout) == (0, True), again.stdout
    async with kafka.admin(system.stack.kafka) as admin:
        await admin.delete_topics([name])
        await eventually(admin.list_topics, until=lambda names: name not in names)
    _, remarks = await said(system, PLAIN)
    assert remarks[0].startswith("FOUND 0: the broker has no such partition, or does not show it")
    assert remarks[0].endswith("the ledger stands at 10 in it")


async def test_offsets_are_not_set_while_a_process_of_the_group_runs(system: System) -> None:
    await system.produce(PLAIN, plain("a", range(20)), partition=0)
    service = system.service()
    await system.caught_up([PLAIN])
    active = f"group {system.group} is active (Stable: loom-ingest-kafka-"
    arguments = ("offsets", "set", f"{system.topic(PLAIN)}:0", "--to-earliest")
    refused = await command(system, *arguments, "--execute")
    assert (refused.returncode, active in refused.stderr, refused.stdout) == (4, True, "")
    assert len(refused.stderr.splitlines()) == 1
    looked = await command(system, *arguments)
    assert (looked.returncode, active in looked.stdout, looked.stderr) == (0, True, "")
    assert f"{system.topic(PLAIN)}:0  20 → 0: offsets 0 to 19 are read again" in looked.stdout
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
    _, (ahead, moved) = await said(system, GPS)
    assert ahead.startswith("note 0: committed offset 31 is ahead of the ledger")
    assert moved.endswith("moved from 31 to 20: set from 31 to 20 by `ingest offsets set`")
    await stopped_after(system, GPS)
    assert await system.account(GPS) == (30, 10, 2)
    # The bad message is a dead letter once more: it was read again.
    after = await command(system, "reconcile", name)
    assert (after.returncode, after.stderr) == (0, ""), after.stdout
    assert rows_of(after.stdout)[name, 0] == ["0", "30", "10", "2", "0", "-11", "31", "0", "closes"]


async def test_offsets_are_set_forward_to_a_time_and_to_either_end(system: System) -> None:
    name = system.topic(PLAIN)
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    async with kafka.producer(system.stack.kafka) as producer:
        for number in range(20):
            body = messages.encode(messages.plain(f"m{number}"))
            time_ms = int(begin.timestamp() + number) * 1000
            await producer.send(name, body, partition=0, timestamp_ms=time_ms)
        await producer.flush()

    async def set_to(target: Target) -> list[tuple[int | None, int]]:
        async with asking(system) as (engine, inquiry):
            steps = await plan(engine, inquiry, system.group, name, None, target)
            await carry_out(engine, inquiry, system.group, name, steps)
            with pytest.raises(FatalError, match="has moved since it was read; nothing was changed"):
                await carry_out(engine, inquiry, system.group, name, steps)
        return [(step.from_offset, step.to_offset) for step in steps]

    assert await set_to("latest") == [(None, 20), (None, 0), (None, 0)]  # makes the rows
    assert await set_to(begin + timedelta(seconds=12)) == [(20, 12), (0, 0), (0, 0)]
    assert await set_to(begin + timedelta(days=9)) == [(12, 20), (0, 0), (0, 0)]
    assert await set_to("earliest") == [(20, 0), (0, 0), (0, 0)]
    assert await set_to("latest") == [(0, 20), (0, 0), (0, 0)]
    gaps = await system.sql("SELECT partition, from_offset, to_offset FROM ingest_offset_gaps ORDER BY id")
    assert [tuple(gap.values()) for gap in gaps] == [(0, 20, 12), (0, 12, 20), (0, 20, 0), (0, 0, 20)]
    await system.produce(PLAIN, plain("next", range(1)), partition=0)
    await stopped_after(system, PLAIN)
    assert await system.account(PLAIN) == (1, 0, 0)
    accounts, remarks = await said(system, PLAIN)
    assert accounts == dict.fromkeys(range(3), "closes")
    assert [remark.startswith("note 0: ") for remark in remarks] == [True] * 4


async def test_what_a_former_system_committed_is_not_skipped_or_repeated_without_trace(system: System) -> None:
    name = system.topic(PLAIN)
    for partition in range(3):
        await system.produce(PLAIN, plain(f"{partition}-", range(9)), partition=partition)
    former = AIOKafkaConsumer(bootstrap_servers=system.stack.kafka, group_id=system.group, enable_auto_commit=False)
    await former.start()
    former.assign([TopicPartition(name, 0), TopicPartition(name, 1)])
    await former.commit({TopicPartition(name, 0): 5, TopicPartition(name, 1): 9})
    await former.stop()
    done = await command(system, "offsets", "set", name, "--to-latest", "--execute")
    assert (done.returncode, done.stderr) == (0, "")
    assert "begins at 9, and the group had committed 5: offsets 5 to 8 are never read" in done.stdout
    (gap,) = await system.sql("SELECT partition, from_offset, to_offset, reason FROM ingest_offset_gaps")
    assert list(gap.values()) == [0, 5, 9, "set from 5, which the group had committed, to 9 by `ingest offsets set`"]
    rows = await system.sql("SELECT first_offset, moved, next_offset FROM ingest_offsets ORDER BY partition")
    assert [tuple(row.values()) for row in rows] == [(5, 4, 9), (9, 0, 9), (9, 0, 9)]
    accounts, _ = await said(system, PLAIN)
    assert accounts == dict.fromkeys(range(3), "closes")


async def test_a_process_that_joins_while_offsets_are_being_set_keeps_them_from_it(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the first look at the group and before the ledger is locked."""
    # The lock is held until the process has joined, which may take longer than an operator would be kept waiting.
    monkeypatch.setattr("ingest.offsets._LOCK_TIMEOUT", text("SET LOCAL lock_timeout = '120s'"))
    name, group = system.topic(PLAIN), system.group
    await system.produce(PLAIN, plain("a", range(20)), partition=0)
    async with asking(system) as (engine, inquiry):
        await carry_out(engine, inquiry, group, name, [Step(0, None, 20)])
    holder = await asyncpg.connect(system.database_url)
    member = AIOKafkaConsumer(name, bootstrap_servers=system.stack.kafka, group_id=group, enable_auto_commit=False)
    try:
        async with asking(system) as (engine, inquiry):
            steps = await plan(engine, inquiry, group, name, 0, 5)
            await refuse_active(inquiry, group)
            holding = holder.transaction()
            await holding.start()
            await holder.execute("SELECT 1 FROM ingest_offsets FOR UPDATE")
            setting = asyncio.create_task(carry_out(engine, inquiry, group, name, steps))
            waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'asking' AND wait_event_type = 'Lock'"
            await eventually(lambda: system.sql(waits))
            await member.start()
            await eventually(inquiry.group, until=lambda found: found.active)
            await holding.rollback()
            with pytest.raises(FatalError, match="is active"):
                await setting
    finally:
        await member.stop()
        await holder.close()
    (row,) = await system.sql("SELECT next_offset FROM ingest_offsets WHERE topic = $1 AND partition = 0", name)
    assert row["next_offset"] == 20
    assert await system.sql("SELECT 1 FROM ingest_offset_gaps") == []


async def test_what_the_broker_does_not_have_gets_one_line_and_changes_nothing(system: System) -> None:
    name = system.topic(PLAIN)
    await system.produce(PLAIN, plain("a", range(5)), partition=0)
    async with asking(system) as (engine, inquiry):
        with pytest.raises(FatalError, match=f"the broker has no partition 9 of {name}"):
            await plan(engine, inquiry, system.group, name, 9, 0)
    refused = await command(system, "offsets", "set", f"{name}:0", "--to-offset", "6", "--execute")
    assert refused.returncode == 4
    assert f"offset 6 of {name} is not on the broker: partition 0 holds 0 to 5" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert await system.sql("SELECT 1 FROM ingest_offsets") == []
    away = await command(system, "reconcile", LOOM_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (away.returncode, "is LOOM_KAFKA_BOOTSTRAP_SERVERS right" in away.stderr) == (4, True)
    assert len(away.stderr.splitlines()) == 1
