"""The broker's side of the demo: makes the topics, produces the stream, and tells what is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from ingest.local.errors import LocalStackError
from ingest.local.sample import SampleMessage

PARTITIONS = 6
BREATHE_EVERY = 100
"""Messages after which the producing task lets the others run."""


class DemoBroker:
    """A broker in which the demo has topics of its own.

    Args:
        options: what every aiokafka client takes.
        topics: their names.
    """

    def __init__(self, options: Mapping[str, Any], topics: Iterable[str]) -> None:
        self._options = dict(options)
        self._topics = list(topics)

    async def create_topics(self) -> None:
        """Makes the topics. Raises LocalStackError if one is there already: its messages are somebody's."""
        async with self._admin() as admin:
            there = sorted(set(self._topics) & set(await admin.list_topics()))
            if there:
                raise LocalStackError(
                    f"Kafka: {self._options['bootstrap_servers']} has a topic {there[0]} already, and the demo only "
                    "produces into topics that it made; unset LOOM_KAFKA_BOOTSTRAP_SERVERS, or give another broker"
                )
            made = await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in self._topics])
            for name, code, *_ in made.topic_errors:
                if code:
                    raise LocalStackError(f"Kafka: can't make topic {name}: {for_code(code).__name__}")

    async def delete_topics(self) -> None:
        """Takes them away again, as far as they are there."""
        with suppress(KafkaError):
            async with self._admin() as admin:
                await admin.delete_topics(self._topics)

    async def produce(self, messages: Iterable[SampleMessage], sent: Callable[[SampleMessage], None]) -> None:
        """Produces all, each key's messages in order; returns when the broker has acknowledged every one.

        Idempotent: what the client sends again after a lost answer, the broker holds once. Raises KafkaError.
        """
        producer = AIOKafkaProducer(**self._options, acks="all", enable_idempotence=True, linger_ms=20)
        try:
            await producer.start()
            waiting: list[asyncio.Future[Any]] = []
            for number, message in enumerate(messages):
                waiting.append(
                    await producer.send(message.topic, message.value, key=message.key, headers=list(message.headers))
                )
                sent(message)
                if number % BREATHE_EVERY == 0:
                    await asyncio.sleep(0)
            await producer.flush()
            await asyncio.gather(*waiting)
        finally:
            await producer.stop()

    @asynccontextmanager
    async def offsets(self) -> AsyncIterator[Offsets]:
        """A client that tells where the partitions begin and end."""
        consumer = AIOKafkaConsumer(**self._options)
        try:
            await consumer.start()  # inside: one that was interrupted while it started is closed, too
            yield Offsets(consumer, self._topics)
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        admin = AIOKafkaAdminClient(**self._options)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


class Offsets:
    """Where each partition begins and ends now. Offsets are dense here: no transactions, no compaction."""

    def __init__(self, consumer: Any, topics: Iterable[str]) -> None:
        self._consumer = consumer
        self._partitions = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]

    async def ends(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → the offset of the next message to arrive. Raises KafkaError."""
        return {tuple(each): offset for each, offset in (await self._consumer.end_offsets(self._partitions)).items()}

    async def messages(self) -> dict[str, int]:
        """Topic → number of messages that the broker holds. Raises KafkaError."""
        begins = await self._consumer.beginning_offsets(self._partitions)
        counts: dict[str, int] = {}
        for (topic, number), end in (await self.ends()).items():
            counts[topic] = counts.get(topic, 0) + end - begins[TopicPartition(topic, number)]
        return counts
