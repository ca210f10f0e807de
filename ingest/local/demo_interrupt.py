"""Ctrl-C and SIGTERM for the demo: stop once, cleanly, wherever it is; then clean up undisturbed.

The first signal raises ``KeyboardInterrupt``, or cancels the task that :meth:`Interrupts.run` runs. The later ones are
ignored: what they ask for is on its way. Servers that a harder kill leaves behind are ended by their guards.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


class Interrupts:
    """The one who hears the signals of this process."""

    def __init__(self) -> None:
        self._asked = False
        self._note: Callable[[], object] | None = None

    def install(self) -> None:
        """Hear SIGINT and SIGTERM from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)

    def hold(self) -> None:
        """From here on a signal only counts for :meth:`check`: everything is being stopped anyway."""
        self._note = lambda: None

    @contextmanager
    def later(self) -> Iterator[None]:
        """A signal inside the block raises KeyboardInterrupt at its end: for what must be done whole or not at all."""
        self.hold()
        try:
            yield
        finally:
            self._note = None
            self.check()

    def ignore(self) -> None:
        """All is done. Not the default again: while the interpreter ends, a late signal would kill it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raises KeyboardInterrupt if a signal came while it could not."""
        if self._asked:
            raise KeyboardInterrupt

    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """``asyncio.run`` whose task a signal cancels: an exception in the middle of the event loop would break it.

        Raises KeyboardInterrupt once the task has ended.
        """

        async def inside() -> Result:
            task = asyncio.current_task()
            assert task is not None
            loop = asyncio.get_running_loop()
            # Wakes the loop up, too: it may be waiting in a system call.
            self._note = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                self.check()
                return await main()
            finally:
                self.hold()

        try:
            return asyncio.run(inside())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            self._note = None
            self.check()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            return
        self._asked = True
        if self._note is None:
            raise KeyboardInterrupt
        self._note()
