"""The one place of the local stack that sleeps: polling for a condition, up to a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Condition: TypeAlias = Callable[[], bool]


def wait_for(condition: Condition, *, deadline_s: float, every_s: float = 0.05) -> bool:
    """Return True as soon as ``condition()`` is true, False when ``deadline_s`` seconds have passed.

    The condition is asked at least once. What it raises ends the waiting: a condition that can't come true
    any more says why by raising.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        if condition():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
