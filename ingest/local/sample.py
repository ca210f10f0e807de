"""A stream that looks like Loom's, made from a seed: for the demo, tests and benchmarks. Pure: no clock, no I/O.

Sensors are by far the most; what AI services make of sound, images and pages comes between, with emails, likes and
archived tweets. About one message in a hundred is bad, in every way that producers have found so far
(:mod:`ingest.local.sample_faults`); some are delivered again, some late.

>>> now = datetime(2026, 1, 1, tzinfo=UTC)
>>> [message.topic for message in stream(2, seed=1, now=now)]
['device.sensor.accelerometer.raw', 'media.image.vision_annotations']
"""

from __future__ import annotations

import heapq
import json
import math
import random
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from ingest.local import sample_faults
from ingest.local.sample_messages import Messages
from ingest.local.sample_topics import PRODUCERS, SENSORS, SHARES

BAD = 0.01
AGAIN = 0.02
"""Share of messages that are a redelivery of an earlier one: a producer that retried."""
LATE = 0.01
"""Share of messages that others overtake."""
LATE_BY = (5, 400)
"""By how many messages they are overtaken."""

STEP = timedelta(milliseconds=10)
"""Between two messages' timestamps."""

Headers: TypeAlias = tuple[tuple[str, bytes], ...]


class SampleMessage(NamedTuple):
    """One message to be produced, and what should become of it."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    fault: str | None
    """What is bad about it, as :data:`ingest.local.sample_faults.FAULTS` names it; None for a good one."""
    row_key: tuple[str, ...]
    """The key of the row that a good one belongs to: two messages with the same one are one row."""
    timestamp: datetime
    """The message's own time: of a last-wins row, the newest prevails."""


def stream(count: int, *, seed: int, now: datetime) -> Iterator[SampleMessage]:
    """Exactly ``count`` messages, the same ones for the same arguments; their times end at ``now``.

    Messages of one key are to be produced in this order, to one partition.
    """
    return _Stream(random.Random(seed), now - count * STEP).take(count)


class _Stream:
    def __init__(self, rng: random.Random, begin: datetime) -> None:
        self._rng = rng
        self._time = begin
        self._messages = Messages(rng)
        self._faults = list(sample_faults.FAULTS)
        self._next_fault = len(self._faults)

    def take(self, count: int) -> Iterator[SampleMessage]:
        rng = self._rng
        late: list[tuple[int, int, SampleMessage]] = []
        recent: deque[SampleMessage] = deque(maxlen=500)
        made = 0
        for position in range(count):
            if late and (late[0][0] <= position or count - position <= len(late)):
                message = heapq.heappop(late)[2]
            elif recent and rng.random() < AGAIN:
                yield rng.choice(recent)
                continue
            else:
                message = self._make()
                made += 1
                if rng.random() < LATE and count - position > len(late) + 1:
                    heapq.heappush(late, (position + rng.randint(*LATE_BY), made, message))
                    message = self._make()
            if message.fault is None:
                recent.append(message)
            yield message

    def _make(self) -> SampleMessage:
        rng = self._rng
        self._time += STEP
        time = self._time + STEP * (rng.random() * 0.9)
        if rng.random() >= BAD:
            (topic,) = rng.choices(list(SHARES), list(SHARES.values()))
            return self._good(topic, time)
        # In turn rather than by chance: a short stream has them all, too.
        if self._next_fault >= len(self._faults):
            rng.shuffle(self._faults)
            self._next_fault = 0
        fault = self._faults[self._next_fault]
        self._next_fault += 1
        # Roots: by their shares alone, all but the sensors' would be too rare to be seen.
        possible = {name: math.sqrt(share) for name, share in SHARES.items() if name in fault.topics}
        (topic,) = rng.choices(list(possible), list(possible.values()))
        good = self._good(topic, time)
        return good._replace(value=fault.spoil(good.value, topic, rng), fault=fault.name)

    def _good(self, topic: str, time: datetime) -> SampleMessage:
        key, row_key, fields = self._messages.make(topic, time)
        headers: Headers = () if topic in SENSORS else (("producer", PRODUCERS[topic]),)
        value = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        return SampleMessage(topic, key.encode(), value, headers, None, row_key, time)
