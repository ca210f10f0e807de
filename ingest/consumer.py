"""The broker's side: group membership, reading, seeking, and what the broker knows of offsets. Wraps aiokafka.

What aiokafka does that this module guards against: it swallows exceptions of rebalance callbacks, sends no heartbeat
while they are awaited, hands out records before they ran, forgets pauses at each assignment, resets a retention gap
silently unless ``auto_offset_reset`` is ``none``, creates missing topics when it is asked to subscribe to them, and
goes on with heartbeats and empty answers when its task that fetches has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest

from ingest.reaching import reaching
from ingest.records import Message
from ingest.settings import KafkaSettings

log = structlog.get_logger(__name__)

MARKER = "loom-ledger:"
"""Begins the metadata of every offset this service commits; the id of the database follows."""
FETCH_WAIT_MS = 200
FETCH_LONG_POLL_MS = 100
"""How long the broker keeps a fetch that finds nothing. Other requests to it wait behind it."""
ASK_BROKER_S = 20.0
ANSWER_TIMEOUT_S = 5.0
"""A broker that says nothing of its offsets for so long does not answer."""
_NONE_OF_OURS = TopicPartition("", -1)
METADATA_MAX_AGE_MS = 30_000
"""A partition added to a topic, or a topic that appears, is seen within this time."""
MAX_POLL_INTERVAL_MS = 24 * 60 * 60 * 1000
"""Membership must not depend on how fast the database is: a lane in trouble fetches nothing for as long as it takes.
Whether the process is alive is ``/healthz``'s question."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What the group committed for a partition."""

    offset: int
    metadata: str

    @property
    def marker(self) -> str | None:
        """The id of the database whose ledger this offset came from; None for a former system's offset."""
        return self.metadata.removeprefix(MARKER) if self.metadata.startswith(MARKER) else None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the broker holds of a partition: from ``start`` up to, not including, ``end``."""

    start: int
    end: int


class OffsetsMissingError(Exception):
    """The broker does not have the offsets that were asked for."""

    def __init__(self, partitions: set[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)}")
        self.partitions = partitions


class ReadError(Exception):
    """Reading failed; what was handed out since the last success may be incomplete and has to be sought anew."""


class UnreadableHeaderError(Exception):
    """A message that comes next has a header whose name is not UTF-8 (see ``ingest.lenient``)."""


class AssignmentListener(Protocol):
    """Is told of assignments. Must only mark and return: no heartbeat is sent meanwhile."""

    def assigned(self, partitions: Mapping[str, set[int]]) -> None: ...
    def revoked(self) -> None: ...


async def existing_topics(settings: KafkaSettings, wanted: Iterable[str]) -> set[str]:
    """Those of the topics that the broker has and shows to this login. Raises KafkaError or TimeoutError."""
    options = settings.client_options()
    admin = AIOKafkaAdminClient(**options, client_id="loom-ingest-check")
    async with reaching(options, admin._client), asyncio.timeout(ASK_BROKER_S):
        await admin.start()
        try:
            return set(wanted) & set(await admin.list_topics())
        finally:
            await admin.close()


class Broker:
    """One member of the consumer group."""

    def __init__(self, settings: KafkaSettings, listener: AssignmentListener, *, client_id: str) -> None:
        self._settings = settings
        self._listener = _Listener(self, listener)
        self._subscribed: frozenset[str] = frozenset()
        self.joining = False
        """Between an assignment that has ended and the next one."""
        self._options = settings.client_options()
        self._connected = False
        self._consumer = AIOKafkaConsumer(
            **self._options,
            client_id=client_id,
            group_id=settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=settings.max_poll_records,
            fetch_max_bytes=settings.fetch_max_bytes,
            fetch_max_wait_ms=FETCH_LONG_POLL_MS,
            max_partition_fetch_bytes=settings.max_partition_fetch_bytes,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=min(3_000, settings.session_timeout_ms // 3),
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            rebalance_timeout_ms=settings.session_timeout_ms,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )

    async def start(self) -> None:
        """Connects. Raises KafkaError; a NoBrokerError, if the brokers say why. May be called again then."""
        async with reaching(self._options, self._consumer._client):
            if not self._connected:
                await self._consumer.start()
                self._connected = True
            # By the addresses that the brokers give of themselves, which need not be those of the settings.
            await self._consumer.topics()

    async def stop(self) -> None:
        """Leaves the group and closes the connections."""
        await self._consumer.stop()

    async def subscribe(self, wanted: Iterable[str]) -> set[str]:
        """Subscribes to those topics that exist; returns the ones that don't. Raises KafkaError."""
        wanted = frozenset(wanted)
        # Asking for a topic by name would create it on a broker that creates topics by itself.
        async with reaching(self._options, self._consumer._client):
            existing = wanted & frozenset(await self._consumer.topics())
        if existing and not existing <= self._subscribed:
            self._subscribed |= existing
            self._consumer.subscribe(sorted(self._subscribed), listener=self._listener)
        return set(wanted - existing)

    async def fetch(self, topic: str, partitions: Iterable[int]) -> dict[int, list[Message]]:
        """What has arrived of these partitions, waiting up to 200 ms for something.

        Raises OffsetsMissingError; or ReadError or UnreadableHeaderError, after which each partition has to be sought
        to where its reader stands.
        """
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        if self._consumer._fetcher.error_future.done():
            raise ReadError("the client has stopped fetching for good; only a new process reads again")
        try:
            records = await self._consumer.getmany(*wanted, timeout_ms=FETCH_WAIT_MS)
        except OffsetOutOfRangeError as error:
            raise OffsetsMissingError({partition.partition for partition in error.args[0]}) from error
        except UnicodeDecodeError as error:
            raise UnreadableHeaderError from error
        except (KafkaError, IllegalStateError, AssertionError) as error:
            if isinstance(error.__cause__, UnicodeDecodeError):  # without its compiled parser
                raise UnreadableHeaderError from error
            raise ReadError(f"{type(error).__name__}: {error}") from error
        return {partition.partition: messages for partition, messages in records.items()}

    def waiting(self, topic: str, offsets: Mapping[int, int]) -> int:
        """How many offsets of these partitions were at the broker at or after the given ones, when it last answered."""
        assigned = self._consumer.assignment()
        waiting = 0
        for partition, offset in offsets.items():
            there = TopicPartition(topic, partition)
            end = self._consumer.last_stable_offset(there) if there in assigned else None
            waiting += max(0, (end or 0) - offset)
        return waiting

    async def position(self, topic: str, partition: int) -> int | None:
        """The offset that is fetched next: past the last record handed out, control records and aborted transactions.
        None when the partition isn't this member's any more."""
        try:
            return int(await self._consumer.position(TopicPartition(topic, partition)))
        except IllegalStateError:
            return None

    def seek(self, topic: str, partition: int, offset: int) -> bool:
        """Reads on from ``offset``. False when the partition isn't this member's any more."""
        wanted = TopicPartition(topic, partition)
        try:
            self._consumer.seek(wanted, offset)
            self._consumer.resume(wanted)
        except (IllegalStateError, AssertionError):  # it asserts while a subscription changes
            return False
        return True

    def pause(self, topic: str, partition: int) -> None:
        """Stops fetching a partition until it is sought again."""
        wanted = TopicPartition(topic, partition)
        if wanted in self._consumer.assignment():
            self._consumer.pause(wanted)

    async def keep_membership(self) -> None:
        """Does what only fetching does in aiokafka: hands over errors of the group's coordination, without which it
        does not go on, and counts as a poll. A member whose lanes fetch nothing would be stuck or leave the group.

        Raises KafkaError.
        """
        await self._consumer.getmany(_NONE_OF_OURS, timeout_ms=0)

    def hold(self, partitions: Iterable[TopicPartition]) -> None:
        """Stops fetching. A position is set, though no record will be read there: without one aiokafka would ask for
        the committed offset, and raise for partitions that have none."""
        for partition in partitions:
            self._consumer.pause(partition)
            self._consumer.seek(partition, 0)

    def partitions(self, topic: str) -> set[int]:
        """Every partition of the topic, whoever owns it, as far as the last metadata tells."""
        return set(self._consumer.partitions_for_topic(topic) or ())

    async def committed(self, topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        """The group's committed offsets with their metadata, for the partitions that have one. Raises KafkaError."""
        wanted = set(partitions)
        # The consumer's own call returns no metadata, and takes an unknown partition for one without an offset. A
        # client for this question alone would connect anew for every topic.
        coordinator = self._consumer._coordinator
        async with _answer_about(f"the committed offsets of {topic}"):
            await coordinator.ensure_coordinator_known()
            request = OffsetFetchRequest(self._settings.group_id, [(topic, sorted(wanted))])
            answer = await coordinator._send_req(request)
        found: dict[int, Committed] = {}
        for name, offsets in answer.topics:
            for partition, offset, metadata, code in offsets:
                if code:
                    raise for_code(code)(f"about the committed offset of {name} partition {partition}")
                found[partition] = Committed(offset, metadata)
        if set(found) != wanted:
            # An answer that lacks a partition is none, not "no offset".
            raise KafkaError("the broker did not answer for every partition's committed offset")
        return {partition: each for partition, each in found.items() if each.offset >= 0}

    async def bounds(self, topic: str, partitions: Iterable[int]) -> dict[int, Bounds]:
        """What the broker holds of these partitions. Raises KafkaError."""
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        async with _answer_about(topic):
            # At once: each may wait behind a fetch.
            start, end = await asyncio.gather(
                self._consumer.beginning_offsets(wanted), self._consumer.end_offsets(wanted)
            )
        return {each.partition: Bounds(start[each], end[each]) for each in wanted}

    async def ends(self, partitions: Mapping[str, Iterable[int]]) -> dict[tuple[str, int], int]:
        """(topic, partition) → the log's end. Raises KafkaError."""
        wanted = [TopicPartition(topic, number) for topic, numbers in partitions.items() for number in numbers]
        async with _answer_about("the ends of partitions"):
            found = await self._consumer.end_offsets(wanted) if wanted else {}
        return {(partition.topic, partition.partition): offset for partition, offset in found.items()}

    async def commit(self, offsets: Mapping[tuple[str, int], int], *, database_id: str) -> bool:
        """Commits for lag tools. The truth is in the ledger, so a failure is only logged: False, try again later.

        Nothing is sent while the group is joined anew. The broker answers a connection's requests in turn, so a commit
        would wait behind the join, be refused for its old generation, and make the client join once more: a rebalance
        that the next commit meets, and so on, where a join takes longer than there is between two commits.
        """
        if self.joining:
            return False
        mine = self._consumer.assignment()
        wanted = {
            TopicPartition(topic, partition): (offset, MARKER + database_id)
            for (topic, partition), offset in offsets.items()
            if TopicPartition(topic, partition) in mine
        }
        if not wanted:
            return True
        try:
            await self._consumer.commit(wanted)
        except (KafkaError, IllegalStateError) as error:
            log.info(
                "offsets not committed to Kafka; the ledger has them",
                error=f"{type(error).__name__}: {error}",
            )
            return False
        return True


@asynccontextmanager
async def _answer_about(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            yield
    except TimeoutError as error:
        raise KafkaTimeoutError(f"no answer about {what} within {ANSWER_TIMEOUT_S:g} s") from error


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka ships no types
    def __init__(self, broker: Broker, listener: AssignmentListener) -> None:
        self._broker = broker
        self._listener = listener

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._broker.joining = True
        self._listener.revoked()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._broker.joining = False
        self._broker.hold(assigned)
        partitions: dict[str, set[int]] = {}
        for partition in assigned:
            partitions.setdefault(partition.topic, set()).add(partition.partition)
        self._listener.assigned(partitions)
