"""A network that fails between the service and its broker or its database: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import Stream, System
from tests.support import proxy
from tests.support.topics import GPS, PLAIN


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
