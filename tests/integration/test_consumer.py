"""The broker's side on a real broker: a client that is broken is noticed, and the group comes to rest."""

from __future__ import annotations

import asyncio
import contextlib
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
        self.assignments = 0

    def assigned(self, partitions: Mapping[str, set[int]]) -> None:
        self.topics = dict(partitions)
        self.assignments += 1

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


async def test_what_waits_at_the_broker_is_known_from_its_answers(member: Broker, stack: Stack, suffix: str) -> None:
    topic = f"topic-{suffix}"
    assert member.waiting(topic, {0: 0}) == 0, "nothing was answered yet"
    await kafka.produce(stack.kafka, topic, [b"%d" % number for number in range(700)], partition=0)

    async def all_seen() -> bool:
        member.seek(topic, 0, 0)
        return bool(await member.fetch(topic, [0])) and member.waiting(topic, {0: 0}) == 700

    await eventually(all_seen)
    assert member.waiting(topic, {0: 500}) == 200
    assert member.waiting(topic, {0: 700}) == member.waiting(topic, {0: 800}) == 0
    assert member.waiting(topic, {1: 0}) == 0, "somebody else's partition"


async def test_a_commit_that_meets_a_rebalance_causes_no_other_one(stack: Stack, suffix: str) -> None:
    """A member that comes back under a new name lets the others wait until its old one is given up."""
    topic = f"topic-{suffix}"
    await kafka.create_topics(stack.kafka, [topic], partitions=2)
    settings = KafkaSettings(bootstrap_servers=stack.kafka, group_id=f"group-{suffix}", session_timeout_ms=5_000)
    listeners = [Listener(), Listener()]
    members = [Broker(settings, each, client_id="loom-ingest-kafka-test") for each in listeners]
    committed, stop = [0, 0], asyncio.Event()

    async def commit(number: int) -> None:
        """Commits what the member owns, as the service does, only more often."""
        while not stop.is_set():
            committed[number] += await members[number].commit({(topic, 0): 0, (topic, 1): 0}, database_id="x")
            await members[number].keep_membership()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.2)

    async def commits(more: int) -> None:
        """Waits until each member has committed so often."""
        wanted = [count + more for count in committed]

        async def done() -> bool:
            owned = [listener.topics.get(topic, set()) for listener in listeners]
            return sorted(map(len, owned)) == [1, 1] and all(map(int.__ge__, committed, wanted))

        await eventually(done, within_s=60)

    async with contextlib.AsyncExitStack() as running:
        for member in members:
            await member.start()
            running.push_async_callback(member.stop)
            await member.subscribe([topic])
        tasks = [asyncio.create_task(commit(number)) for number in range(2)]
        running.push_async_callback(asyncio.gather, *tasks)
        running.callback(stop.set)
        await commits(10)
        before = [listener.assignments for listener in listeners]
        members[0]._consumer._coordinator.reset_generation()
        await eventually(lambda: _assigned_again(listeners, before), within_s=60)
        await commits(10)
        assert [listener.assignments for listener in listeners] == [count + 1 for count in before]


async def _assigned_again(listeners: list[Listener], before: list[int]) -> bool:
    return all(listener.assignments > count for listener, count in zip(listeners, before, strict=True))
