"""One contender over one load, from a fresh database to the last row, watched from outside."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.benchmarks.bed import Bed, Database, Load
from tests.benchmarks.contender import Contender, Running
from tests.benchmarks.watch import Meter, peak_mib

FIRST_ROW_DEADLINE_S = 120.0
STALL_S = 60.0
"""Without a new row for so long, the contender has failed."""
_SLOWEST_LOOK_S = 0.5
_FASTEST_LOOK_S = 0.01

During = Callable[["Sight"], Awaitable[None]]


class TrialError(Exception):
    """A contender ended, stalled, or never began. Says which, and quotes its log."""


@dataclass(frozen=True)
class Trial:
    """What a run came to, counted from the first look that saw a row: start-up is outside."""

    contender: str
    messages: int
    """That ended between the first sight and the last."""
    seconds: float
    first_s: float
    """From the start of the process to the first sight of a row."""
    client_us: float
    """Client CPU a message, in microseconds: all processes of the contender."""
    server_us: float
    broker_us: float
    other_share: float
    """Of the machine's cores, what others used meanwhile."""
    peak_mib: float
    """The greatest resident memory, all processes added."""

    @property
    def rate(self) -> float:
        """Messages a second; NaN when the first look already saw the last one."""
        return self.messages / self.seconds if self.seconds > 0 and self.messages > 0 else float("nan")


@dataclass(frozen=True)
class Sight:
    """What can be looked at while a contender runs."""

    running: Running
    database: Database
    connection: Any
    """To the trial's database."""


@contextmanager
def started(bed: Bed, contender: Contender, load: Load, database: Database) -> Iterator[Running]:
    """The contender's processes, which end with the block. Raises UnavailableError, LocalStackError."""
    directory = bed.directory / "logs" / f"{contender.name.replace(' ', '-').replace(',', '')}-{secrets.token_hex(3)}"
    directory.mkdir(parents=True)
    starts = contender.starts(bed, load, database, directory)
    with Running(contender.name, directory) as running:
        for start in starts:
            running.launch(start)
        yield running


async def run(
    bed: Bed,
    contender: Contender,
    load: Load,
    *,
    expect: int | None = None,
    during: During | None = None,
    prepare: Callable[[Database], None] | None = None,
    after: Callable[[Database], Awaitable[None]] | None = None,
) -> Trial:
    """Runs the contender until ``expect`` (default: all) messages have ended.

    Args:
        during: called once, when the first row is seen, and runs beside; it is cancelled at the end.
        prepare: changes the empty database.
        after: called when all is there and the contender has stopped.

    Raises TrialError, UnavailableError.
    """
    with bed.database() as database:
        if prepare is not None:
            prepare(database)
        return await run_on(bed, contender, load, database, expect=expect, during=during, after=after)


async def run_on(
    bed: Bed,
    contender: Contender,
    load: Load,
    database: Database,
    *,
    expect: int | None = None,
    during: During | None = None,
    after: Callable[[Database], Awaitable[None]] | None = None,
) -> Trial:
    """The same on a database that is there."""
    expect = load.messages if expect is None else expect
    connection = await asyncpg.connect(database.url)
    beside: asyncio.Task[None] | None = None
    try:
        with started(bed, contender, load, database) as running:
            begun = time.monotonic()
            meter = Meter(running.pids, bed.postmaster, bed.broker_process, connection.get_server_pid())

            async def count() -> int:
                if not running.alive():
                    raise TrialError(f"{contender.name} ended by itself. {running.last_words()}")
                return int(await connection.fetchval(contender.counted_by))

            seen_first, first = await _first_sight(contender.name, count)
            reading = meter.read()
            if during is not None:
                own = await asyncpg.connect(database.url)
                beside = asyncio.create_task(_beside(during, Sight(running, database, own), own))
            seen_last, last = await _last_sight(contender.name, count, first, seen_first, expect)
            used = meter.since(reading)
            peak = peak_mib(running.pids)
            if beside is not None:
                beside.cancel()
                await asyncio.wait([beside])
                if not beside.cancelled() and (error := beside.exception()):
                    raise error
        if after is not None:
            await after(database)
    finally:
        if beside is not None:
            beside.cancel()
        await connection.close()
    messages, seconds = last - first, seen_last - seen_first
    each = messages / 1e6 if messages else float("nan")
    return Trial(
        contender=contender.name,
        messages=messages,
        seconds=seconds,
        first_s=seen_first - begun,
        client_us=used.client / each,
        server_us=used.server / each,
        broker_us=used.broker / each,
        other_share=used.other / seconds if seconds else float("nan"),
        peak_mib=peak,
    )


async def _beside(during: During, sight: Sight, connection: Any) -> None:
    try:
        with suppress(asyncio.CancelledError):  # the end of the trial, for what samples without one
            await during(sight)
    finally:
        connection.terminate()


async def _first_sight(name: str, count: Callable[[], Awaitable[int]]) -> tuple[float, int]:
    """When a row was first seen, and how many there were."""
    deadline = time.monotonic() + FIRST_ROW_DEADLINE_S
    while time.monotonic() < deadline:
        found = await count()
        if found:
            return time.monotonic(), found
        await asyncio.sleep(_FASTEST_LOOK_S)
    raise TrialError(f"{name} has not written a row within {FIRST_ROW_DEADLINE_S:.0f} s")


async def _last_sight(
    name: str, count: Callable[[], Awaitable[int]], first: int, begun: float, expect: int
) -> tuple[float, int]:
    """When ``expect`` messages were there. Looks seldom at first, and often when the end is near."""
    found, progress = first, begun
    while True:
        now = time.monotonic()
        if found >= expect:
            return now, found
        rate = (found - first) / (now - begun) if found > first else 0.0
        left = (expect - found) / rate if rate else _SLOWEST_LOOK_S
        await asyncio.sleep(min(_SLOWEST_LOOK_S, max(_FASTEST_LOOK_S, left / 4)))
        before, found = found, await count()
        now = time.monotonic()
        if found > before:
            progress = now
        elif now - progress > STALL_S:
            raise TrialError(f"{name}: {found:,} of {expect:,} messages, and no more within {STALL_S:.0f} s")


async def dump(database: Database, tables: list[str], directory: Path) -> dict[str, Path]:
    """The rows of the tables as a binary COPY takes them, one file a table that holds some."""
    connection = await asyncpg.connect(database.url)
    files: dict[str, Path] = {}
    try:
        for table in tables:
            if await connection.fetchval(f"SELECT 1 FROM {table} LIMIT 1"):  # noqa: S608 - a declared table's name
                files[table] = directory / f"{table}.copy"
                await connection.copy_from_table(table, output=files[table], format="binary", timeout=600)
    finally:
        await connection.close()
    return files


async def copy(bed: Bed, files: dict[str, Path]) -> Trial:
    """The ceiling: one connection COPYs rows that are encoded already into the same constrained tables."""
    contents = {table: file.read_bytes() for table, file in files.items()}
    with bed.database() as database:
        connection = await asyncpg.connect(database.url, server_settings={"synchronous_commit": "off", "jit": "off"})
        try:
            meter = Meter([], bed.postmaster, bed.broker_process, None)
            reading, begun = meter.read(), time.monotonic()
            for table, content in contents.items():
                await connection.copy_to_table(table, source=_chunks(content), format="binary", timeout=900)
            seconds, used = time.monotonic() - begun, meter.since(reading)
            rows = sum([await connection.fetchval(f"SELECT count(*) FROM {table}") for table in contents])  # noqa: S608
        finally:
            await connection.close()
    each, nan = rows / 1e6, float("nan")
    return Trial("binary COPY", rows, seconds, nan, nan, used.server / each, nan, used.other / seconds, nan)


async def _chunks(content: bytes, size: int = 1 << 18) -> Any:
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]
