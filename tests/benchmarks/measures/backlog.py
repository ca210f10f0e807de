"""P10: catching up while more arrives."""

from __future__ import annotations

import asyncio
import itertools
import time

import asyncpg

from tests.benchmarks.bed import Bed, Load, sender
from tests.benchmarks.contender import BY_LEDGER, Running, Service
from tests.benchmarks.figures import written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.result import Grid, Line, Plot, Result, Verdict
from tests.benchmarks.steady import send_steadily
from tests.benchmarks.trial import STALL_S, TrialError, run, started
from tests.benchmarks.workloads import EMOTION_SCORES, Templates, emotions, many_emotions

RATE = 2_000.0
GOAL = 1.2
CAUGHT_UP = RATE
"""Messages: a second's worth waits in any case."""
LOOK_EVERY_S = 1.0


@measure("P10", "Catching up with an hour's backlog")
async def backlog(context: Context, result: Result) -> None:
    result.method = (
        f"{context.size.hour:,} messages wait ({RATE:,.0f} a second for an hour, where all of it is measured), and "
        f"{RATE:,.0f} a second go on arriving. Lag is what the broker holds less what the ledger has, every second, "
        f"until it is under {CAUGHT_UP:,.0f}: a second's worth. *Ideal* is the backlog divided by what one process "
        "takes, measured before over a smaller one, less what arrives."
    )
    bed = context.bed
    async with bed.load(EMOTION_SCORES.topics, emotions(context.size.rows, bed.seed)) as load:
        fastest = await run(bed, Service(), load)
    result.other_share = fastest.other_share
    if not fastest.rate > RATE:
        result.verdicts.append(Verdict("time ÷ ideal", f"≤ {GOAL}", "never: no more is taken than arrives", False))
        return
    ideal_s = context.size.hour / (fastest.rate - RATE)
    lags = await _catch_up(context)
    rises = sum(1 for (_, before), (_, after) in itertools.pairwise(lags) if after > before)
    took_s, left = lags[-1]
    if left >= CAUGHT_UP:
        result.notes.append(f"The lag stood at {left:,.0f} messages when it had not fallen for {STALL_S:.0f} s.")
        took_s = float("inf")
    result.verdicts += [
        Verdict("time ÷ ideal", f"≤ {GOAL}", written(took_s / ideal_s), took_s / ideal_s <= GOAL),
        Verdict("looks at which the lag had risen", "0", f"{rises} of {len(lags)}", rises == 0),
    ]
    result.grids.append(
        Grid(
            "Catching up",
            ("backlog", "rate alone, rows/s", "ideal s", "took s", "rows/s while catching up"),
            [[f"{context.size.hour:,}", written(fastest.rate), written(ideal_s), written(took_s),
              written((context.size.hour + RATE * took_s) / took_s)]],
        )
    )  # fmt: skip
    result.plots.append(Plot("Lag while catching up", "s", "messages", [Line("lag", lags)]))


async def _catch_up(context: Context) -> list[tuple[float, float]]:
    """Seconds since the first row → lag."""
    bed = context.bed
    lags: list[tuple[float, float]] = []
    async with bed.load(EMOTION_SCORES.topics, many_emotions(context.size.hour, bed.seed)) as load:
        with bed.database() as database:
            connection = await asyncpg.connect(database.url)
            try:
                with started(bed, Service(), load, database) as running:
                    await _first(connection)
                    begun, arriving = time.monotonic(), asyncio.Event()
                    async with sender(bed.stack.kafka) as sends:
                        task = asyncio.create_task(
                            send_steadily(sends, load.topic, Templates(bed.seed + 1), RATE, arriving.is_set)
                        )
                        try:
                            await _watch(bed, load, connection, running, begun, lags)
                        finally:
                            arriving.set()
                            await task
            finally:
                await connection.close()
    return lags


async def _first(connection: asyncpg.Connection) -> None:
    deadline = time.monotonic() + STALL_S
    while not await connection.fetchval(BY_LEDGER):
        if time.monotonic() > deadline:
            raise TrialError(f"no row within {STALL_S:.0f} s")
        await asyncio.sleep(0.01)


async def _watch(
    bed: Bed,
    load: Load,
    connection: asyncpg.Connection,
    running: Running,
    begun: float,
    lags: list[tuple[float, float]],
) -> None:
    least, progress = float("inf"), time.monotonic()
    while True:
        lag = await bed.ends(load.topics) - int(await connection.fetchval(BY_LEDGER))
        now = time.monotonic()
        lags.append((now - begun, float(lag)))
        if lag < CAUGHT_UP:
            return
        if lag < least:
            least, progress = lag, now
        if not running.alive():
            raise TrialError(f"the service ended {lag:,} messages behind. {running.last_words()}")
        if now - progress > STALL_S:
            return
        await asyncio.sleep(max(0.0, begun + len(lags) * LOOK_EVERY_S - now))
