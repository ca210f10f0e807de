"""What the writer and the ledger need to be tried on a real database, without a broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import ledger
from ingest.decode import Decoder, TimestampLimits
from ingest.fuse import Fuse
from ingest.records import Item
from ingest.topics import Topic
from ingest.writer import Outcome, Span, Work, Writer
from tests.support.messages import FakeMessage, encode

GROUP = "test-group"
LIMITS = TimestampLimits(86_400, datetime(2000, 1, 1, tzinfo=UTC))


class Table:
    """One topic's writer with its ledger: feed it messages as they would come from partition 0."""

    def __init__(self, engine: AsyncEngine, topic: Topic) -> None:
        self.engine = engine
        self.topic = topic
        self.writer = Writer(engine, GROUP, topic)
        self.fuse = Fuse()
        self._decode = Decoder(topic, LIMITS)
        self._next = 0

    async def begin(self) -> Table:
        async with self.engine.begin() as connection:
            await ledger.create(connection, GROUP, self.topic.name, {0: 0, 1: 0})
        return self

    def items(self, bodies: Sequence[Any], start: int | None = None) -> list[Item]:
        first = self._next if start is None else start
        return [
            self._decode(
                FakeMessage(
                    body if isinstance(body, bytes) else encode(body), offset=first + index, topic=self.topic.name
                )
            )
            for index, body in enumerate(bodies)
        ]

    def work(self, bodies: Sequence[Any], start: int | None = None) -> Work:
        first = self._next if start is None else start
        return Work(self.items(bodies, first), {0: Span(first, first + len(bodies))})

    async def write(self, *bodies: Any) -> Outcome:
        """One batch, one transaction, from where the last one ended."""
        outcome = await self.writer.write(self.work(bodies), self.fuse)
        self.fuse.committed(outcome.streak)
        self._next += len(bodies)
        return outcome

    async def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        async with self.engine.connect() as connection:
            return [dict(row._mapping) for row in await connection.execute(text(sql), parameters)]

    async def counts(self) -> tuple[int, int, int]:
        """Written, duplicate, dead-lettered, as the ledger has them."""
        (row,) = await self.rows(
            "SELECT sum(written)::int w, sum(duplicate)::int d, sum(dead_lettered)::int l FROM ingest_offsets "
            "WHERE topic = :topic",
            topic=self.topic.name,
        )
        return row["w"], row["d"], row["l"]


@pytest.fixture
def table(engine: AsyncEngine) -> Callable[[Topic], Awaitable[Table]]:
    """Makes the writing side of a topic, with partitions 0 and 1 in the ledger at offset 0."""
    return lambda topic: Table(engine, topic).begin()


class Seen:
    """The statements that SQLAlchemy sent. A COPY is none of them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.statements: list[str] = []
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *call: self.statements.append(call[2]))

    def way(self, table: str) -> str:
        """On which way the rows of a table went since it was last asked."""
        inserts = [each for each in self.statements if f"INSERT INTO {table} " in each]
        self.statements.clear()
        if not inserts:
            return "copy"
        return "staged" if "ingest_staging" in inserts[-1] else "values"
