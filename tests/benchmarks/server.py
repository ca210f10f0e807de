"""Where the database server's time goes, sampled from ``pg_stat_activity``: not every server has pg_stat_statements."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.watch import own_cpu_s

EVERY_S = 0.02
PROCESSES_EVERY = 25
"""Looks between two at the CPU of the server's processes."""

SESSIONS = """
    SELECT state, wait_event_type, wait_event, query FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
PROCESSES = """
    SELECT pid, CASE WHEN pid = pg_backend_pid() THEN 'the sampler itself' ELSE backend_type END AS kind
    FROM pg_stat_activity
    WHERE datname IS NULL OR datname = current_database()
"""


@dataclass
class Seen:
    """Samples of the sessions of one database."""

    active: Counter[str] = field(default_factory=Counter)
    """Statement → samples in which it ran."""
    waits: Counter[str] = field(default_factory=Counter)
    """What running statements waited for; ``CPU`` for nothing."""
    between: int = 0
    """Samples of sessions inside a transaction that waited for their client."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """Kind of process → CPU seconds."""


async def sample(connection: Any, seen: Seen) -> None:
    """Samples until it is cancelled."""
    begun: dict[int, tuple[str, float]] = {}
    looks = 0
    while True:
        for row in await connection.fetch(SESSIONS):
            if row["state"] == "active":
                seen.active[statement(row["query"])] += 1
                seen.waits[f"{row['wait_event_type']}: {row['wait_event']}" if row["wait_event"] else "CPU"] += 1
            elif row["state"] == "idle in transaction":
                seen.between += 1
        if looks % PROCESSES_EVERY == 0:
            for row in await connection.fetch(PROCESSES):
                begun.setdefault(row["pid"], (row["kind"], own_cpu_s(row["pid"])))
            for pid, (kind, then) in begun.items():
                now = own_cpu_s(pid)
                seen.cpu_s[kind] = seen.cpu_s.get(kind, 0.0) + max(0.0, now - then)
                begun[pid] = (kind, max(now, then))
        looks += 1
        await asyncio.sleep(EVERY_S)


_NAME = r'(?:"?\w+"?\.)?"?(\w+)"?'


def statement(query: str) -> str:
    """What a statement does, and to what: without values, columns and names that differ each time."""
    text = " ".join(query.split())
    for pattern, said in (
        (rf"^COPY {_NAME}", "COPY {}"),
        (rf"^INSERT INTO {_NAME}.* SELECT ", "INSERT … SELECT {}"),
        (rf"^INSERT INTO {_NAME}", "INSERT {}"),
        (rf"^UPDATE {_NAME}", "UPDATE {}"),
        (rf"^DELETE FROM {_NAME}", "DELETE {}"),  # noqa: S608 - a pattern
        (rf"^SELECT .* FROM {_NAME}.* FOR UPDATE", "SELECT … FOR UPDATE {}"),  # noqa: S608 - a pattern
        (r"^SELECT", "SELECT"),
        (r"^(SAVEPOINT|RELEASE|ROLLBACK TO)", "{}"),
    ):
        if found := re.match(pattern, text, re.IGNORECASE):
            return said.format(*found.groups())
    return text.split(" ")[0].rstrip(";").upper()[:30]
