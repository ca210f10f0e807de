"""The broker's topic is not what it was: cut by retention, made anew, grown, or written by transactions."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete

from tests.acceptance.faults import topics
from tests.acceptance.faults.fault import fault
from tests.acceptance.faults.traffic import Sent
from tests.acceptance.faults.world import PARTITIONS, World
from tests.support import kafka, messages
from tests.support.waiting import eventually

EARLIEST = {"LOOM_KAFKA_ON_MISSING_OFFSETS": "earliest"}


async def _go_on_at_the_earliest(world: World) -> None:
    """As an operator does: the same deployment with the other setting."""
    assert await asyncio.to_thread(world.service.stop, 45) == 0
    world.start_service(**EARLIEST)
    await world.said(world.service, "going on after a gap")
    world.over()


@fault(
    "retention", "retention deletes 60 % of what one partition still holds unread; then LOOM_KAFKA_ON_MISSING_OFFSETS"
)
async def retention(world: World) -> None:
    await world.traffic.quiet()
    await world.caught_up()
    service, name = world.service, world.name(topics.PLAIN)
    at = (await world.ledger(topics.PLAIN))[name, 0]
    assert await asyncio.to_thread(service.stop, 45) == 0
    world.traffic.go_on()
    await world.traffic.more(300)
    await world.traffic.quiet()
    end = (await kafka.end_offsets(world.stand.stack.kafka, name, PARTITIONS))[0]
    to = at + (end - at) * 6 // 10
    async with kafka.admin(world.stand.stack.kafka) as admin:
        await admin.delete_records({TopicPartition(name, 0): RecordsToDelete(before_offset=to)})
    world.missed |= {
        each
        for each in world.traffic.sent
        if (each.topic, each.partition) == (topics.PLAIN.name, 0) and at <= each.offset < to
    }
    world.start_service()
    said = await world.said(world.service, "partition not read")
    assert f"{to - at} offsets from {at} were deleted" in said["reason"], said["reason"]
    await _go_on_at_the_earliest(world)
    (gap,) = await world.sql("SELECT from_offset, to_offset FROM ingest_offset_gaps")
    assert (gap["from_offset"], gap["to_offset"]) == (at, to)
    world.notes.append(f"the {to - at} that the broker deleted unread are recorded in ingest_offset_gaps, not counted")


@fault("topic-anew", "a topic deleted and created anew under a running consumer, and filled; then the same setting")
async def topic_anew(world: World) -> None:
    await world.traffic.quiet()
    await world.caught_up()
    name, service = world.name(topics.PLAIN), world.service
    async with kafka.admin(world.stand.stack.kafka) as admin:
        await admin.delete_topics([name])
        await eventually(admin.list_topics, until=lambda names: name not in names, within_s=60)
    await kafka.create_topics(world.stand.stack.kafka, [name], PARTITIONS)
    sent = [Sent(topics.PLAIN.name, f"{world.suffix}-anew-{number}", "row") for number in range(9)]
    bodies = [messages.encode(messages.plain(each.identity)) for each in sent]
    at = await kafka.produce(world.stand.stack.kafka, name, bodies)
    for each, (partition, offset) in zip(sent, at, strict=True):
        each.partition, each.offset = partition, offset
    said = await world.said(service, "partition not read")
    assert "made anew" in said["reason"], said["reason"]
    world.traffic.sent.extend(sent)
    await _go_on_at_the_earliest(world)


@fault("partition-added", "two partitions added to a topic while producers send", services=2)
async def partition_added(world: World) -> None:
    name = world.name(topics.PLAIN)
    async with kafka.admin(world.stand.stack.kafka) as admin:
        await admin.create_partitions({name: NewPartitions(PARTITIONS + 2)})
    world.counts[topics.PLAIN.name] = PARTITIONS + 2
    world.over()

    async def written() -> list[int]:
        return [partition for (_, partition), offset in (await world.ledger(topics.PLAIN)).items() if offset > 0]

    await eventually(written, until=lambda found: len(found) == PARTITIONS + 2, within_s=120)


@fault("aborted-transactions", "a transactional producer aborts every second one of 20 transactions", services=2)
async def aborted_transactions(world: World) -> None:
    name = world.name(topics.PLAIN)
    async with kafka.producer(world.stand.stack.kafka, transactional_id=f"tx-{world.suffix}") as producer:
        for number in range(20):
            await producer.begin_transaction()
            sent = [Sent(topics.PLAIN.name, f"{world.suffix}-tx-{number}-{each}", "row") for each in range(25)]
            futures = [
                await producer.send(name, messages.encode(messages.plain(each.identity)), partition=number % PARTITIONS)
                for each in sent
            ]
            for each, future in zip(sent, futures, strict=True):
                metadata = await future
                each.partition, each.offset = metadata.partition, metadata.offset
            world.passed[topics.PLAIN.name] = world.passed.get(topics.PLAIN.name, 0) + 1  # the transaction's marker
            if number % 2:
                await producer.abort_transaction()
                world.passed[topics.PLAIN.name] += len(sent)
            else:
                await producer.commit_transaction()
                world.traffic.sent.extend(sent)
    world.over()
