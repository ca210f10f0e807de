"""The broker from outside the service: topics, producers, offsets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.waiting import eventually


@asynccontextmanager
async def admin(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def producer(servers: str, **options: object) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=5, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def create_topics(servers: str, names: Iterable[str], partitions: int = 3) -> None:
    """Makes the topics and waits until each partition has a leader."""
    names = list(names)
    async with admin(servers) as client:
        await client.create_topics([NewTopic(name, partitions, 1) for name in names])

        async def led() -> bool:
            described = await client.describe_topics(names)
            return all(
                topic["error_code"] == 0
                and len(topic["partitions"]) == partitions
                and all(partition["leader"] >= 0 for partition in topic["partitions"])
                for topic in described
            )

        await eventually(led)


async def produce(
    servers: str, topic: str, values: Iterable[bytes | None], *, partition: int | None = None
) -> list[tuple[int, int]]:
    """Sends the values in order; returns partition and offset of each."""
    async with producer(servers) as client:
        sent = [await client.send(topic, value, partition=partition) for value in values]
        done = [await future for future in sent]
    return [(each.partition, each.offset) for each in done]


async def end_offsets(servers: str, topic: str, partitions: int = 3) -> dict[int, int]:
    client = AIOKafkaConsumer(bootstrap_servers=servers)
    await client.start()
    try:
        found = await client.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
    finally:
        await client.stop()
    return {partition.partition: offset for partition, offset in found.items()}
