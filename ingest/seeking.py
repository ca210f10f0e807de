"""Seeking: from where a lane's partitions are read, asked of ledger and broker.

Promise kept here: a partition that can't be sought holds back no other one, and says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import structlog
from aiokafka.errors import KafkaError

from ingest.database import Failure, classify, describe
from ingest.positions import Partition, Positions, Start
from ingest.retry import LANE_RETRY_S

log = structlog.get_logger(__name__)

SEEK_RETRY_S = 2.0
SEEKS_AT_ONCE = 8
"""Each takes a connection of the pool for a moment."""


class Seeking:
    """Of one topic. ``read_from`` is told each partition's start."""

    def __init__(self, topic: str, positions: Positions, read_from: Callable[[Partition, Start], None]) -> None:
        self._topic = topic
        self._positions = positions
        self._read_from = read_from

    async def seek(self, due: Sequence[Partition], never_read: Callable[[], Collection[int]]) -> None:
        """Seeks these; one that fails has a problem and a time to try again afterwards.

        ``never_read`` tells the partitions of this process of which it has no row of the ledger yet.
        Raises what is fatal for the whole process.
        """
        if len(due) > 1:
            due = await self._seek_together(due)
        # Together: each waits for answers of a broker that is busy with a fetch.
        for some in (due[start : start + SEEKS_AT_ONCE] for start in range(0, len(due), SEEKS_AT_ONCE)):
            await asyncio.gather(*(self._seek(partition, never_read) for partition in some))

    async def _seek_together(self, due: Sequence[Partition]) -> list[Partition]:
        """Seeks many by a few questions to ledger and broker, not a few for each; returns those that have to be asked
        about one by one. Where a question fails, that is all that are left, and each tells why."""
        left = list(due)
        try:
            left = await self._seek_plain(left)
            new = [each.number for each in left if each.next_offset < 0]
            if len(new) > 1:
                await self._positions.begin(self._topic, new)
                left = await self._seek_plain(left)
        except Exception as error:  # what kind it is decides
            if not isinstance(error, KafkaError) and classify(error) is Failure.FATAL:
                raise
        return left

    async def _seek_plain(self, due: Sequence[Partition]) -> list[Partition]:
        plain = {each.number: each for each in due if each.mismatch is None}
        starts = await self._positions.plain_starts(self._topic, plain)
        for number, start in starts.items():
            self._read_from(plain[number], start)
        return [each for each in due if each.number not in starts]

    async def _seek(self, partition: Partition, never_read: Callable[[], Collection[int]]) -> None:
        try:
            start = await self._positions.start_of(
                self._topic,
                partition.number,
                mismatch=partition.mismatch,
                known=partition.next_offset >= 0,
                beside=never_read(),
            )
        except KafkaError as error:
            self._hold(partition, "unsought", SEEK_RETRY_S, f"broker: {type(error).__name__}: {error}")
            return
        except Exception as error:  # what kind it is decides
            failure = classify(error)
            if failure is Failure.FATAL:
                raise
            if failure is Failure.TRANSIENT:
                self._hold(partition, "unsought", SEEK_RETRY_S, f"database: {describe(error)}")
            else:
                self._hold(partition, "held", LANE_RETRY_S, describe(error))
            return
        self._read_from(partition, start)

    def _hold(self, partition: Partition, phase: Literal["unsought", "held"], seconds: float, problem: str) -> None:
        if partition.problem is None or partition.phase != phase:
            log.warning(
                "partition not read; trying again",
                topic=self._topic,
                partition=partition.number,
                every_s=seconds,
                reason=problem,
            )
        partition.phase = phase
        partition.problem = problem
        partition.retry_at = time.monotonic() + seconds
