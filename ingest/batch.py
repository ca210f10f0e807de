"""The batch that a lane fills: ready by count, bytes or age; full when it may not grow. Pure: the clock is passed in.

Promise kept here: memory is bounded by settings. A batch grows while the one before it is written, and while more is
waiting at the broker than makes one, so it is small when little arrives and large when the lane is behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.records import Item


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch is written, and how large it may become."""

    fill_messages: int
    """This many messages make it ready at once, unless as many more wait: then it goes on to fill."""
    max_age_s: float
    """So does a first message that has waited this long."""
    max_messages: int
    max_bytes: int
    """Bytes of the messages' values, keys and headers. One more poll of the client may lie on top."""

    def __post_init__(self) -> None:
        if not (self.fill_messages > 0 and self.max_messages > 0 and self.max_bytes > 0 and self.max_age_s >= 0):
            raise ValueError(f"a batch policy needs positive limits: {self}")


class Batch:
    """Items in the order they arrived."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._clear()

    def _clear(self) -> None:
        self.items: list[Item] = []
        self.bytes = 0
        self._first_at: float | None = None
        self._waiting = 0

    def __len__(self) -> int:
        return len(self.items)

    def add(self, items: Sequence[Item], now: float) -> None:
        """``now`` in seconds of a monotonic clock. There is at least one item."""
        if self._first_at is None:
            self._first_at = now
        self.items += items
        self.bytes += _size(items)

    def wait_for(self, waiting: int) -> None:
        """So many messages wait at the broker. Soon they will be in hand, or its age makes it ready."""
        self._waiting = waiting

    @property
    def full(self) -> bool:
        return len(self.items) >= self._policy.max_messages or self.bytes >= self._policy.max_bytes

    def ready_in(self, now: float) -> float | None:
        """Seconds until it should be written: 0 when ready, None when empty."""
        if self._first_at is None:
            return None
        fill = self._policy.fill_messages
        if self.full or (len(self.items) >= fill and self._waiting < fill):
            return 0.0
        return max(0.0, self._first_at + self._policy.max_age_s - now)

    def take(self) -> list[Item]:
        """All items; the batch is empty afterwards."""
        items = self.items
        self._clear()
        return items

    def drop(self, partitions: set[int]) -> int:
        """Forgets the items of partitions that are no longer this process's. Returns how many."""
        kept = [item for item in self.items if item.message.partition not in partitions]
        dropped = len(self.items) - len(kept)
        self.items = kept
        self.bytes = _size(kept)
        if not kept:
            self._first_at = None
        return dropped


def _size(items: Sequence[Item]) -> int:
    size = 0
    for item in items:
        message = item.message
        size += len(message.value or b"") + len(message.key or b"")
        for name, value in message.headers:
            size += len(name) + len(value or b"")
    return size
