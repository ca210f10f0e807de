"""What a lane keeps of what the broker hands it: what comes next, once, whatever was asked for before."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from ingest.batch import BatchPolicy
from ingest.database import create_engine
from ingest.decode import Decoder, TimestampLimits
from ingest.lane import DECODED_AT_ONCE, Lane
from ingest.ledger import LastRecord
from ingest.metrics import Metrics
from ingest.records import Item, Message
from ingest.settings import DatabaseSettings
from ingest.writer import Span, Work
from tests.support import messages
from tests.support.topics import PLAIN
from tests.support.waiting import eventually

LOG = [
    messages.FakeMessage(messages.encode(messages.plain(f"m{offset}")), offset=offset)
    for offset in range(4 * DECODED_AT_ONCE)
]
LIMITS = TimestampLimits(86_400, datetime(2000, 1, 1, tzinfo=UTC))


class LateBroker:
    """Answers when it is told to, and hands a message out once, as the client does: its position moves past it."""

    def __init__(self, hands: int = 5) -> None:
        self._hands = hands
        self.position_of = 0
        self.asked = 0
        self.answer = asyncio.Event()

    async def fetch(self, topic: str, partitions: Iterable[int]) -> dict[int, list[messages.FakeMessage]]:
        self.asked += 1
        await self.answer.wait()
        handed = LOG[self.position_of : self.position_of + self._hands]
        self.position_of += len(handed)
        if not handed:
            await asyncio.Event().wait()
        return {0: handed}

    def waiting(self, topic: str, offsets: dict[int, int]) -> int:
        return 0

    async def position(self, topic: str, partition: int) -> int:
        return self.position_of

    def seek(self, topic: str, partition: int, offset: int) -> bool:
        self.position_of = offset
        return True

    def pause(self, topic: str, partition: int) -> None:
        pass


class Meanwhile(Decoder):
    """Lets something happen as soon as the event loop turns after one message."""

    def __init__(self, offset: int, happens: Callable[[], None]) -> None:
        super().__init__(PLAIN, LIMITS)
        self._offset = offset
        self._happens = happens

    def __call__(self, message: Message) -> Item:
        if message.offset == self._offset:
            self._offset = -1
            asyncio.get_running_loop().call_soon(self._happens)
        return super().__call__(message)


def lane_of(broker: LateBroker, decoder: Decoder | None = None, *, fill: int = 100) -> Lane:
    return Lane(
        PLAIN,
        engine=create_engine(DatabaseSettings(url="postgresql://nobody:x@127.0.0.1:1/none"), application_name="test"),
        broker=broker,
        positions=None,
        group="group",
        decoder=decoder or Decoder(PLAIN, LIMITS),
        policy=BatchPolicy(fill, 60.0, 1000, 2**20),
        metrics=Metrics(),
        on_written=lambda *_: None,
    )


def assign(lane: Lane, broker: LateBroker, offset: int, *, compare: bool = False) -> None:
    """A new assignment, and what the writing task does with it: it seeks to where the ledger stands, or to the last
    message before, which is to be compared."""
    lane.assign([0])
    (partition,) = lane.partitions
    partition.next_offset = partition.taken = partition.tail = offset
    if compare:
        partition.verify = LastRecord.of(LOG[offset - 1])
    broker.seek(PLAIN.name, 0, offset - compare)
    partition.phase = "reading"


@asynccontextmanager
async def reading(lane: Lane) -> AsyncIterator[None]:
    task = asyncio.create_task(lane.read())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def offsets_read(lane: Lane) -> list[int]:
    """When the log's last message is there."""

    async def found() -> list[int]:
        return [item.message.offset for item in lane._batch.items]

    return await eventually(found, until=lambda offsets: offsets[-1:] == [len(LOG) - 1])


async def test_an_answer_that_outlives_its_assignment_swallows_nothing_of_the_next_one() -> None:
    broker = LateBroker()
    lane = lane_of(broker)
    assign(lane, broker, 0)
    async with reading(lane):

        async def asked() -> bool:
            return broker.asked == 1

        await eventually(asked)
        assign(lane, broker, 3)
        broker.answer.set()
        assert await offsets_read(lane) == list(range(3, len(LOG)))


async def test_the_last_message_that_is_read_again_to_be_compared_is_not_written_again() -> None:
    broker = LateBroker()
    lane = lane_of(broker)
    assign(lane, broker, 3, compare=True)
    broker.answer.set()
    async with reading(lane):
        assert await offsets_read(lane) == list(range(3, len(LOG)))


async def test_what_was_handed_over_before_the_ledger_moved_back_leaves_no_gap() -> None:
    broker = LateBroker(hands=len(LOG))

    def move_back() -> None:
        """What the writing task does when it finds the ledger elsewhere."""
        (partition,) = lane.partitions
        lane._unseek({0})
        partition.next_offset = partition.taken = partition.tail = 3
        broker.seek(PLAIN.name, 0, 3)
        partition.phase = "reading"
        lane._readable.set()

    lane = lane_of(broker, Meanwhile(DECODED_AT_ONCE + 7, move_back))
    assign(lane, broker, 3)
    broker.answer.set()
    async with reading(lane):
        assert await offsets_read(lane) == list(range(3, len(LOG)))


async def test_a_log_that_may_have_changed_is_compared_although_more_had_been_handed_over() -> None:
    broker = LateBroker(hands=len(LOG))

    def look_again() -> None:
        lane.verify_again()

    lane = lane_of(broker, Meanwhile(DECODED_AT_ONCE + 7, look_again))
    assign(lane, broker, 3)
    (partition,) = lane.partitions
    partition.last = dataclasses.replace(LastRecord.of(LOG[2]), timestamp=5)
    broker.answer.set()
    async with reading(lane):

        async def found() -> bool:
            return partition.mismatch is not None

        await eventually(found)


async def test_what_one_answer_hands_over_after_a_pause_is_one_batch_and_what_follows_has_time() -> None:
    broker = LateBroker(len(LOG))
    lane = lane_of(broker, fill=1000)
    taken = list[Work]()

    async def deliver(work: Work, ours: Callable[[Work], Work]) -> None:
        taken.append(work)

    lane._delivery.deliver = deliver  # type: ignore[method-assign]
    assign(lane, broker, 0)
    async with reading(lane):
        writing = asyncio.create_task(lane.write())

        async def asked() -> bool:
            return broker.asked == 1

        await eventually(asked)  # the writer waits, too
        broker.answer.set()

        async def written() -> bool:
            return bool(taken)

        await eventually(written)
        assert [len(work.items) for work in taken] == [len(LOG)]
        (partition,) = lane.partitions
        partition.tail += 2  # as control records move it
        assert not lane._due()
        lane.stop()
        await writing
        assert taken[1:] == [Work([], {0: Span(len(LOG), len(LOG) + 2)})]
