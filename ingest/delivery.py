"""Delivery: tries to write a batch until it is written, and tells why it isn't yet.

Promises kept here:

* A transient failure never becomes a dead letter. A message that fails again and again, while a transaction that only
  touches the ledger succeeds *and* a neighbour of it can be written, is at fault itself.
* A COMMIT without an answer is looked up in the ledger, never guessed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from tenacity import RetryCallState

from ingest import fuse as fuse_table
from ingest.database import SPLITTABLE, Failure, classify, describe, sqlstate_of
from ingest.fuse import Fuse, FuseOpenError
from ingest.holders import StaleHolders
from ingest.metrics import Metrics
from ingest.records import Item, Record
from ingest.retry import FUSE_RETRY_S, retrying
from ingest.topics import Topic
from ingest.writer import Outcome, UnansweredCommit, Work, Writer

log = structlog.get_logger(__name__)

FAILURES_BEFORE_HALVING = 5
NEIGHBOURS_TRIED = 3
PAUSED_S = 60.0
"""A paused lane looks this often, and when it is woken, whether it may go on."""

State = Literal["running", "retrying", "stopped", "fuse_open", "paused"]


@dataclass(frozen=True, slots=True)
class Status:
    """What a lane is doing, for ``/readyz``, metrics and people."""

    state: State = "running"
    reason: str | None = None


class Interrupted(Exception):
    """The service stops: what isn't written yet stays with the broker."""


class _Halve(Exception):
    """The batch itself, not the database, seems to be in trouble."""


@dataclass(slots=True)
class _Progress:
    """What is known of a batch that is being tried."""

    work: Work
    halved: bool = False
    """It is a part of a batch that was halved: then each failure halves it again."""
    failures: int = 0
    error: BaseException | None = None
    unanswered: Outcome | None = None
    fuse_opened_at: datetime | None = None
    fuse_retry_at: float = 0.0
    reached: bool = False
    """A transaction that only touches the ledger succeeded before the last attempt."""
    vouched: bool = False
    """A neighbour could be written before the last attempt."""
    neighbours: list[Item] = field(default_factory=list)
    seconds: float = 0.0
    """How long the last attempt took."""


class Delivery:
    """Brings one lane's batches into the database, one after the other."""

    def __init__(
        self,
        engine: AsyncEngine,
        group: str,
        topic: Topic,
        *,
        metrics: Metrics,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self._engine = engine
        self._group = group
        self._topic = topic
        self._metrics = metrics
        self._on_outcome = on_outcome
        self._holders = StaleHolders(engine, group)
        self._fuse = Fuse()
        self._wake = asyncio.Event()
        self._stopping = False
        self._status = Status()
        self._paused = False
        self._waiting: deque[_Progress] = deque()
        # One for all batches: each refers to itself, and would keep its batch in memory until the collector comes.
        self._retrying = retrying(retry_if=_retry_if, before_sleep=self._before_sleep, sleep=self._sleep)
        metrics.set_lane_state(topic.name, "running")

    @cached_property
    def _writer(self) -> Writer:
        """Made for the first batch: building the statements of a topic takes a hundredth of a second, and a topic to
        which nothing comes needs none."""
        return Writer(self._engine, self._group, self._topic)

    async def deliver(self, work: Work, ours: Callable[[Work], Work]) -> None:
        """Returns when all of the work is in the database or no longer this process's.

        ``ours`` returns what of it still belongs to this process; it is asked before every attempt.
        Raises Interrupted when the service stops meanwhile, FatalError's kind of failures as they come.
        """
        waiting = self._waiting = deque([_Progress(work)])
        done: list[Item] = []
        while waiting:
            progress = waiting.popleft()
            # Those that wait, and those that are written already: a redelivery is refused no less than a first one.
            progress.neighbours = [item for other in waiting for item in other.work.items[:NEIGHBOURS_TRIED]]
            progress.neighbours += done[-NEIGHBOURS_TRIED:]
            try:
                outcome: Outcome | None = await self._retrying(self._attempt, progress, ours)
            except _Halve:
                head, tail = progress.work.split(len(progress.work.items) // 2)
                waiting.extendleft((_Progress(tail, halved=True), _Progress(head, halved=True)))
                log.warning(
                    "halving a batch that fails while the database works",
                    topic=self._topic.name,
                    messages=len(progress.work.items),
                    error=describe(progress.error) if progress.error else None,
                )
                continue
            if outcome is None:
                self._set_status(Status())
                continue
            done += progress.work.items[-NEIGHBOURS_TRIED:]
            if outcome.steps:
                self._fuse.committed(outcome.streak)
                self._metrics.batch_messages.labels(self._topic.name).observe(len(progress.work.items))
                self._metrics.write_seconds.labels(self._topic.name).observe(progress.seconds)
            self._on_outcome(outcome)
            self._set_status(Status())

    @property
    def status(self) -> Status:
        return Status("paused", "by `ingest pause`, until `ingest resume`") if self._paused else self._status

    def hold(self, paused: bool) -> None:
        """While it is paused, no attempt begins; one that has begun ends."""
        if paused == self._paused:
            return
        self._paused = paused
        self._metrics.set_lane_state(self._topic.name, self.status.state)
        if paused:
            log.warning("lane paused; it keeps its place until it is resumed", topic=self._topic.name)
        else:
            log.info("lane resumed", topic=self._topic.name)
        self.wake()

    def items_waiting(self) -> list[Item]:
        """What of the batch in hand waits behind the part that is being tried."""
        return [item for progress in self._waiting for item in progress.work.items]

    @property
    def waiting(self) -> int:
        """How many these are."""
        return sum(len(progress.work.items) for progress in self._waiting)

    def wake(self) -> None:
        """Ends a wait before the next attempt: the assignment changed."""
        self._wake.set()

    def stop(self) -> None:
        """From now on nothing is waited for: a failed attempt is the last one."""
        self._stopping = True
        self._wake.set()

    async def _attempt(self, progress: _Progress, ours: Callable[[Work], Work]) -> Outcome | None:
        while True:
            self._wake.clear()  # what it told is asked for now
            progress.work = ours(progress.work)
            if not progress.work.spans:
                return None
            if not self._paused:
                break
            await self._sleep(PAUSED_S)
        if isinstance(progress.error, FuseOpenError):
            await self._check_fuse(progress, progress.error)
        elif progress.failures:
            await self._consider_the_batch(progress)
        started = time.monotonic()
        try:
            outcome = await self._writer.write(progress.work, self._fuse, unanswered=progress.unanswered)
            progress.seconds = time.monotonic() - started
            return outcome
        except UnansweredCommit as error:
            progress.unanswered = error.outcome
            raise
        except FuseOpenError as error:
            if progress.fuse_opened_at is None:
                async with self._engine.begin() as connection:
                    progress.fuse_opened_at = await fuse_table.report_open(
                        connection, self._group, self._topic.name, error.cause
                    )
            progress.fuse_retry_at = time.monotonic() + FUSE_RETRY_S
            raise
        except Exception as error:
            await self._holders.look_after(error, self._topic.name)
            raise

    async def _check_fuse(self, progress: _Progress, error: FuseOpenError) -> None:
        """Returns when it is worth trying; raises the error again when it isn't yet."""
        async with self._engine.connect() as connection:
            assert progress.fuse_opened_at is not None
            accepted = await fuse_table.accepted_since(
                connection, self._group, self._topic.name, progress.fuse_opened_at
            )
        if accepted:
            log.info("rejections accepted; they become dead letters", topic=self._topic.name)
            self._fuse.accept(error.cause)
        elif time.monotonic() < progress.fuse_retry_at:
            raise error

    async def _consider_the_batch(self, progress: _Progress) -> None:
        """After failures: is it the database for everybody, or this batch?

        A batch is halved if a transaction that only touches the ledger succeeds both before and after its last failure:
        an outage that has just ended halves none. For the halves of one, one such transaction is enough.

        A single message is given up only if it failed often, and its last failure lies between two moments in which a
        neighbour of it could be written, behind the same locks: a lock or an outage that has just ended condemns
        nobody.
        """
        items = progress.work.items
        enough = 1 if progress.halved and len(items) > 1 else FAILURES_BEFORE_HALVING
        unknown = progress.unanswered is not None and progress.unanswered.steps
        if progress.failures < enough or unknown:
            return
        reached_before = progress.reached or progress.halved
        progress.reached = await self._writer.reaches_ledger(progress.work)
        if not (reached_before and progress.reached):
            return
        if len(items) > 1:
            raise _Halve
        error = progress.error
        if error is None or sqlstate_of(error) not in SPLITTABLE or not items or not isinstance(items[0], Record):
            return
        vouched_before = progress.vouched
        progress.vouched = await self._writer.accepts_any(progress.neighbours, progress.work)
        if vouched_before and progress.vouched:
            progress.work.items[0] = self._writer.give_up(items[0], error, progress.failures)

    def _before_sleep(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert error is not None
        failure = classify(error)
        progress: _Progress = state.args[0]
        progress.error = error
        if failure is Failure.TRANSIENT:
            progress.failures += 1
        if not isinstance(error, FuseOpenError) or self._status.state != "fuse_open":
            self._metrics.write_failures.labels(self._topic.name, failure.value).inc()
        self._set_status(_status_of(error, failure))

    async def _sleep(self, seconds: float) -> None:
        if self._stopping:
            raise Interrupted
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        if self._stopping:
            raise Interrupted

    def _set_status(self, status: Status) -> None:
        """One log line a change of state, not one an attempt."""
        before, self._status = self._status, status
        if before.state == status.state:
            return
        self._metrics.set_lane_state(self._topic.name, self.status.state)
        if status.state == "running":
            log.info("writing again", topic=self._topic.name)
        else:
            log.warning(_LOGGED[status.state], topic=self._topic.name, reason=status.reason)


_LOGGED = {
    "retrying": "can't write; trying again until it succeeds",
    "stopped": "lane stopped; trying again every 30 s",
    "fuse_open": "fuse opened; trying again every 60 s",
}


def _retry_if(error: BaseException) -> bool:
    if not isinstance(error, Exception) or isinstance(error, Interrupted | _Halve):
        return False
    return classify(error) is not Failure.FATAL


def _status_of(error: BaseException, failure: Failure) -> Status:
    if isinstance(error, FuseOpenError):
        return Status("fuse_open", str(error))
    return Status("retrying" if failure is Failure.TRANSIENT else "stopped", describe(error))
