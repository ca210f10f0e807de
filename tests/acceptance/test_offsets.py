"""From where a partition is read: nothing is skipped or repeated silently."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests.acceptance.conftest import PARTITIONS, System
from tests.support import kafka, messages
from tests.support.topics import EMOTIONS, GPS, PLAIN
from tests.support.waiting import eventually


def plain(prefix: str, count: int) -> list[dict[str, Any]]:
    return [messages.plain(f"{prefix}-{number}") for number in range(count)]


async def test_committed_offsets_carry_the_databases_marker(system: System) -> None:
    service = system.service()
    await system.produce(PLAIN, plain("a", 30), partition=1)
    await system.caught_up([PLAIN])
    (database,) = await system.sql("SELECT id::text FROM ingest_database")
    assert service.stop() == 0
    wanted = TopicPartition(system.topic(PLAIN), 1)
    async with kafka.admin(system.stack.kafka) as admin:
        found = await admin.list_consumer_group_offsets(system.group, partitions=[wanted])
    assert found[wanted] == (30, f"loom-ledger:{database['id']}")


async def test_a_lost_ledger_stops_the_topic_with_an_error_that_says_so(system: System) -> None:
    first = system.service()
    await system.produce(PLAIN, plain("a", 30))
    await system.caught_up([PLAIN])
    assert first.stop() == 0
    await system.sql("DELETE FROM ingest_offsets WHERE topic = $1", system.topic(PLAIN))
    second = system.service()
    await system.produce(PLAIN, plain("b", 30))
    said = second.wait_until_said("partition not read")
    assert "the ledger is lost, or this is another database" in said["reason"]
    # The other topics go on, and nothing of this one is written.
    await system.produce(GPS, [messages.gps(number) for number in range(10)])
    await system.caught_up([GPS])
    assert len(await system.plain_identities()) == 30
    assert system.topic(PLAIN) in json.loads(second.page("/readyz")[1])["degraded"]


async def test_offsets_committed_from_another_databases_ledger_stop_the_topic(system: System) -> None:
    """As when LOOM_DATABASE_URL names another one than before: beginning anew would repeat everything there."""
    await system.produce(PLAIN, plain("a", 30))
    other = str(uuid4())
    wanted = TopicPartition(system.topic(PLAIN), 1)
    former = AIOKafkaConsumer(bootstrap_servers=system.stack.kafka, group_id=system.group, enable_auto_commit=False)
    await former.start()
    former.assign([wanted])
    await former.commit({wanted: (10, f"loom-ledger:{other}")})
    await former.stop()
    service = system.service()
    said = service.wait_until_said("partition not read")
    assert f"committed from the ledger of database {other}" in said["reason"]
    await system.produce(GPS, [messages.gps(number) for number in range(10)])
    await system.caught_up([GPS])
    assert await system.sql("SELECT 1 FROM ingest_offsets WHERE topic = $1", system.topic(PLAIN)) == []
    assert await system.plain_identities() == {}


async def test_a_former_systems_committed_offsets_are_adopted(system: System) -> None:
    await system.produce(PLAIN, plain("old", 40), partition=0)
    former = AIOKafkaConsumer(bootstrap_servers=system.stack.kafka, group_id=system.group, enable_auto_commit=False)
    await former.start()
    former.assign([TopicPartition(system.topic(PLAIN), 0)])
    await former.commit({TopicPartition(system.topic(PLAIN), 0): 25})
    await former.stop()
    system.service()
    await system.caught_up([PLAIN])
    assert sorted(await system.plain_identities()) == sorted(f"old-{number}" for number in range(25, 40))


async def test_latest_means_one_moment_for_all_partitions_and_a_new_partition_begins_at_its_beginning(
    system: System,
) -> None:
    await system.produce(PLAIN, plain("before", 60))
    service = system.service(LOOM_KAFKA_AUTO_OFFSET_RESET="latest")
    await eventually(
        lambda: system.sql("SELECT 1 FROM ingest_offsets WHERE topic = $1", system.topic(PLAIN)),
        until=lambda rows: len(rows) == PARTITIONS,
    )
    await system.produce(PLAIN, plain("after", 60))
    await system.caught_up([PLAIN])
    assert set(await system.plain_identities()) == {f"after-{number}" for number in range(60)}
    assert service.stop() == 0


async def test_a_topic_that_does_not_exist_yet_is_said_once_and_picked_up(system: System) -> None:
    async with kafka.admin(system.stack.kafka) as admin:
        await admin.delete_topics([system.topic(EMOTIONS)])
        await eventually(admin.list_topics, until=lambda names: system.topic(EMOTIONS) not in names)
    service = system.service()
    said = service.wait_until_said("does not exist yet")
    assert said["topic"] == system.topic(EMOTIONS)
    await system.produce(GPS, [messages.gps(1)])
    await system.caught_up([GPS])
    await system.create_topics([system.topic(EMOTIONS)])
    await system.produce(EMOTIONS, [messages.emotion(1)])
    await system.caught_up([EMOTIONS])
    assert len(service.said("does not exist yet")) == 1


async def _retention_passes(system: System, offset: int) -> None:
    """Deletes the messages of partition 0 before this offset, as retention does."""
    async with kafka.admin(system.stack.kafka) as admin:
        await admin.delete_records({TopicPartition(system.topic(PLAIN), 0): RecordsToDelete(before_offset=offset)})


async def test_a_retention_gap_stops_the_partition_with_an_error_that_says_how_to_go_on(system: System) -> None:
    first = system.service()
    await system.produce(PLAIN, plain("a", 20), partition=0)
    await system.caught_up([PLAIN])
    assert first.stop() == 0
    await system.produce(PLAIN, plain("b", 30), partition=0)
    await system.produce(PLAIN, plain("c", 5), partition=1)
    await _retention_passes(system, 45)
    second = system.service()
    said = second.wait_until_said("partition not read")
    assert "25 offsets from 20 were deleted before they were read" in said["reason"]
    assert "LOOM_KAFKA_ON_MISSING_OFFSETS=earliest" in said["reason"]
    await eventually(system.plain_identities, until=lambda found: len(found) == 25)  # partition 1 goes on
    assert second.stop() == 0

    third = system.service(LOOM_KAFKA_ON_MISSING_OFFSETS="earliest")
    await system.caught_up([PLAIN])
    assert third.said("going on after a gap")
    (gap,) = await system.sql("SELECT partition, from_offset, to_offset FROM ingest_offset_gaps")
    assert gap == {"partition": 0, "from_offset": 20, "to_offset": 45}
    assert len(await system.plain_identities()) == 20 + 5 + 5


async def test_a_topic_made_anew_is_told_from_the_one_the_ledger_knows(system: System) -> None:
    first = system.service()
    await system.produce(PLAIN, plain("old", 20), partition=0)
    await system.caught_up([PLAIN])
    assert first.stop() == 0
    async with kafka.admin(system.stack.kafka) as admin:
        await admin.delete_topics([system.topic(PLAIN)])
        await eventually(admin.list_topics, until=lambda names: system.topic(PLAIN) not in names)
    await system.create_topics([system.topic(PLAIN)])
    # More messages than before: the ledger's offset exists again, with another message.
    await system.produce(PLAIN, plain("new", 50), partition=0)
    second = system.service()
    said = second.wait_until_said("partition not read")
    assert "another one than the ledger wrote" in said["reason"]
    assert len(await system.plain_identities()) == 20
    assert second.stop() == 0

    third = system.service(LOOM_KAFKA_ON_MISSING_OFFSETS="earliest")
    await system.caught_up([PLAIN])
    assert third.said("going on after a gap")
    assert len(await system.plain_identities()) == 20 + 50


async def test_aborted_transactions_are_not_written_and_lag_reaches_zero(system: System) -> None:
    service = system.service()
    topic = system.topic(PLAIN)
    async with kafka.producer(system.stack.kafka, transactional_id=f"tx-{system.suffix}") as producer:
        for kept in (True, False, True, False):
            await producer.begin_transaction()
            for number in range(5):
                body = messages.plain(f"{kept}-{number}")
                await producer.send(topic, messages.encode(body), partition=0)
            await (producer.commit_transaction() if kept else producer.abort_transaction())
    await system.caught_up([PLAIN])
    assert set(await system.plain_identities()) == {f"True-{number}" for number in range(5)}
    assert await system.account(PLAIN) == (10, 0, 0)

    async def lag() -> float:
        return service.metric("ingest_lag_messages", topic=topic)

    await eventually(lag, until=lambda found: found == 0)


async def test_every_compression_codec_is_read(system: System) -> None:
    system.service()
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        client = AIOKafkaProducer(bootstrap_servers=system.stack.kafka, compression_type=codec)
        await client.start()
        await client.send_and_wait(system.topic(PLAIN), messages.encode(messages.plain(codec)))
        await client.stop()
    await system.caught_up([PLAIN])
    assert set(await system.plain_identities()) == {"gzip", "snappy", "lz4", "zstd"}


class NotUtf8(str):
    """A header's name as a producer in another language may send it. Only aiokafka's Python builder takes it."""

    def encode(self, *_: object) -> bytes:
        return b"\xed\xa0\x80"


async def test_a_header_whose_name_is_not_utf8_is_kept_as_it_is(system: System) -> None:
    topic = system.topic(PLAIN)
    async with kafka.producer(system.stack.kafka) as producer:
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 16_384)
        for number in range(10):
            headers = [(NotUtf8("name"), b"value")] if number in (4, 5, 7) else []
            body = b"bad" if number == 7 else messages.encode(messages.plain(f"h-{number}"))
            assert batch.append(key=None, value=body, timestamp=None, headers=headers)
        batch.close()
        await (await producer.send_batch(batch, topic, partition=0))
    await system.produce(PLAIN, [messages.plain("after")], partition=0)
    system.service()
    await system.caught_up([PLAIN])
    assert await system.account(PLAIN) == (10, 0, 1)
    assert set(await system.plain_identities()) == {"after", *(f"h-{number}" for number in range(10) if number != 7)}
    (letter,) = await system.sql("SELECT kafka_offset, value, headers FROM ingest_dead_letters")
    assert (letter["kafka_offset"], letter["value"]) == (7, b"bad")
    assert b"\xed\xa0\x80" in letter["headers"]
