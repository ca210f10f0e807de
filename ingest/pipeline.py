"""The pipeline: all lanes of this process, the group's assignments, Kafka commits, and what is measured of them.

Promise kept here: one bad or slow topic does not stop the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import ledger, pauses
from ingest.batch import BatchPolicy
from ingest.consumer import Broker
from ingest.database import Failure, classify, describe
from ingest.decode import Decoder, TimestampLimits
from ingest.lane import Lane
from ingest.metrics import Metrics
from ingest.positions import Positions
from ingest.sampling import Sampler
from ingest.settings import Settings
from ingest.topics import Topic

log = structlog.get_logger(__name__)

COMMIT_EVERY_S = 1.0
SAMPLE_LAG_EVERY_S = 5.0
LOOK_FOR_TOPICS_EVERY_S = 10.0
COMPARE_LEDGER_EVERY_S = 2.0
KEEP_MEMBERSHIP_EVERY_S = 1.0
ASK_DATABASE_S = 5.0
READ_FAILS_TOO_LONG_S = 300.0
CLOSE_SAMPLER_S = 1.0


class Pipeline:
    """One member of the consumer group with a lane for each topic."""

    def __init__(
        self,
        settings: Settings,
        topics: Mapping[str, Topic],
        *,
        engine: AsyncEngine,
        database_id: str,
        metrics: Metrics,
        client_id: str,
    ) -> None:
        self._metrics = metrics
        self._engine = engine
        self._group = settings.kafka.group_id
        self._database_id = database_id
        self._broker = Broker(settings.kafka, self, client_id=client_id)
        positions = Positions(
            engine,
            self._broker,
            group=settings.kafka.group_id,
            database_id=database_id,
            auto_offset_reset=settings.kafka.auto_offset_reset,
            on_missing_offsets=settings.kafka.on_missing_offsets,
            metrics=metrics,
        )
        policy = BatchPolicy(
            fill_messages=settings.kafka.batch_size,
            interval_s=settings.kafka.batch_timeout,
            max_messages=settings.service.batch_max_messages,
            max_bytes=settings.service.batch_max_bytes,
        )
        limits = TimestampLimits(settings.service.max_clock_skew, settings.service.oldest_timestamp)
        self.lanes = {
            name: Lane(
                topic,
                engine=engine,
                broker=self._broker,
                positions=positions,
                group=settings.kafka.group_id,
                decoder=Decoder(topic, limits),
                policy=policy,
                metrics=metrics,
                on_written=self._written,
            )
            for name, topic in topics.items()
        }
        self._sampler = Sampler(
            settings.database,
            self._broker,
            self.lanes,
            group=settings.kafka.group_id,
            service=client_id,
            metrics=metrics,
        )
        self._sample_every_s = settings.service.monitor_every
        self._to_commit: dict[tuple[str, int], int] = {}
        self._missing: set[str] = set()
        self._behind_since: dict[tuple[str, int], float] = {}
        self.broker_problem: str | None = None
        self.group_problem: str | None = None
        self._group_failing_since: float | None = None
        self.database_problem: str | None = None
        self._compared = asyncio.Event()
        """The ledger and the pauses were read once."""
        self.joined = False
        """Whether the group has given this member its partitions, perhaps none."""

    async def start(self) -> None:
        """Connects to the broker. Raises KafkaError."""
        await self._broker.start()
        await self._subscribe()

    async def run(self, stop: asyncio.Event) -> None:
        """Reads and writes until ``stop`` is set, then writes what was read and returns.

        Raises FatalError's kind of failures as they come. Whoever is tired of waiting cancels.
        """
        await self._compare_ledger()
        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(lane.read()) for lane in self.lanes.values()]
            readers += [
                tasks.create_task(self._every(COMMIT_EVERY_S, self._commit)),
                tasks.create_task(self._every(SAMPLE_LAG_EVERY_S, self._sample_lag)),
                tasks.create_task(self._every(COMPARE_LEDGER_EVERY_S, self._compare_ledger)),
                tasks.create_task(self._every(KEEP_MEMBERSHIP_EVERY_S, self._keep_membership)),
                tasks.create_task(self._every(LOOK_FOR_TOPICS_EVERY_S, self._subscribe)),
                tasks.create_task(self._every(self._sample_every_s, self._sampler.sample)),
            ]
            writers = [tasks.create_task(self._write(lane)) for lane in self.lanes.values()]
            stopping = tasks.create_task(stop.wait())
            await asyncio.wait([stopping, *writers], return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                return  # a writer failed; the task group says how
            for reader in readers:
                reader.cancel()
            for lane in self.lanes.values():
                lane.stop()
            self._compared.set()
            await asyncio.wait(writers)

    async def close(self, *, within_s: float) -> None:
        """Commits what is written and leaves the group; gives each so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._commit()
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(within_s):
                await self._broker.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SAMPLER_S):
                await self._sampler.close()

    def troubles(self) -> dict[str, str]:
        """Topic → what keeps its lane from working."""
        return {
            name: f"{lane.status.state}: {lane.status.reason}"
            for name, lane in self.lanes.items()
            if lane.status.state != "running"
        }

    def unreadable_for_too_long(self) -> str | None:
        """Every read of every lane has failed for minutes: the client is broken, and a new process is the cure."""
        now = time.monotonic()
        if self._group_failing_since is not None and now - self._group_failing_since > READ_FAILS_TOO_LONG_S:
            return f"the group has failed for {READ_FAILS_TOO_LONG_S:g} s: {self.group_problem}"
        since = [lane.read_failing_since for lane in self.lanes.values() if lane.partitions]
        if since and all(each is not None and now - each > READ_FAILS_TOO_LONG_S for each in since):
            return f"no topic could be read for {READ_FAILS_TOO_LONG_S:g} s"
        return None

    # Rebalances: only marks.

    def assigned(self, partitions: Mapping[str, set[int]]) -> None:
        log.info("partitions assigned", partitions={name: sorted(numbers) for name, numbers in partitions.items()})
        self.joined = True
        for name, lane in self.lanes.items():
            lane.assign(sorted(partitions.get(name, ())))

    def revoked(self) -> None:
        for lane in self.lanes.values():
            lane.revoke()

    async def _write(self, lane: Lane) -> None:
        """A lane that somebody paused must not begin, and before the ledger was read once nobody knows."""
        await self._compared.wait()
        await lane.write()

    # What runs beside the lanes.

    @staticmethod
    async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await work()

    def _written(self, topic: str, offsets: Mapping[int, int]) -> None:
        self._to_commit.update({(topic, partition): offset for partition, offset in offsets.items()})

    async def _commit(self) -> None:
        offsets, self._to_commit = self._to_commit, {}
        done = not offsets
        try:
            done = done or await self._broker.commit(offsets, database_id=self._database_id)
        finally:
            if not done:
                self._to_commit = offsets | self._to_commit

    async def _subscribe(self) -> None:
        try:
            missing = await self._broker.subscribe(self.lanes)
        except KafkaError as error:
            self._set_broker_problem(describe(error))
            return
        for name in sorted(missing - self._missing):
            log.warning("topic does not exist yet; it is picked up when it appears", topic=name)
        self._missing = missing

    async def _sample_lag(self) -> None:
        believed = {name: lane.believed() for name, lane in self.lanes.items()}
        mine = {name: [each.number for each in lane.partitions] for name, lane in self.lanes.items()}
        try:
            ends = await self._broker.ends(mine)
        except KafkaError as error:
            self._set_broker_problem(describe(error))
            return
        self._set_broker_problem(None)
        self._metrics.lag_messages.clear()
        self._metrics.lag_seconds.clear()
        now = time.time()
        behind_since: dict[tuple[str, int], float] = {}
        for name, lane in self.lanes.items():
            lane.compare_ends(
                believed[name], {number: ends[name, number] for number in mine[name] if (name, number) in ends}
            )
            first_unwritten = lane.first_unwritten()
            for partition in lane.partitions:
                where = (name, partition.number)
                if where not in ends or partition.next_offset < 0:
                    continue
                lag = max(0, ends[where] - partition.next_offset)
                if lag:
                    # Nothing read yet (a held partition): its age counts from when it was first seen.
                    seen = self._behind_since.get(where, now)
                    timestamp = first_unwritten.get(partition.number)
                    behind_since[where] = seen if timestamp is None else timestamp / 1000
                self._metrics.lag_messages.labels(name, partition.number).set(lag)
                self._metrics.lag_seconds.labels(name, partition.number).set(
                    max(0.0, now - behind_since[where]) if lag else 0.0
                )
        self._behind_since = behind_since

    async def _compare_ledger(self) -> None:
        """Asks the database whether it answers, takes writes, and still has its ledger where the lanes believe it.

        Lanes that have nothing to write notice neither by themselves.
        """
        believed = {name: lane.believed() for name, lane in self.lanes.items()}
        try:
            async with asyncio.timeout(ASK_DATABASE_S), self._engine.connect() as connection:
                found = await ledger.read_all(connection, self._group, self.lanes)
                paused = await pauses.paused(connection, self._group)
                await ledger.require_writable(connection)
        except Exception as error:  # what kind it is decides
            if classify(error) is Failure.FATAL:
                raise
            if self.database_problem is None and not self._compared.is_set():
                log.warning("no lane begins before the ledger can be read; trying again", reason=describe(error))
            self.database_problem = describe(error)
            return
        self.database_problem = None
        for name, lane in self.lanes.items():
            lane.hold(name in paused)
            lane.compare(believed[name], {partition: at for (topic, partition), at in found.items() if topic == name})
        self._compared.set()

    async def _keep_membership(self) -> None:
        try:
            await self._broker.keep_membership()
        except KafkaError as error:
            problem = f"{type(error).__name__}: {error}"
            if self.group_problem is None:
                self._group_failing_since = time.monotonic()
                log.warning("the group does not go on; trying again until it does", reason=problem)
            self.group_problem = problem
        else:
            self.group_problem = self._group_failing_since = None

    def _set_broker_problem(self, problem: str | None) -> None:
        if (problem is None) != (self.broker_problem is None):
            if problem is None:
                log.info("broker answers again")
            else:
                log.warning("broker does not answer; trying again until it does", reason=problem)
                for lane in self.lanes.values():
                    lane.verify_again()
        self.broker_problem = problem
