"""What is done to the ledger, or to a topic, under a running service: noticed, and nothing skipped silently."""

from __future__ import annotations

from tests.acceptance.conftest import System
from tests.support import kafka, messages, proxy
from tests.support.topics import GPS, PLAIN
from tests.support.waiting import eventually


async def test_a_row_moved_back_by_hand_with_its_last_record_left_in_place_skips_nothing(system: System) -> None:
    service = system.service()
    sent = [messages.plain(f"m{number}", number / 1000) for number in range(300)]
    await system.produce(PLAIN, sent, partition=0)
    await system.caught_up([PLAIN])
    await system.sql("DELETE FROM test_plain WHERE substr(identity, 2)::int >= 200")
    await system.sql(
        "UPDATE ingest_offsets SET next_offset = 200 WHERE topic = $1 AND partition = 0", system.topic(PLAIN)
    )
    service.wait_until_said("the ledger moved back")
    await system.caught_up([PLAIN])
    await system.assert_nothing_lost_nothing_twice(body["identity"] for body in sent)


async def test_a_row_deleted_under_a_running_service_is_a_lost_ledger(system: System) -> None:
    service = system.service()
    await system.produce(PLAIN, [messages.plain(f"a{number}") for number in range(30)], partition=0)
    await system.caught_up([PLAIN])
    await system.sql("DELETE FROM ingest_offsets WHERE topic = $1 AND partition = 0", system.topic(PLAIN))
    said = service.wait_until_said("partition not read")
    assert "was deleted" in said["reason"]
    await system.produce(PLAIN, [messages.plain(f"b{number}") for number in range(10)], partition=1)
    await system.produce(GPS, [messages.gps(number) for number in range(10)])
    await system.caught_up([GPS])
    assert (
        await system.sql("SELECT 1 FROM ingest_offsets WHERE topic = $1 AND partition = 0", system.topic(PLAIN)) == []
    )
    await system.written(PLAIN, 10)  # partition 1 goes on
    assert len(await system.plain_identities()) == 40


async def test_a_topic_made_anew_while_the_broker_is_away_is_noticed_and_read_by_setting(system: System) -> None:
    """The client's position exists in the new topic, too: reading on would skip what lies before it."""
    with proxy.to(system.stack.kafka, kafka=True) as to_broker:
        service = system.service(
            LOOM_KAFKA_BOOTSTRAP_SERVERS=to_broker.address, LOOM_KAFKA_ON_MISSING_OFFSETS="earliest"
        )
        old = [messages.plain(f"old{number}") for number in range(100)]
        await system.produce(PLAIN, old, partition=0)
        await system.caught_up([PLAIN])
        to_broker.black_hole()
        service.wait_until_said("broker does not answer")
        async with kafka.admin(system.stack.kafka) as admin:
            await admin.delete_topics([system.topic(PLAIN)])
            await eventually(admin.list_topics, until=lambda names: system.topic(PLAIN) not in names)
        await system.create_topics([system.topic(PLAIN)])
        new = [messages.plain(f"new{number}") for number in range(150)]
        await system.produce(PLAIN, new, partition=0)
        to_broker.heal()
        await system.caught_up([PLAIN], within_s=90)
        await system.assert_nothing_lost_nothing_twice(body["identity"] for body in (*old, *new))
        (gap,) = await system.sql("SELECT partition, from_offset, to_offset FROM ingest_offset_gaps")
        assert gap == {"partition": 0, "from_offset": 100, "to_offset": 0}
        assert service.metric("ingest_offset_gaps_total", topic=system.topic(PLAIN)) == 1
