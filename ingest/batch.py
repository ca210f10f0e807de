"""The batch that a lane fills: ready by count, bytes or time; full when it may not grow. Pure: the clock is passed in.

Promise kept here: memory is bounded by settings. A batch grows while the one before it is written, and while more is
waiting at the broker than makes one, so it is small when little arrives and large when the lane is behind. What comes
after a pause waits for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.records import Item


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch is written, and how large it may become."""

    fill_messages: int
    """This many messages make it ready at once, unless as many more wait: then it goes on to fill."""
    interval_s: float
    """So does this long a time since the batch before was taken: no message waits longer, and a lane to which little
    comes writes no more often."""
    max_messages: int
    max_bytes: int
    """Bytes of the messages' values, keys and headers. One more poll of the client may lie on top."""

    def __post_init__(self) -> None:
        if not (self.fill_messages > 0 and self.max_messages > 0 and self.max_bytes > 0 and self.interval_s >= 0):
            raise ValueError(f"a batch policy needs positive limits: {self}")


class Batch:
    """Items in the order they arrived."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._taken_at = -math.inf
        self._clear()

    def _clear(self) -> None:
        self.items: list[Item] = []
        self.bytes = 0
        self._waiting = 0

    def __len__(self) -> int:
        return len(self.items)

    def add(self, items: Sequence[Item]) -> None:
        self.items += items
        self.bytes += _size(items)

    def wait_for(self, waiting: int) -> None:
        """So many messages wait at the broker. Soon they will be in hand, or its time comes."""
        self._waiting = waiting

    @property
    def full(self) -> bool:
        return len(self.items) >= self._policy.max_messages or self.bytes >= self._policy.max_bytes

    def ready_in(self, now: float) -> float | None:
        """Seconds until it should be written: 0 when ready, None when empty. ``now`` is of a monotonic clock."""
        if not self.items:
            return None
        return 0.0 if self.filled else self.rest_in(now)

    @property
    def filled(self) -> bool:
        """Whether it is ready by its messages alone."""
        fill = self._policy.fill_messages
        return self.full or (len(self.items) >= fill and self._waiting < fill)

    def rest_in(self, now: float) -> float:
        """Seconds that are left of the time since the batch before."""
        return max(0.0, self._taken_at + self._policy.interval_s - now)

    def take(self, now: float) -> list[Item]:
        """All items; the batch is empty afterwards."""
        items = self.items
        self._taken_at = now
        self._clear()
        return items

    def drop(self, partitions: set[int]) -> int:
        """Forgets the items of partitions that are no longer this process's. Returns how many."""
        kept = [item for item in self.items if item.message.partition not in partitions]
        dropped = len(self.items) - len(kept)
        self.items = kept
        self.bytes = _size(kept)
        return dropped


def _size(items: Sequence[Item]) -> int:
    size = 0
    for item in items:
        message = item.message
        size += len(message.value or b"") + len(message.key or b"")
        for name, value in message.headers:
            size += len(name) + len(value or b"")
    return size
