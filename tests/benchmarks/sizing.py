"""The table of ``docs/sizing.md``: partitions, pods, pool and connections for a rate, from what was measured. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.figures import written
from tests.benchmarks.result import Result

RATES = (1_000, 10_000, 100_000)
"""Messages a second."""
HEADROOM = 2.0
"""Pods are sized for so many times the rate: to catch up after an hour takes an hour, not for ever."""
LANE_CONNECTIONS = 1
"""Of one topic in one process: at most one transaction a lane is open."""
BESIDE = 3
"""Connections of a process's pool beside its lanes: pauses, the comparison of the ledger."""
SAMPLES = 1
"""Connections of a process beside its pool: the samples' own."""
IN_AN_UPGRADE = 2
"""Pods for each one: all new ones come before the old ones leave (``maxSurge`` of the chart)."""
TOPICS = 12
RESERVED = 20
"""Connections left for operators, migrations and monitoring."""

BEGIN, END = "<!-- figures: begin (make bench) -->", "<!-- figures: end -->"
WAITING = f"{BEGIN}\n_No quiet run of `make bench` has filled this table yet. The rules below stand without it._\n{END}"


@dataclass(frozen=True)
class Needed:
    """What one rate needs."""

    rate: int
    pods: int
    partitions: int
    pool: int
    connections: int
    client_cores: float
    server_cores: float
    megabytes: float
    """Of WAL a second."""


def connections(pods: int, pool: int) -> int:
    """What ``max_connections`` has to be."""
    return IN_AN_UPGRADE * pods * (pool + SAMPLES) + RESERVED


def needed(rate: int, *, capacity: float, client_us: float, server_us: float, wal_bytes: float) -> Needed:
    """For a rate in messages a second.

    Args:
        capacity: messages a second that one process takes, on cores of its own as measured.
        client_us, server_us: CPU a message.
        wal_bytes: a message.
    """
    pods = max(2, math.ceil(HEADROOM * rate / capacity))
    # Each pod needs a partition of the hottest topic, and spare ones let it grow without a new key-to-partition order.
    partitions = max(6, 2 * pods)
    pool = TOPICS * LANE_CONNECTIONS + BESIDE
    return Needed(
        rate,
        pods,
        partitions,
        pool,
        connections(pods, pool),
        rate * client_us / 1e6,
        rate * server_us / 1e6,
        rate * wal_bytes / 1e6,
    )


def table(results: Mapping[str, Result]) -> str:
    """The table in Markdown. Raises KeyError if P1 or the profile is missing."""
    ours, profile = results["P1"].numbers, results["profile"].numbers
    lines = [
        BEGIN,
        "| messages/s | pods | partitions of the hottest topic | `LOOM_DB_MAX_POOL_SIZE` | `max_connections` "
        "| cores, service | cores, database | WAL MB/s |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for rate in RATES:
        each = needed(
            rate,
            capacity=ours["emotion_scores_rate"],
            client_us=profile["client_us"],
            server_us=profile["server_us"],
            wal_bytes=profile["wal_bytes"],
        )
        lines.append(
            f"| {each.rate:,} | {each.pods} | {each.partitions} | {each.pool} | {each.connections} "
            f"| {written(each.client_cores)} | {written(each.server_cores)} | {written(each.megabytes)} |"
        )
    lines += [
        "",
        f"From {results['P1'].began[:10]}: one process took {written(ours['emotion_scores_rate'])} messages a second, "
        f"{written(profile['client_us'])} µs of its own CPU and {written(profile['server_us'])} µs of the database's "
        f"each, with {written(profile['wal_bytes'])} bytes of WAL. Pods are counted for twice the rate, and never "
        "fewer than two; connections for an upgrade, in which old and new pods run.",
        END,
    ]
    return "\n".join(lines)


def filled(text: str, results: Mapping[str, Result]) -> str:
    """The page with its table made anew. Raises ValueError if it has no place for one."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"docs/sizing.md has lost its marks {BEGIN} and {END}")
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table(results), text, flags=re.DOTALL)
