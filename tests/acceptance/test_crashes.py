"""Processes that die, freeze and come back: nothing lost, nothing twice, also where no key would notice."""

from __future__ import annotations

import asyncio
import random
import signal

from tests.acceptance.conftest import Stream, System
from tests.support import messages
from tests.support.service import Service
from tests.support.topics import GPS, PLAIN
from tests.support.waiting import eventually


async def test_sigkill_in_the_middle_of_a_stream_loses_and_repeats_nothing(
    system: System, stream: Stream, randomness: random.Random
) -> None:
    producing = asyncio.create_task(stream.run(6_000))
    for _ in range(3):
        service = system.service(LOOM_KAFKA_SESSION_TIMEOUT_MS="2000")
        before = sum(await system.account(PLAIN))
        await system.written(PLAIN, min(before + randomness.randrange(1, 600), 6_000))
        service.kill()
    await producing
    system.service(LOOM_KAFKA_SESSION_TIMEOUT_MS="2000")
    await system.caught_up([PLAIN, GPS])
    await system.assert_nothing_lost_nothing_twice(stream.sent)
    assert await system.account(PLAIN) == (6_000, 0, 0)
    assert await system.account(GPS) == (6_000, 0, 0)


async def test_a_zombie_that_wakes_up_after_its_session_writes_nothing(system: System, stream: Stream) -> None:
    producing = asyncio.create_task(stream.run(6_000))
    zombie = system.service(LOOM_KAFKA_SESSION_TIMEOUT_MS="2000")
    await system.written(PLAIN, 300)
    zombie.signal(signal.SIGSTOP)
    heir = system.service(LOOM_KAFKA_SESSION_TIMEOUT_MS="2000")
    # The heir owns everything once the zombie's session is over.
    await eventually(lambda: _of_each_topic(heir), until=lambda owned: owned == 5, within_s=60)
    await system.written(PLAIN, sum(await system.account(PLAIN)) + 100, within_s=60)
    zombie.signal(signal.SIGCONT)
    await producing
    await system.caught_up([PLAIN, GPS], within_s=90)
    await system.assert_nothing_lost_nothing_twice(stream.sent)
    assert await system.account(PLAIN) == (6_000, 0, 0)


async def _of_each_topic(service: Service) -> int:
    """How many topics the service owns all three partitions of."""
    said = service.said("partitions assigned")
    return sum(len(numbers) == 3 for numbers in said[-1]["partitions"].values()) if said else 0


async def test_a_database_that_lost_its_last_transactions_gets_them_again_without_a_new_message(
    system: System,
) -> None:
    """A crash of the database host may take acknowledged transactions back: rows and ledger, together."""
    service = system.service()
    sent = [messages.plain(f"m{number}", number / 1000) for number in range(300)]
    await system.produce(PLAIN, sent, partition=0)
    await system.caught_up([PLAIN])
    await system.sql(
        """
        WITH rows AS (DELETE FROM test_plain WHERE substr(identity, 2)::int >= 200)
        UPDATE ingest_offsets
        SET next_offset = 200, written = written - 100, last_offset = NULL, last_timestamp = NULL, last_checksum = NULL
        WHERE topic = $1 AND partition = 0
        """,
        system.topic(PLAIN),
    )
    await system.caught_up([PLAIN])
    assert service.said("the ledger moved back")
    await system.assert_nothing_lost_nothing_twice(body["identity"] for body in sent)
    assert await system.account(PLAIN) == (300, 0, 0)


async def test_sigterm_writes_what_was_read_and_leaves_offsets_with_their_rows(system: System, stream: Stream) -> None:
    producing = asyncio.create_task(stream.run(3_000))
    first = system.service()
    await system.written(PLAIN, 300)
    assert first.stop(within_s=25) == 0
    await producing
    (rows,) = await system.sql("SELECT count(*)::int AS n FROM test_plain")
    written, _, _ = await system.account(PLAIN)
    assert rows["n"] == written
    second = system.service()
    second.wait_until_said("partitions assigned")
    await system.caught_up([PLAIN, GPS])
    assert second.stop() == 0
    await system.assert_nothing_lost_nothing_twice(stream.sent)


async def test_a_second_signal_stops_at_once_and_loses_nothing(system: System, stream: Stream) -> None:
    producing = asyncio.create_task(stream.run(2_000))
    service = system.service()
    await system.written(PLAIN, 200)
    service.signal(signal.SIGINT)
    service.signal(signal.SIGINT)
    assert service.process.wait(10) == 0
    await producing
    system.service()
    await system.caught_up([PLAIN])
    await system.assert_nothing_lost_nothing_twice(stream.sent)


async def test_consumers_that_come_and_go_share_the_partitions_and_repeat_nothing(
    system: System, stream: Stream
) -> None:
    producing = asyncio.create_task(stream.run(12_000))
    first = system.service()
    await system.written(PLAIN, 100)
    second = system.service()
    second.wait_until_said("partitions assigned")
    assert first.stop() == 0
    third = system.service()
    third.wait_until_said("partitions assigned")
    await producing
    await system.caught_up([PLAIN, GPS])
    assert [second.stop(), third.stop()] == [0, 0]
    await system.assert_nothing_lost_nothing_twice(stream.sent)
    assert await system.account(GPS) == (12_000, 0, 0)
