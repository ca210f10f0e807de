"""How long is waited before the next attempt, by the kind of failure."""

from __future__ import annotations

import asyncio

import pytest
from tenacity import Future, RetryCallState

from ingest.errors import LaneError
from ingest.fuse import FuseOpenError
from ingest.retry import FUSE_POLL_S, LANE_RETRY_S, MAX_WAIT_S, retrying, wait_by_failure


def after(attempt: int, error: Exception) -> RetryCallState:
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = attempt
    state.outcome = Future.construct(attempt, error, True)
    return state


@pytest.mark.parametrize("attempt", [1, 2, 5, 20, 5000])
def test_transient_failures_wait_longer_each_time_with_jitter_up_to_the_cap(attempt: int) -> None:
    waits = [wait_by_failure(after(attempt, ConnectionRefusedError())) for _ in range(300)]
    cap = min(MAX_WAIT_S, 0.1 * 2 ** min(attempt - 1, 20))
    assert min(waits) >= 0 and cap * 0.7 < max(waits) <= cap
    assert len(set(waits)) > 250


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (LaneError("no schema"), LANE_RETRY_S),
        (KeyError("bug"), LANE_RETRY_S),
        (FuseOpenError(("contract", "missing", "", ""), 100), FUSE_POLL_S),
    ],
)
def test_what_does_not_pass_by_itself_waits_as_long_as_documented(error: Exception, seconds: float) -> None:
    assert wait_by_failure(after(1, error)) == wait_by_failure(after(99, error)) == seconds


async def test_tries_without_bound_while_it_is_told_to_and_raises_the_rest_as_it_was() -> None:
    calls, slept = 0, []

    async def work() -> str:
        nonlocal calls
        calls += 1
        if calls <= 1000:
            raise ConnectionRefusedError
        raise KeyError("column")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    tries = retrying(retry_if=lambda error: isinstance(error, OSError), before_sleep=lambda state: None, sleep=sleep)
    with pytest.raises(KeyError, match="column"):
        await tries(work)
    assert (calls, len(slept)) == (1001, 1000)
