"""The broker's side on a real broker: a client that is broken is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from ingest.consumer import Broker, ReadError
from ingest.local.stack import Stack
from ingest.settings import KafkaSettings
from tests.support import kafka
from tests.support.waiting import eventually


class Listener:
    """Remembers what was assigned."""

    def __init__(self) -> None:
        self.topics: dict[str, set[int]] = {}

    def assigned(self, partitions: Mapping[str, set[int]]) -> None:
        self.topics = dict(partitions)

    def revoked(self) -> None:
        self.topics = {}


@pytest.fixture
async def member(stack: Stack, suffix: str) -> AsyncIterator[Broker]:
    """A member of a group that owns ``topic-<suffix>`` and reads it from its beginning."""
    topic = f"topic-{suffix}"
    await kafka.create_topics(stack.kafka, [topic], partitions=1)
    listener = Listener()
    settings = KafkaSettings(bootstrap_servers=stack.kafka, group_id=f"group-{suffix}")
    broker = Broker(settings, listener, client_id="loom-ingest-kafka-test")
    await broker.start()
    await broker.subscribe([topic])

    async def assigned() -> bool:
        await broker.keep_membership()
        return topic in listener.topics

    await eventually(assigned, within_s=60)
    assert broker.seek(topic, 0, 0)
    yield broker
    await broker.stop()


async def test_a_client_that_has_stopped_fetching_is_a_read_error(member: Broker, stack: Stack, suffix: str) -> None:
    """Its heartbeats go on, and it would answer "nothing there" for ever."""
    topic = f"topic-{suffix}"
    await kafka.produce(stack.kafka, topic, [b"one"], partition=0)
    await eventually(lambda: member.fetch(topic, [0]))
    fetching: asyncio.Task[None] = member._consumer._fetcher.error_future
    fetching.cancel()
    await asyncio.wait([fetching], timeout=10)
    await kafka.produce(stack.kafka, topic, [b"two"], partition=0)
    await member.keep_membership()
    with pytest.raises(ReadError, match="stopped fetching"):
        await member.fetch(topic, [0])
