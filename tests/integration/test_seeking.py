"""From where many partitions are read: asked about together, and one in trouble by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.local.stack import Stack
from ingest.metrics import Metrics
from ingest.pipeline import Pipeline
from ingest.settings import DatabaseSettings, KafkaSettings, ServiceSettings, Settings
from ingest.topics import Topic
from tests.support import kafka
from tests.support.topics import PLAIN, renamed
from tests.support.waiting import eventually

COUNT = 60


@contextmanager
def statements(engine: AsyncEngine, word: str) -> Iterator[list[str]]:
    """The statements that are sent meanwhile and name ``word``."""
    sent: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if word in statement:
            sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", remember)
    try:
        yield sent
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", remember)


@asynccontextmanager
async def running(stack: Stack, engine: AsyncEngine, database_url: str, topic: Topic) -> AsyncIterator[Pipeline]:
    settings = Settings(
        KafkaSettings(bootstrap_servers=stack.kafka, group_id=f"group-{topic.name}", batch_timeout=0.05),
        DatabaseSettings(url=database_url),
        ServiceSettings(),
    )
    pipeline = Pipeline(
        settings, {topic.name: topic}, engine=engine, database_id="", metrics=Metrics(), client_id="loom-ingest-test"
    )
    stop = asyncio.Event()
    await pipeline.start()
    task = asyncio.create_task(pipeline.run(stop))
    try:
        yield pipeline
    finally:
        stop.set()
        await task
        await pipeline.close(within_s=10)


async def reading(pipeline: Pipeline, topic: Topic) -> int:
    return sum(each.phase == "reading" for each in pipeline.lanes[topic.name].partitions)


async def test_many_partitions_cost_a_few_statements_and_a_locked_one_holds_back_itself_alone(
    stack: Stack, engine: AsyncEngine, database_url: str, suffix: str
) -> None:
    topic = renamed(PLAIN, suffix)
    await kafka.create_topics(stack.kafka, [topic.name], partitions=COUNT)
    with statements(engine, "ingest_offsets") as sent:
        async with running(stack, engine, database_url, topic) as pipeline:
            await eventually(lambda: reading(pipeline, topic), until=lambda n: n == COUNT, within_s=60)
    # Those of a start, of a look every 2 s, and of making all rows at once; not one for each partition.
    assert len(sent) < COUNT / 2, sent

    async with engine.connect() as other:
        await other.execute(text("SELECT FROM ingest_offsets WHERE partition = 7 FOR UPDATE"))
        async with running(stack, engine, database_url, topic) as pipeline:
            await eventually(lambda: reading(pipeline, topic), until=lambda n: n == COUNT - 1, within_s=60)
            (held,) = [each.number for each in pipeline.lanes[topic.name].partitions if each.phase != "reading"]
            assert held == 7
            await other.rollback()
            await eventually(lambda: reading(pipeline, topic), until=lambda n: n == COUNT, within_s=60)
