"""How failures are tried again: with tenacity, without bound, as long as their kind says.

Promise kept here: an outage pauses, it loses nothing and needs nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_never, wait_random_exponential

from ingest.database import Failure, classify
from ingest.errors import SchemaError
from ingest.fuse import FuseOpenError

FIRST_WAIT_S = 0.1
MAX_WAIT_S = 10.0
LANE_RETRY_S = 30.0
"""A stopped lane tries again this often."""
SCHEMA_RETRY_S = 5.0
"""A process that waits for a migration looks this often."""
FUSE_RETRY_S = 60.0
"""An open fuse tries again this often."""
FUSE_POLL_S = 2.0
"""And looks this often whether somebody accepted its rejections."""

_exponential = wait_random_exponential(multiplier=FIRST_WAIT_S, max=MAX_WAIT_S)


def wait_by_failure(state: RetryCallState) -> float:
    """Seconds until the next attempt: exponential with full jitter for what passes by itself, longer for the rest."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, FuseOpenError):
        return FUSE_POLL_S
    if isinstance(error, SchemaError):
        return SCHEMA_RETRY_S
    if error is not None and classify(error) is not Failure.TRANSIENT:
        return LANE_RETRY_S
    return _exponential(state)


def retrying(
    *,
    retry_if: Callable[[BaseException], bool],
    before_sleep: Callable[[RetryCallState], Any],
    sleep: Callable[[float], Awaitable[Any]],
) -> AsyncRetrying:
    """Tries again for ever while ``retry_if`` says so; everything else is raised at once, as it was."""
    return AsyncRetrying(
        retry=retry_if_exception(retry_if),
        wait=wait_by_failure,
        stop=stop_never,
        before_sleep=before_sleep,
        sleep=sleep,
        reraise=True,
    )
