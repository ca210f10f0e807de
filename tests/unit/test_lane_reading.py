"""What a lane does with an answer that was asked for before its partition was assigned anew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime

from ingest.batch import BatchPolicy
from ingest.database import create_engine
from ingest.decode import Decoder, TimestampLimits
from ingest.lane import Lane
from ingest.metrics import Metrics
from ingest.settings import DatabaseSettings
from tests.support import messages
from tests.support.topics import PLAIN
from tests.support.waiting import eventually

LOG = [messages.FakeMessage(messages.encode(messages.plain(f"m{offset}")), offset=offset) for offset in range(20)]


class LateBroker:
    """Answers when it is told to, and hands a message out once, as the client does: its position moves past it."""

    def __init__(self) -> None:
        self.position_of = 0
        self.asked = 0
        self.answer = asyncio.Event()

    async def fetch(self, topic: str, partitions: Iterable[int]) -> dict[int, list[messages.FakeMessage]]:
        self.asked += 1
        await self.answer.wait()
        handed = LOG[self.position_of : self.position_of + 5]
        self.position_of += len(handed)
        if not handed:
            await asyncio.Event().wait()
        return {0: handed}

    async def position(self, topic: str, partition: int) -> int:
        return self.position_of

    def seek(self, topic: str, partition: int, offset: int) -> bool:
        self.position_of = offset
        return True


async def test_an_answer_that_outlives_its_assignment_swallows_nothing_of_the_next_one() -> None:
    broker = LateBroker()
    lane = Lane(
        PLAIN,
        engine=create_engine(DatabaseSettings(url="postgresql://nobody:x@127.0.0.1:1/none"), application_name="test"),
        broker=broker,
        positions=None,
        group="group",
        decoder=Decoder(PLAIN, TimestampLimits(86_400, datetime(2000, 1, 1, tzinfo=UTC))),
        policy=BatchPolicy(100, 1.0, 100, 2**20),
        metrics=Metrics(),
        on_written=lambda *_: None,
    )

    def assign(offset: int) -> None:
        """A new assignment, and what the writing task does with it: it seeks to where the ledger stands."""
        lane.assign([0])
        (partition,) = lane.partitions
        partition.next_offset = partition.taken = partition.tail = offset
        broker.seek(PLAIN.name, 0, offset)
        partition.phase = "reading"

    assign(0)
    reading = asyncio.create_task(lane.read())
    try:

        async def asked() -> bool:
            return broker.asked == 1

        await eventually(asked)
        assign(3)
        broker.answer.set()

        async def read_all() -> bool:
            return bool(lane._batch.items) and lane._batch.items[-1].message.offset == len(LOG) - 1

        await eventually(read_all)
        assert [item.message.offset for item in lane._batch.items] == list(range(3, len(LOG)))
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
