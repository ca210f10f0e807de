"""What a command asks the broker about a consumer group, without joining it.

Partitions are named by ``(topic, partition)``. Every question raises FatalError when the broker refuses it, or has not
answered after :data:`ingest.consumer.ASK_BROKER_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, for_code
from aiokafka.structs import OffsetAndMetadata
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_fixed

from ingest.command import asking_broker
from ingest.consumer import ASK_BROKER_S, Committed
from ingest.reaching import reaching
from ingest.settings import KafkaSettings

Place = tuple[str, int]
Result = TypeVar("Result")
_INACTIVE = frozenset({"Empty", "Dead"})
_GROUP_ID_NOT_FOUND = 69


@dataclass(frozen=True, slots=True)
class Group:
    """Whether a consumer group has members just now."""

    state: str
    """Kafka's word: Empty, Dead (there is none), Stable, PreparingRebalance, CompletingRebalance."""
    members: tuple[str, ...]
    """Client ids with their hosts."""

    @property
    def active(self) -> bool:
        return bool(self.members) or self.state not in _INACTIVE


class Inquiry:
    """Two clients that are connected; see :func:`inquire`."""

    def __init__(self, group: str, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        self._group = group
        self._admin = admin
        self._consumer = consumer

    async def partitions(self, topics: Iterable[str]) -> dict[Place, bool]:
        """Every partition of those topics that exist: whether it has a leader. Nobody can say where the log of one
        without begins or ends."""
        async with _answer("topics and their partitions"):
            # Asking for a topic by name would create it on a broker that creates topics by itself.
            existing = sorted(set(topics) & set(await self._admin.list_topics()))
            described = await self._admin.describe_topics(existing) if existing else []
        return {
            (topic["topic"], each["partition"]): each["leader"] >= 0
            for topic in described
            for each in topic["partitions"]
        }

    async def starts(self, places: Collection[Place]) -> dict[Place, int]:
        """The first offset that the broker still holds."""
        async with _answer("where the logs begin"):
            return _by_place(await self._consumer.beginning_offsets(_wanted(places)) if places else {})

    async def ends(self, places: Collection[Place]) -> dict[Place, int]:
        """The log's end; with transactions, the first offset that is not decided yet."""
        async with _answer("where the logs end"):
            return _by_place(await self._consumer.end_offsets(_wanted(places)) if places else {})

    async def at(self, places: Collection[Place], milliseconds: int) -> dict[Place, int | None]:
        """The first message whose Kafka timestamp (ms since 1970) is not earlier; None where there is none."""
        async with _answer("the offsets of a time"):
            found = await self._consumer.offsets_for_times(dict.fromkeys(_wanted(places), milliseconds))
        return {(each.topic, each.partition): None if hit is None else hit.offset for each, hit in found.items()}

    async def committed(self, places: Collection[Place]) -> dict[Place, Committed]:
        """What the group has committed, where it has."""
        wanted = _wanted(places)
        if not wanted:
            return {}

        async def ask() -> dict[TopicPartition, OffsetAndMetadata]:
            found: dict[TopicPartition, OffsetAndMetadata]
            found = await self._admin.list_consumer_group_offsets(self._group, partitions=wanted)
            if set(found) != set(wanted):
                # The client drops the broker's error: an answer that lacks a partition is none, not "no offset".
                raise GroupCoordinatorNotAvailableError("it did not answer for every partition's committed offset")
            return found

        found = await _of_coordinator(ask)
        return {
            (each.topic, each.partition): Committed(offset.offset, offset.metadata)
            for each, offset in found.items()
            if offset.offset >= 0
        }

    async def group(self) -> Group:
        """Whether the group is active."""

        async def ask() -> Group:
            (answer,) = await self._admin.describe_consumer_groups([self._group])
            ((code, _, state, _, _, members, *_),) = answer.groups
            if code == _GROUP_ID_NOT_FOUND:
                return Group("Dead", ())
            if code:
                raise for_code(code)(f"about group {self._group}")
            return Group(state, tuple(f"{client} on {host.removeprefix('/')}" for _, client, host, *_ in members))

        return await _of_coordinator(ask)


@asynccontextmanager
async def inquire(settings: KafkaSettings) -> AsyncIterator[Inquiry]:
    """Connects. Raises FatalError when no broker answers or the credentials are refused."""
    client_id = "loom-ingest-command"
    async with AsyncExitStack() as stack:
        options = settings.client_options()
        admin = AIOKafkaAdminClient(**options, client_id=client_id)
        stack.push_async_callback(admin.close)
        with asking_broker():
            # The brokers are asked why when the time is over, too.
            async with reaching(options, admin._client), asyncio.timeout(ASK_BROKER_S):
                await admin.start()
                # By the addresses that the brokers give of themselves, which need not be those of the settings.
                await admin.list_topics()
        async with _answer("the connection"):
            consumer = AIOKafkaConsumer(
                **options,
                client_id=client_id,
                enable_auto_commit=False,
                isolation_level="read_committed",  # its ends are those that the service reads to
            )
            stack.push_async_callback(consumer.stop)
            await consumer.start()
        yield Inquiry(settings.group_id, admin, consumer)


@asynccontextmanager
async def _answer(about: str) -> AsyncIterator[None]:
    with asking_broker():
        try:
            async with asyncio.timeout(ASK_BROKER_S):
                yield
        except TimeoutError as error:
            raise TimeoutError(f"no answer about {about} within {ASK_BROKER_S:.0f} s") from error


async def _of_coordinator(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Asks again where the group has no coordinator for the moment: the first question about any group makes them."""
    again = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, KafkaError) and error.retriable),
        wait=wait_fixed(0.2),
        stop=stop_after_delay(ASK_BROKER_S / 2),
        reraise=True,
    )
    async with _answer("the group"):
        return await again(ask)


def _wanted(places: Iterable[Place]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for topic, partition in sorted(places)]


def _by_place(found: Mapping[TopicPartition, int]) -> dict[Place, int]:
    return {(each.topic, each.partition): offset for each, offset in found.items()}
