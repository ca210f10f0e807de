"""Rebalances on a real broker and a real database, at moments that are hard to hit from outside."""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.local.stack import Stack
from ingest.metrics import Metrics
from ingest.pipeline import Pipeline
from ingest.settings import DatabaseSettings, KafkaSettings, ServiceSettings, Settings
from tests.support import kafka
from tests.support.messages import encode
from tests.support.topics import PLAIN, renamed
from tests.support.waiting import eventually

ROUNDS = 40


async def test_what_arrives_in_a_read_from_before_a_rebalance_is_read_again(
    stack: Stack, engine: AsyncEngine, database_url: str, suffix: str
) -> None:
    """A member waits for messages, loses its partitions and has them back before one comes."""
    topic = renamed(PLAIN, suffix)
    await kafka.create_topics(stack.kafka, [topic.name], partitions=1)
    settings = Settings(
        KafkaSettings(bootstrap_servers=stack.kafka, group_id=f"group-{suffix}", batch_timeout=0.05),
        DatabaseSettings(url=database_url),
        ServiceSettings(),
    )
    pipeline = Pipeline(
        settings, {topic.name: topic}, engine=engine, database_id="", metrics=Metrics(), client_id="loom-ingest-test"
    )
    broker = pipeline._broker

    async def ledger() -> int:
        async with engine.connect() as connection:
            found = await connection.execute(text("SELECT max(next_offset) FROM ingest_offsets"))
            return int(found.scalar_one() or 0)

    stop = asyncio.Event()
    await pipeline.start()
    running = asyncio.create_task(pipeline.run(stop))
    try:
        async with kafka.producer(stack.kafka) as producer:
            for number in range(ROUNDS):
                if number:
                    # What the client does in a rebalance, as far as it tells us of it.
                    assigned = broker._consumer.assignment()
                    broker._listener.on_partitions_revoked(assigned)
                    broker._listener.on_partitions_assigned(assigned)
                message = {"identity": str(number), "timestamp": "2026-01-01T00:00:00Z"}
                await producer.send_and_wait(topic.name, encode(message), partition=0)
                await eventually(ledger, until=lambda offset, number=number: offset == number + 1, within_s=60)
    finally:
        stop.set()
        await running
        await pipeline.close(within_s=10)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT identity FROM test_plain ORDER BY id"))
        assert [row.identity for row in found] == [str(number) for number in range(ROUNDS)]
