"""A lane: this process's partitions of one topic, and the way of their messages from the broker into the database.

Two tasks: one reads and decodes, one writes; the next batch is decoded while the last one is written. A lane waits for
nobody but itself, so one bad or slow topic does not stop the others.

Promises kept here:

* Order holds within a partition.
* An offset is never read past: records of an older assignment, or below the offset that is expected, are dropped on
  arrival, and a partition is read only from where the ledger says.
* Memory is bounded: one batch is being written and one is being filled; a full one is not read into.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.batch import Batch, BatchPolicy
from ingest.consumer import Broker, OffsetsMissingError, ReadError, UnreadableHeaderError
from ingest.decode import Decoder
from ingest.delivery import Delivery, Interrupted, Status
from ingest.ledger import LastRecord
from ingest.lenient import read_leniently
from ingest.metrics import Metrics
from ingest.positions import Partition, Positions, Start
from ingest.records import Item, Message, Record
from ingest.seeking import SEEK_RETRY_S, Seeking
from ingest.topics import Topic
from ingest.writer import Outcome, Span, Work

log = structlog.get_logger(__name__)

IDLE_POSITION_S = 1.0
"""How often a partition without messages is asked whether its position moved past control records."""
READ_RETRY_S = 1.0
DECODED_AT_ONCE = 50
"""Messages, half a millisecond. A transaction is a dozen of short exchanges: each would wait for all that a poll hands
over."""


class Lane:
    """One topic of one process. Its two tasks are :meth:`read` and :meth:`write`."""

    def __init__(
        self,
        topic: Topic,
        *,
        engine: AsyncEngine,
        broker: Broker,
        positions: Positions,
        group: str,
        decoder: Decoder,
        policy: BatchPolicy,
        metrics: Metrics,
        on_written: Callable[[str, Mapping[int, int]], None],
    ) -> None:
        self.topic = topic
        self.name = topic.name
        self._broker = broker
        self._seeking = Seeking(topic.name, positions, self._read_from)
        self._decode = decoder
        self._metrics = metrics
        self._buffered = metrics.buffered.labels(topic.name)
        self._read = metrics.read.labels(topic.name)
        self._on_written = on_written
        self._batch = Batch(policy)
        self._work: Work | None = None
        self._partitions: dict[int, Partition] = {}
        self._delivery = Delivery(engine, group, topic, metrics=metrics, on_outcome=self._written)
        self._changed = asyncio.Event()
        """Something the writer waits for: messages, an assignment, or the end."""
        self._room = asyncio.Event()
        self._room.set()
        self._positions_read_at = 0.0
        self._stopping = False
        self._readable = asyncio.Event()
        self._read_problem: str | None = None
        self.read_failing_since: float | None = None
        """Since when every read fails, by a monotonic clock."""

    # Assignment: called from the rebalance callbacks, so these only mark.

    def assign(self, partitions: Iterable[int]) -> None:
        """These are this process's partitions now, and no others."""
        self.revoke()
        self._partitions = {number: Partition(number) for number in partitions}
        self._metrics.partitions_assigned.labels(self.name).set(len(self._partitions))
        self._wake()

    def revoke(self) -> None:
        """No partition is this process's. What was read of them is dropped; their next owner reads it again."""
        self._drop(set(self._partitions), "rebalance")
        self._partitions = {}
        self._read_problem = self.read_failing_since = None
        self._metrics.partitions_assigned.labels(self.name).set(0)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._delivery.wake()

    def hold(self, paused: bool) -> None:
        """Somebody pauses the lane or lets it go on. A paused one reads until its batch is full, and writes nothing."""
        self._delivery.hold(paused)

    # What others ask.

    @property
    def status(self) -> Status:
        """The worst of the lane's troubles: of its writes, its partitions, or its reads."""
        if self._delivery.status.state != "running":
            return self._delivery.status
        for partition in self._partitions.values():
            if partition.problem is not None:
                return Status("stopped" if partition.phase == "held" else "retrying", partition.problem)
        if self._read_problem is not None:
            return Status("retrying", self._read_problem)
        return Status()

    @property
    def partitions(self) -> Sequence[Partition]:
        return list(self._partitions.values())

    def first_unwritten(self) -> dict[int, int]:
        """Partition → Kafka timestamp (ms) of its first message that was read and is not written."""
        found: dict[int, int] = {}
        for item in (*self._in_hand(), *self._batch.items):
            if item.message.timestamp >= 0:  # -1: the producer gave none
                found.setdefault(item.message.partition, item.message.timestamp)
        return found

    def believed(self) -> dict[int, int]:
        """Partition → where this process believes the ledger to stand."""
        return {each.number: each.next_offset for each in self._reading()}

    def compare(self, believed: Mapping[int, int], ledger: Mapping[int, int]) -> None:
        """What was believed before the ledger was read, against what it said.

        A database host that crashes may take its last acknowledged transactions back. A partition to which nothing
        new comes would never notice by writing.
        """
        back = {
            number
            for number, offset in believed.items()
            if number in self._partitions
            and self._partitions[number].phase == "reading"
            and self._partitions[number].next_offset >= offset
            and ledger.get(number, -1) < offset
        }
        if back:
            log.warning("the ledger moved back; reading again from there", topic=self.name, partitions=sorted(back))
            self._metrics.fenced.labels(self.name).inc(len(back))
            self._unseek(back)

    def compare_ends(self, believed: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """What was believed before the broker was asked, against where it says that its logs end.

        A log that ends before what is written is another one: a topic deleted and made anew, or cut. The client would
        notice only when it asks for what comes next, and not at all if as much has been written to the new one.
        """
        self._unseek({number for number, offset in believed.items() if ends.get(number, offset) < offset})

    def verify_again(self) -> None:
        """The broker is away: whether its logs are still the same is looked at before more is read."""
        for partition in self._reading():
            if partition.last is not None and not partition.gone:
                partition.verify = partition.last
                self._resume(partition)

    # Reading.

    async def read(self) -> None:
        """Reads and decodes until it is cancelled."""
        while True:
            await self._room.wait()
            reading = [partition for partition in self._reading() if not partition.gone]
            if not reading:
                self._readable.clear()
                await self._readable.wait()
                continue
            try:
                arrived = await self._broker.fetch(self.name, [partition.number for partition in reading])
            except OffsetsMissingError as error:
                for partition in reading:
                    partition.gone |= partition.number in error.partitions
                self._changed.set()
                continue
            except UnreadableHeaderError:
                read_leniently()
                self._resume_what_is_read(partition.number for partition in reading)
                continue
            except ReadError as error:
                await self._read_again(reading, error)
                continue
            self._read_problem = self.read_failing_since = None
            waiting = self._broker.waiting(self.name, {partition.number: partition.tail for partition in reading})
            self._batch.wait_for(waiting - sum(map(len, arrived.values())))
            await self._accept_all(arrived, [(partition, partition.sought) for partition in reading])
            await self._follow_positions(reading, arrived)
            if len(self._batch):
                self._changed.set()  # only now: what one answer hands over is one batch, with the control records in it

    async def _accept_all(
        self, arrived: Mapping[int, Sequence[Message]], sought: Sequence[tuple[Partition, int]]
    ) -> None:
        """Decodes a few messages at a time: what a write waits for is done between."""
        for partition, times in sought:
            messages = arrived.get(partition.number, ())
            for start in range(0, len(messages), DECODED_AT_ONCE):
                if not self._is_read(partition) or partition.sought != times:
                    # Meanwhile it may have gone, or been found elsewhere in the ledger: these are not to be written. Or
                    # a rebalance has taken it and given it back, and it has been sought: then these came from there,
                    # and the client has moved past them.
                    self._resume_what_is_read((partition.number,))
                    break
                self._accept(partition, messages[start : start + DECODED_AT_ONCE])
                await asyncio.sleep(0)

    def _accept(self, partition: Partition, messages: Sequence[Message]) -> None:
        if partition.verify is not None:
            expected, partition.verify = partition.verify, None
            first = messages[0]
            # A later offset means that compaction took the record: nothing can be compared.
            if first.offset == expected.offset and LastRecord.of(first) != expected:
                partition.mismatch = expected
                self._unseek({partition.number})
                return
        if messages[0].offset < partition.tail:
            messages = [message for message in messages if message.offset >= partition.tail]
            if not messages:
                return
        items = [self._decode(message) for message in messages]
        self._batch.add(items)
        for item in items:
            if isinstance(item, Record) and item.unknown_fields:
                for name in item.unknown_fields:
                    self._metrics.count_unknown_field(self.name, name)
        partition.tail = messages[-1].offset + 1
        self._read.inc(len(items))
        self._buffer_changed()
        if self._batch.filled:
            self._changed.set()

    async def _follow_positions(self, reading: Sequence[Partition], arrived: Mapping[int, object]) -> None:
        """Moves tails past control records and aborted transactions, or lag would never reach 0."""
        now = time.monotonic()
        all_of_them = now >= self._positions_read_at + IDLE_POSITION_S
        if all_of_them:
            self._positions_read_at = now
        for partition in reading:
            if not all_of_them and partition.number not in arrived:
                continue
            position = await self._broker.position(self.name, partition.number)
            if self._is_read(partition) and position is not None and position > partition.tail:
                partition.tail = position
                self._changed.set()

    async def _read_again(self, reading: Sequence[Partition], error: ReadError) -> None:
        if self._read_problem is None:
            log.warning("can't read; trying again until it succeeds", topic=self.name, reason=str(error))
            self.read_failing_since = time.monotonic()
        self._read_problem = str(error)
        self._resume_what_is_read(partition.number for partition in reading)
        await asyncio.sleep(READ_RETRY_S)

    def _resume(self, partition: Partition) -> None:
        """Reads on from where the partition stands. What the client had in hand is fetched again: its position may
        have moved past records that were lost with an error."""
        if self._is_read(partition):
            offset = partition.verify.offset if partition.verify else partition.tail
            partition.sought += 1
            self._broker.seek(self.name, partition.number, offset)

    def _resume_what_is_read(self, numbers: Iterable[int]) -> None:
        """The same by number: since a read began, a rebalance may have put another object in a partition's place."""
        for number in numbers:
            partition = self._partitions.get(number)
            if partition is not None:
                self._resume(partition)

    def _unseek(self, numbers: set[int]) -> None:
        """Where these partitions are read from has to be looked up again."""
        if not numbers:
            return
        for number in numbers & set(self._partitions):
            partition = self._partitions[number]
            partition.phase = "unsought"
            partition.sought += 1
            partition.retry_at = 0.0
            self._broker.pause(self.name, number)
        self._drop(numbers, "sought_anew")
        self._changed.set()

    # Writing.

    async def write(self) -> None:
        """Seeks what was assigned and writes what was read, until :meth:`stop` was called and nothing is left to do."""
        with contextlib.suppress(Interrupted):
            while True:
                self._changed.clear()  # what it told is looked at from here on
                await self._seek_due()
                if not self._due():
                    if self._stopping:
                        return
                    await self._wait()
                    continue
                work = self._take()
                if work is not None:
                    await self._deliver(work)

    def stop(self) -> None:
        """Write at once what was read, without waiting for anything, then end."""
        self._stopping = True
        self._delivery.stop()
        self._changed.set()

    async def _deliver(self, work: Work) -> None:
        owners = dict(self._partitions)

        def ours(work: Work) -> Work:
            lost = {
                number
                for number in work.spans
                if self._partitions.get(number) is not owners.get(number) or owners[number].phase != "reading"
            }
            if lost:
                self._count_dropped(sum(item.message.partition in lost for item in work.items), "rebalance")
                work = work.without(lost)
            self._work = work
            return work

        self._work = work
        try:
            await self._delivery.deliver(work, ours)
        except Interrupted:
            self._count_dropped(len(self._in_hand()) + len(self._batch.take(time.monotonic())), "stopping")
            raise
        finally:
            self._work = None
            self._buffer_changed()

    def _in_hand(self) -> list[Item]:
        """What was taken to be written and is not yet."""
        return [*self._work.items, *self._delivery.items_waiting()] if self._work else []

    def _due(self) -> bool:
        ready_in = self._ready_in(time.monotonic())
        return ready_in is not None and (ready_in <= 0 or self._stopping)

    def _ready_in(self, now: float) -> float | None:
        """Seconds until something should be written, if there is anything. Where only positions moved, past control
        records, that has time, too."""
        if not len(self._batch) and any(partition.tail > partition.taken for partition in self._reading()):
            return self._batch.rest_in(now)
        return self._batch.ready_in(now)

    async def _wait(self) -> None:
        now = time.monotonic()
        waits = [self._ready_in(now)]
        waits += [max(0.0, each.retry_at - now) for each in self._partitions.values() if each.phase != "reading"]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                self._changed.wait(), min((each for each in waits if each is not None), default=None)
            )

    def _take(self) -> Work | None:
        """The batch as it is, and how far each partition gets with it."""
        items = self._batch.take(time.monotonic())
        spans = {each.number: Span(each.taken, each.tail) for each in self._reading() if each.tail > each.taken}
        for partition in self._reading():
            partition.taken = partition.tail
        self._room.set()
        return Work(items, spans) if spans else None

    def _is_read(self, partition: Partition) -> bool:
        return self._partitions.get(partition.number) is partition and partition.phase == "reading"

    def _reading(self) -> Iterable[Partition]:
        return (partition for partition in self._partitions.values() if partition.phase == "reading")

    def _written(self, outcome: Outcome) -> None:
        """A transaction was committed, or found nothing that was its to write."""
        for number, step in outcome.steps.items():
            self._metrics.written.labels(self.name).inc(step.written)
            self._metrics.duplicate.labels(self.name).inc(step.duplicate)
            partition = self._partitions.get(number)
            if partition is not None:
                partition.next_offset = step.next_offset
                partition.last = step.last or partition.last
        for rejection in outcome.rejections:
            self._metrics.dead_lettered.labels(self.name, rejection.stage, rejection.reason).inc()
        if outcome.fenced:
            log.warning(
                "fenced: the ledger moved without this process",
                topic=self.name,
                partitions=sorted(outcome.fenced),
            )
            self._metrics.fenced.labels(self.name).inc(len(outcome.fenced))
            if self._work is not None:
                fenced = sum(item.message.partition in outcome.fenced for item in self._work.items)
                self._count_dropped(fenced, "fenced")
            self._unseek(outcome.fenced)
        self._on_written(self.name, {number: step.next_offset for number, step in outcome.steps.items()})

    # Seeking: from where a partition is read.

    async def _seek_due(self) -> None:
        self._unseek({each.number for each in self._reading() if each.gone and each.taken == each.tail})
        if self._stopping:
            return
        now = time.monotonic()
        due = [each for each in self._partitions.values() if each.phase != "reading" and each.retry_at <= now]
        await self._seeking.seek(due, self._never_read)

    def _never_read(self) -> list[int]:
        return [each.number for each in self._partitions.values() if each.next_offset < 0]

    def _read_from(self, partition: Partition, start: Start) -> None:
        if self._partitions.get(partition.number) is not partition:
            return
        self._drop({partition.number}, "sought_anew")
        partition.next_offset = partition.taken = partition.tail = start.next_offset
        partition.last = partition.verify = start.verify
        partition.mismatch, partition.gone = None, False
        partition.retry_at = time.monotonic() + SEEK_RETRY_S
        if self._broker.seek(self.name, partition.number, start.seek_to):
            partition.phase = "reading"
            self._readable.set()
            self._on_written(self.name, {partition.number: partition.next_offset})
            if partition.problem is not None:
                log.info("reading again", topic=self.name, partition=partition.number)
            partition.problem = None

    # Counting.

    def _drop(self, partitions: set[int], reason: str) -> None:
        self._count_dropped(self._batch.drop(partitions), reason)
        self._buffer_changed()

    def _count_dropped(self, count: int, reason: str) -> None:
        if count:
            self._metrics.dropped.labels(self.name, reason).inc(count)

    def _buffer_changed(self) -> None:
        in_hand = len(self._work.items) + self._delivery.waiting if self._work else 0
        self._buffered.set(len(self._batch) + in_hand)
        if self._batch.full:
            self._room.clear()
        else:
            self._room.set()
