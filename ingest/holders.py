"""Who holds the ledger's rows and does not go on.

A process that is frozen (SIGSTOP, a suspended machine) within a statement, half sent, keeps its rows locked without
limit: its session is *active*, so ``idle_in_transaction_session_timeout`` does not apply, and its kernel answers every
keepalive. Whoever waits for these rows looks who it is and ends that session. What it had not committed is read again.

Promise kept here: an outage pauses, it needs nobody.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.database import sqlstate_of

log = structlog.get_logger(__name__)

STALE_AFTER_S = 10.0
"""A holder that has waited for its client so long, with the same statement, is taken to be frozen."""
LOCK_NOT_AVAILABLE = "55P03"

_WAITS_FOR_CLIENT = """
activity.datname = current_database() AND activity.usename = current_user
AND activity.state = 'active' AND activity.wait_event_type = 'Client'
"""
# Whoever has locked or changed a row has left its transaction's number there, and holds the lock of that number.
_FIND = text(
    f"""
    SELECT DISTINCT activity.pid, activity.backend_start, activity.state_change
    FROM ingest_offsets
    JOIN pg_locks ON pg_locks.locktype = 'transactionid' AND pg_locks.granted
        AND pg_locks.transactionid = ingest_offsets.xmax
    JOIN pg_stat_activity AS activity ON activity.pid = pg_locks.pid
    WHERE ingest_offsets.consumer_group = :group AND ingest_offsets.topic = :topic AND {_WAITS_FOR_CLIENT}
    """  # noqa: S608 - constants
)
_END = text(
    f"""
    SELECT pg_terminate_backend(activity.pid) FROM pg_stat_activity AS activity
    WHERE activity.pid = :pid AND activity.backend_start = :started AND activity.state_change = :since
        AND {_WAITS_FOR_CLIENT}
    """  # noqa: S608 - constants
)

_Holder = tuple[int, datetime, datetime]
"""Process id, start of the session, start of its statement: the same three are the same statement."""


class StaleHolders:
    """Finds and ends sessions of this role and database that keep the group's ledger rows locked and do not go on."""

    def __init__(self, engine: AsyncEngine, group: str) -> None:
        self._engine = engine
        self._group = group
        self._seen: dict[str, dict[_Holder, float]] = {}
        """Topic → holder → when it was first seen to wait for its client, by a monotonic clock."""

    async def look_after(self, error: BaseException, topic: str) -> None:
        """After a failure: if it was a wait for a lock, looks who holds the topic's rows. Ends whom it finds for the
        second time, :data:`STALE_AFTER_S` after the first.

        Raises what the database raises.
        """
        if sqlstate_of(error) != LOCK_NOT_AVAILABLE:
            self._seen.pop(topic, None)
            return
        now = time.monotonic()
        async with self._engine.connect() as connection:
            found = await connection.execute(_FIND, {"group": self._group, "topic": topic})
            seen = self._seen.get(topic, {})
            seen = self._seen[topic] = {holder: seen.get(holder, now) for holder in map(_holder, found)}
            for holder, since in seen.items():
                if now - since < STALE_AFTER_S:
                    continue
                pid, started, statement_since = holder
                if await connection.scalar(_END, {"pid": pid, "started": started, "since": statement_since}):
                    log.warning("ended a session that held the ledger and did not go on", topic=topic, pid=pid)


def _holder(row: Row[Any]) -> _Holder:
    return row.pid, row.backend_start, row.state_change
