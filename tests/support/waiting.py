"""Waiting for conditions, with a deadline: tests don't sleep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

Result = TypeVar("Result")


async def eventually(
    ask: Callable[[], Awaitable[Result]],
    *,
    until: Callable[[Result], bool] = bool,
    within_s: float = 30,
    every_s: float = 0.05,
) -> Result:
    """The first answer that satisfies ``until``. Fails with the last one when the deadline passes."""
    last: list[Result] = []

    async def once() -> Result:
        last[:] = [await ask()]
        return last[0]

    try:
        return await AsyncRetrying(
            retry=retry_if_result(lambda answer: not until(answer)),
            wait=wait_fixed(every_s),
            stop=stop_after_delay(within_s),
        )(once)
    except RetryError:
        raise AssertionError(f"not within {within_s} s; the last answer was {last[0]!r}") from None
