"""Outages pause; they lose nothing, dead-letter nothing, need nobody, and say once what they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from ingest.local.stack import Server
from tests.acceptance.conftest import Stream, System
from tests.support import messages
from tests.support.topics import EMOTIONS, GPS, PLAIN
from tests.support.waiting import eventually


@pytest.fixture
def database_server(system: System) -> Iterator[Server]:
    """The session's database server, which is running again afterwards."""
    server = system.stack.database_server
    if server is None:
        pytest.skip("the database is given by the environment: it is not ours to stop")
    yield server
    if not server.alive():
        server.start()


@pytest.fixture
def kafka_server(system: System) -> Iterator[Server]:
    server = system.stack.kafka_server
    if server is None:
        pytest.skip("the broker is given by the environment: it is not ours to stop")
    yield server
    if not server.alive():
        server.start()


async def test_database_outage_never_becomes_dead_letters(
    system: System, stream: Stream, database_server: Server
) -> None:
    service = system.service()
    producing = asyncio.create_task(stream.run(4_000))
    await system.written(PLAIN, 500)
    await asyncio.to_thread(database_server.kill)
    await eventually(lambda: asyncio.to_thread(service.page, "/readyz"), until=lambda page: page[0] == 503)
    _, body = service.page("/readyz")
    assert any("database" in reason for reason in json.loads(body)["reasons"])
    assert service.page("/healthz")[0] == 200
    await producing
    await asyncio.to_thread(database_server.start)
    await system.caught_up([PLAIN, GPS])
    await system.assert_nothing_lost_nothing_twice(stream.sent)
    assert await system.account(PLAIN) == (4_000, 0, 0)
    assert await system.sql("SELECT * FROM ingest_dead_letters") == []
    # Membership was kept, and each lane said once that it can't write.
    assert len(service.said("partitions assigned")) == 1
    assert len([line for line in service.said("can't write") if line["topic"] == system.topic(PLAIN)]) <= 1
    await eventually(lambda: asyncio.to_thread(service.page, "/readyz"), until=lambda page: page[0] == 200)


async def test_a_crash_right_after_the_first_start_is_no_lost_ledger(system: System, database_server: Server) -> None:
    """The rows of the ledger are durable before an offset is committed to Kafka, whatever is lost after them."""
    await system.produce(PLAIN, [messages.plain(f"m{number}") for number in range(50)])
    service = system.service(LOOM_KAFKA_BATCH_TIMEOUT="0.01")
    await eventually(
        lambda: system.sql("SELECT 1 FROM ingest_offsets"), until=lambda rows: len(rows) >= 3, every_s=0.001
    )
    await asyncio.to_thread(database_server.kill)
    await asyncio.to_thread(database_server.start)
    await system.caught_up([PLAIN])
    assert not service.said("partition not read") or "lost" not in service.said("partition not read")[-1]["reason"]
    await system.assert_nothing_lost_nothing_twice(f"m{number}" for number in range(50))


async def test_broker_restart_loses_and_repeats_nothing(system: System, stream: Stream, kafka_server: Server) -> None:
    system.service()
    await stream.run(1_000)
    await system.caught_up([PLAIN])
    await asyncio.to_thread(kafka_server.kill)
    await asyncio.to_thread(kafka_server.start)
    again = [messages.plain(f"{system.suffix}-after-{number}") for number in range(500)]
    await system.produce(PLAIN, again)
    await system.caught_up([PLAIN], within_s=90)
    await system.assert_nothing_lost_nothing_twice([*stream.sent, *(body["identity"] for body in again)])


async def test_shutdown_during_an_outage_ends_within_the_grace_time(
    system: System, stream: Stream, database_server: Server
) -> None:
    service = system.service(LOOM_SHUTDOWN_GRACE="5")
    await stream.run(500)
    await system.caught_up([PLAIN])
    await asyncio.to_thread(database_server.kill)
    await stream.run(200)
    await eventually(lambda: asyncio.to_thread(service.page, "/readyz"), until=lambda page: page[0] == 503)
    assert service.stop(within_s=15) == 0
    await asyncio.to_thread(database_server.start)


async def test_a_service_that_starts_before_its_database_waits_for_it(system: System, database_server: Server) -> None:
    await system.produce(EMOTIONS, [messages.emotion(number) for number in range(10)])
    await asyncio.to_thread(database_server.kill)
    service = system.service()
    said = service.wait_until_said("no answer yet")
    assert said["of"] == "database"
    assert service.page("/healthz")[0] == 200
    status, body = service.page("/readyz")
    assert status == 503
    assert "waiting for the database" in json.loads(body)["reasons"][0]
    await asyncio.to_thread(database_server.start)
    await system.caught_up([EMOTIONS])
    assert await system.account(EMOTIONS) == (10, 0, 0)
