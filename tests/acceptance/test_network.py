"""A network that fails between the service and its broker or its database: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from ingest.local.postgres import query
from tests.acceptance.conftest import Stream, System
from tests.support import messages, proxy
from tests.support.service import Service
from tests.support.topics import GPS, PLAIN
from tests.support.waiting import eventually


@pytest.fixture
def to_broker(system: System) -> Iterator[proxy.Proxy]:
    with proxy.to(system.stack.kafka, kafka=True) as between:
        yield between


async def test_resets_of_the_brokers_connections_neither_stop_reading_nor_lose_anything(
    system: System, stream: Stream, to_broker: proxy.Proxy
) -> None:
    service = system.service(LOOM_KAFKA_BOOTSTRAP_SERVERS=to_broker.address)
    producing = asyncio.create_task(stream.run(4_000))
    for number in range(1, 7):
        await system.written(PLAIN, number * 400, within_s=60)
        to_broker.reset()
    await producing
    await system.caught_up([PLAIN, GPS], within_s=90)
    await system.assert_nothing_lost_nothing_twice(stream.sent)
    assert await system.account(PLAIN) == (4_000, 0, 0)
    assert service.page("/healthz")[0] == 200


async def ready(service: Service, *, because: str | None = None, within_s: float = 30) -> None:
    """Waits until ``/readyz`` answers 200, or 503 with a reason that begins with ``because``."""

    async def answer() -> tuple[int, list[str]]:
        status, body = await asyncio.to_thread(service.page, "/readyz")
        return status, json.loads(body)["reasons"]

    def wanted(found: tuple[int, list[str]]) -> bool:
        status, reasons = found
        return status == 200 if because is None else status == 503 and any(each.startswith(because) for each in reasons)

    await eventually(answer, until=wanted, within_s=within_s)


async def test_a_broker_that_is_frozen_is_told_within_seconds_and_forgotten_by_itself(
    system: System, to_broker: proxy.Proxy
) -> None:
    service = system.service(LOOM_KAFKA_BOOTSTRAP_SERVERS=to_broker.address)
    await system.produce(PLAIN, [messages.plain(f"a{number}") for number in range(10)])
    await system.caught_up([PLAIN])
    await ready(service)
    to_broker.black_hole()
    await ready(service, because="broker: KafkaTimeoutError")
    to_broker.heal()
    await ready(service)
    await system.produce(PLAIN, [messages.plain(f"b{number}") for number in range(10)])
    await system.caught_up([PLAIN])
    assert len(service.said("partitions assigned")) == 1  # membership was kept


async def test_a_database_that_takes_no_writes_is_told_within_seconds_and_forgotten_by_itself(system: System) -> None:
    """As after a failover, when the old primary is a standby now, and its sessions go on."""
    service = system.service()
    name = system.database_url.rpartition("/")[2]
    await system.produce(PLAIN, [messages.plain(f"a{number}") for number in range(10)])
    await system.caught_up([PLAIN])
    await ready(service)
    query(system.stack.database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    query(system.stack.database_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    await ready(service, because="database: cannot execute")
    await system.produce(PLAIN, [messages.plain(f"b{number}") for number in range(10)])
    service.wait_until_said("can't write")
    query(system.stack.database_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await ready(service)
    await system.caught_up([PLAIN])
    assert await system.account(PLAIN) == (20, 0, 0)
