"""Where a sampled process was: collapsed stacks of py-spy, summed up by stage and by function. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

STAGES: Mapping[str, tuple[str, ...]] = {
    "decode: contract, rows": ("ingest/decode.py", "ingest/topics/", "pydantic/"),
    "ledger and dead letters": ("ingest/ledger.py", "ingest/dead_letters.py"),
    "write: statements, rows to the server": (
        "ingest/statements.py", "ingest/copying.py", "ingest/staging.py", "ingest/searching.py", "ingest/writer.py",
        "ingest/delivery.py", "ingest/database.py", "sqlalchemy/", "asyncpg/", "pgvector/",
    ),
    "consume: fetch, parse, positions": ("aiokafka/", "ingest/consumer.py", "ingest/positions.py", "cramjam/"),
    "lane: batch, hand over, count": ("ingest/lane.py", "ingest/batch.py", "ingest/fuse.py", "prometheus_client/"),
    "samples, probes, logs": (
        "ingest/sampling.py", "ingest/http.py", "structlog/", "ingest/monitoring", "ingest/app.py",
    ),
}  # fmt: skip
"""Stage → parts of file names. The innermost frame that belongs to one decides."""
REST = "event loop and the rest"
IDLE = ("select (selectors.py", "_worker (concurrent", "accept (socket.py")
"""Parts of innermost frames that only wait. py-spy leaves out what sleeps in the kernel; it can't always tell."""


@dataclass(frozen=True)
class Where:
    """Shares of the samples, each between 0 and 1, the greatest first."""

    samples: int
    stages: dict[str, float]
    functions: dict[str, float]


def summed(lines: Iterable[str], functions: int = 15) -> Where:
    """What ``py-spy record --format raw`` wrote: ``outer (file:line);inner (file:line) samples`` a line."""
    stages: Counter[str] = Counter()
    innermost: Counter[str] = Counter()
    for line in lines:
        stack, _, number = line.strip().rpartition(" ")
        if not stack or not number.isdigit():
            continue
        frames = stack.split(";")
        if any(each in frames[-1] for each in IDLE):
            continue
        stages[_stage(frames)] += int(number)
        innermost[_plain(frames[-1])] += int(number)
    total = sum(stages.values())
    return Where(
        total,
        {name: count / total for name, count in stages.most_common()},
        {name: count / total for name, count in innermost.most_common(functions)},
    )


def _stage(frames: list[str]) -> str:
    for frame in reversed(frames):
        for name, parts in STAGES.items():
            if any(part in frame for part in parts):
                return name
    return REST


def _plain(frame: str) -> str:
    """``write (ingest/statements.py)``: without line, and without where the packages lie."""
    function, _, place = frame.partition(" (")
    place = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    for mark in ("site-packages/", "lib/python"):
        if mark in place:
            place = place.partition(mark)[2]
    if "/ingest/" in place:
        place = "ingest/" + place.rpartition("/ingest/")[2]
    return f"{function} ({place})"
