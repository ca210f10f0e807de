"""COPY in the hard cases: what is lost while it sends, what changes under it, and what only INSERT does."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Column, DateTime, ForeignKey, Integer, MetaData, Numeric, Text, Uuid
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from ingest.database import Failure, classify, create_engine
from ingest.local.postgres import query
from ingest.settings import DatabaseSettings
from ingest.topics import Append, Contract, FirstWins, Topic, Version, Write
from tests.integration.conftest import Table
from tests.support import messages, proxy
from tests.support.topics import PLAIN
from tests.support.waiting import eventually

MANY = 150


class Amount(Contract):
    name: str
    amount: Any


def topic_of(contract: type[Contract], *columns: Any, rule: Any = None) -> Topic:
    always = (Column("timestamp", DateTime(timezone=True), nullable=False), Column("schema_version", Text))
    table = SqlTable("test_own", MetaData(), *columns, *always)
    return Topic("test.own", (Version("v1", contract),), (Write(table, rule or Append()),))


def create(database_url: str, topic: Topic) -> None:
    query(database_url, str(CreateTable(topic.tables[0]).compile(dialect=postgresql.dialect())))


def body(**fields: Any) -> dict[str, Any]:
    return {"timestamp": messages.NOW.isoformat(), **fields}


async def test_a_connection_that_is_lost_while_the_socket_takes_no_more_is_noticed_at_once(database_url: str) -> None:
    watcher = await asyncpg.connect(database_url)
    with proxy.to(database_url) as between:
        url = proxy.through(database_url, between)
        engine = create_engine(
            DatabaseSettings(url=url, min_pool_size=1, max_pool_size=2), application_name="kafka-lost"
        )
        side = await Table(engine, PLAIN).begin()
        bodies = [messages.plain(f"{number}" + "x" * 4_000) for number in range(4_000)]
        between.limit(100_000)
        writing = asyncio.create_task(side.write(*bodies))

        async def copying() -> bool:
            return bool(await watcher.fetchval("SELECT bytes_processed > 0 FROM pg_stat_progress_copy"))

        await eventually(copying)
        between.cut()
        # Not wait_for: a cancelled write would raise what its clean-up meets.
        done, _ = await asyncio.wait({writing}, timeout=10)
        assert done, "the write still waits for a connection that is lost"
        error = writing.exception()
        assert error is not None
        assert classify(error) is Failure.TRANSIENT
        between.limit(None)
        between.heal()
        await side.write(*bodies[:MANY])
        assert await side.counts() == (MANY, 0, 0)
        await engine.dispose()
    await watcher.close()


async def test_a_columns_new_type_is_known_at_the_next_copy(table: Any, database_url: str) -> None:
    topic = topic_of(Amount, Column("name", Text), Column("amount", Integer))
    create(database_url, topic)
    side: Table = await table(topic)
    await side.write(*(body(name="before", amount=number) for number in range(MANY)))
    query(database_url, "ALTER TABLE test_own ALTER amount TYPE real")
    await side.write(*(body(name="after", amount=number) for number in range(MANY)))
    found = await side.rows("SELECT amount::int FROM test_own WHERE name = 'after' ORDER BY 1")
    assert [row["amount"] for row in found] == list(range(MANY))


async def test_what_no_codec_expects_is_one_dead_letter(table: Any, database_url: str) -> None:
    topic = topic_of(Amount, Column("name", Text), Column("amount", Numeric))
    create(database_url, topic)
    side: Table = await table(topic)
    amounts = [*map(str, range(MANY)), "1,50"]
    await side.write(*(body(name=f"n{number}", amount=amount) for number, amount in enumerate(amounts)))
    assert await side.counts() == (MANY, 0, 1)


async def test_a_default_that_is_the_clients_is_given_to_each_row(table: Any, database_url: str) -> None:
    topic = topic_of(Amount, Column("name", Text), Column("amount", Integer), Column("source", Text, default="here"))
    create(database_url, topic)
    side: Table = await table(topic)
    await side.write(*(body(name="n", amount=number) for number in range(MANY)))
    (row,) = await side.rows("SELECT count(*)::int AS n FROM test_own WHERE source = 'here'")
    assert row["n"] == MANY


class Comment(Contract):
    id: UUID
    parent: UUID | None = None


async def test_a_row_that_another_one_of_its_batch_refers_to_is_not_refused_with_a_third(
    table: Any, database_url: str
) -> None:
    topic = topic_of(
        Comment,
        Column("id", Uuid, primary_key=True),
        Column("parent", Uuid, ForeignKey("test_own.id")),
        rule=FirstWins(("id",)),
    )
    create(database_url, topic)
    side: Table = await table(topic)
    side.writer._tables[0]._copies = False
    # Parents come first and sort last.
    parents = [body(id=str(UUID(int=10_000 + number))) for number in range(MANY)]
    children = [body(id=str(UUID(int=number)), parent=each["id"]) for number, each in enumerate(parents)]
    stray = body(id=str(UUID(int=5_000)), parent=str(UUID(int=99_999)))
    await side.write(*parents, stray, *children)
    assert await side.counts() == (2 * MANY, 0, 1)
