"""From where many partitions are read: asked about together, and one in trouble by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest import ledger
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
def statements(engine: AsyncEngine, *words: str) -> Iterator[list[str]]:
    """The statements that are sent meanwhile and hold one of ``words``."""
    sent: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if any(word in statement for word in words):
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
    # The look at the ledger every 2 s, which goes on however long this takes, is neither of the two.
    with statements(engine, "FOR SHARE", "INSERT INTO ingest_offsets") as sent:
        async with running(stack, engine, database_url, topic) as pipeline:
            await eventually(lambda: reading(pipeline, topic), until=lambda n: n == COUNT, within_s=60)
    assert 2 <= len(sent) < COUNT / 2, sent  # all rows are made, and read, at once; not each partition's by itself

    async with engine.connect() as other:
        await other.execute(text("SELECT FROM ingest_offsets WHERE partition = 7 FOR UPDATE"))
        async with running(stack, engine, database_url, topic) as pipeline:
            await eventually(lambda: reading(pipeline, topic), until=lambda n: n == COUNT - 1, within_s=60)
            (held,) = [each.number for each in pipeline.lanes[topic.name].partitions if each.phase != "reading"]
            assert held == 7
            await other.rollback()
            await eventually(lambda: reading(pipeline, topic), until=lambda n: n == COUNT, within_s=60)


async def test_a_few_partitions_are_asked_about_together_too(
    stack: Stack, engine: AsyncEngine, database_url: str, suffix: str
) -> None:
    """Of one transaction each, the many topics of a process would open the whole pool when it starts."""
    topic = renamed(PLAIN, suffix)
    await kafka.create_topics(stack.kafka, [topic.name], partitions=3)
    with statements(engine, "FOR SHARE", "INSERT INTO ingest_offsets") as sent:
        async with running(stack, engine, database_url, topic) as pipeline:
            await eventually(lambda: reading(pipeline, topic), until=lambda n: n == 3, within_s=60)
    assert [statement.split()[0] for statement in sent] == ["SELECT", "INSERT", "SELECT"]


async def test_a_partition_that_another_process_has_just_begun_is_read_from_there(
    stack: Stack, engine: AsyncEngine, database_url: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one makes the rows after this one has found none, and before it asks which there are."""
    topic = renamed(PLAIN, suffix)
    await kafka.create_topics(stack.kafka, [topic.name], partitions=3)
    known_partitions = ledger.known_partitions
    asked: list[str] = []

    async def meanwhile(connection: AsyncConnection, group: str, name: str) -> set[int]:
        asked.append(name)
        async with engine.begin() as other:
            await ledger.create(other, group, name, dict.fromkeys(range(3), 0))
        return await known_partitions(connection, group, name)

    monkeypatch.setattr(ledger, "known_partitions", meanwhile)
    with statements(engine, "INSERT INTO ingest_offsets") as sent:
        async with running(stack, engine, database_url, topic) as pipeline:
            await eventually(lambda: reading(pipeline, topic), until=lambda n: n == 3, within_s=60)
    assert len(sent) == len(asked) > 0, sent  # the other one's; this one has none to make
