"""Sampling: every ``LOOM_MONITOR_EVERY`` seconds, what ``ingest.monitoring`` keeps of this process.

Promise kept here: a sample delays nobody.

* It is written by a task of its own, on a connection of its own. From the lanes' pool it would take a connection just
  when they need each; and waiting for a free one would lose the samples of the busiest minutes.
* It reads the ledger without locking a row. It waits for nobody's lock longer than 0.5 s, and for anything at most 4 s.
* What fails is dropped, not kept: the next sample tells of the next interval. The log says when that begins and ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import Counter, Histogram

from ingest import monitoring
from ingest.consumer import Broker
from ingest.database import create_engine, describe
from ingest.dead_letters import storable
from ingest.lane import Lane
from ingest.metrics import Metrics
from ingest.monitoring import LaneSample
from ingest.settings import DatabaseSettings

log = structlog.get_logger(__name__)

ENDS_TIMEOUT_S = 2.0
WRITE_TIMEOUT_S = 4.0
LOCK_TIMEOUT_MS = 500
STATEMENT_TIMEOUT_MS = 2_000


@dataclass(frozen=True, slots=True)
class Totals:
    """One lane's counters since the process began."""

    batches: float = 0
    batch_messages: float = 0
    write_seconds: float = 0
    processed: float = 0
    failed: float = 0
    write_failures: float = 0

    def since(self, before: Totals) -> Totals:
        """What came to them."""
        return Totals(*(getattr(self, each.name) - getattr(before, each.name) for each in fields(Totals)))


class Sampler:
    """Writes this process's samples. One call of :meth:`sample` at a time."""

    def __init__(
        self,
        settings: DatabaseSettings,
        broker: Broker,
        lanes: Mapping[str, Lane],
        *,
        group: str,
        service: str,
        metrics: Metrics,
    ) -> None:
        alone = settings.model_copy(update={"min_pool_size": 1, "max_pool_size": 1})
        self._engine = create_engine(alone, application_name=f"{service[:55]}-monitor")
        self._broker = broker
        self._lanes = lanes
        self._group = group
        self._service = service
        self._metrics = metrics
        self._sampled_at = time.monotonic()
        self._before = self._totals()
        self._failing = False

    async def sample(self) -> None:
        """Writes one lag row for each assigned partition and one metrics row for each lane, or drops them."""
        assigned = {name: [each.number for each in lane.partitions] for name, lane in self._lanes.items()}
        samples = self._lane_samples(assigned)
        if not samples:
            return
        ends = await self._ends(assigned)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._write(ends, samples)
        except Exception as error:  # noqa: BLE001 - whatever it is: lanes go on, and say themselves what concerns them
            if not self._failing:
                log.warning("samples for monitoring can't be written; they are dropped", reason=describe(error))
            self._failing = True
        else:
            if self._failing:
                log.info("samples for monitoring are written again")
            self._failing = False

    async def close(self) -> None:
        """Closes its connection."""
        await self._engine.dispose()

    async def _ends(self, assigned: Mapping[str, Sequence[int]]) -> dict[tuple[str, int], int]:
        """The ends of the logs, now; none when the broker does not answer, which the pipeline tells."""
        try:
            async with asyncio.timeout(ENDS_TIMEOUT_S):
                return await self._broker.ends(assigned)
        except (KafkaError, TimeoutError):
            return {}

    async def _write(self, ends: dict[tuple[str, int], int], samples: Sequence[LaneSample]) -> None:
        async with self._engine.begin() as connection:
            await monitoring.limit(
                connection, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS
            )
            if ends:
                await monitoring.add_lag(connection, self._group, ends)
            await monitoring.add_metrics(connection, self._service, self._group, samples)

    def _lane_samples(self, assigned: Mapping[str, Sequence[int]]) -> list[LaneSample]:
        """Of each lane that has partitions, or had until just now and still has something to tell."""
        now, totals = time.monotonic(), self._totals()
        interval_ms = round((now - self._sampled_at) * 1000)
        samples = []
        for name, lane in self._lanes.items():
            done = totals[name].since(self._before[name])
            if assigned[name] or done != Totals():
                status = lane.status
                samples.append(
                    LaneSample(
                        topic=name,
                        interval_ms=interval_ms,
                        batches=int(done.batches),
                        batch_size=done.batch_messages / done.batches if done.batches else None,
                        duration_ms=done.write_seconds / done.batches * 1000 if done.batches else None,
                        messages_processed=int(done.processed),
                        messages_failed=int(done.failed),
                        write_failures=int(done.write_failures),
                        lane_state=status.state,
                        problem=storable(status.reason),
                    )
                )
        self._sampled_at, self._before = now, totals
        return samples

    def _totals(self) -> dict[str, Totals]:
        metrics = self._metrics
        batches, batch_messages = _count_and_sum(metrics.batch_messages)
        _, write_seconds = _count_and_sum(metrics.write_seconds)
        written, duplicate = _by_topic(metrics.written), _by_topic(metrics.duplicate)
        failed, write_failures = _by_topic(metrics.dead_lettered), _by_topic(metrics.write_failures)
        return {
            name: Totals(
                batches.get(name, 0),
                batch_messages.get(name, 0),
                write_seconds.get(name, 0),
                written.get(name, 0) + duplicate.get(name, 0),
                failed.get(name, 0),
                write_failures.get(name, 0),
            )
            for name in self._lanes
        }


def _by_topic(metric: Counter | Histogram, suffix: str = "_total") -> dict[str, float]:
    """The metric's samples of that suffix, summed over all labels but the topic."""
    found: dict[str, float] = {}
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith(suffix):
                topic = sample.labels["topic"]
                found[topic] = found.get(topic, 0) + sample.value
    return found


def _count_and_sum(metric: Histogram) -> tuple[dict[str, float], dict[str, float]]:
    return _by_topic(metric, "_count"), _by_topic(metric, "_sum")
