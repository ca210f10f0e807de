"""P5: from produce to visible."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import asyncpg

from ingest.settings import KafkaSettings
from tests.benchmarks.bed import Load, sender
from tests.benchmarks.contender import BY_LEDGER, Service
from tests.benchmarks.figures import Spread, written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.result import Grid, Result, Verdict
from tests.benchmarks.steady import LATENCIES, send_steadily, until_ended
from tests.benchmarks.trial import run, started
from tests.benchmarks.workloads import EMOTION_SCORES, Templates, emotions

ABOVE_TIMEOUT_S = 0.15
QUIET = 100.0
"""Messages a second of the quiet load."""
WARM_UP = 0.2
"""Share of the time that is left out at the beginning."""


@measure("P5", "From produce to visible")
async def latency(context: Context, result: Result) -> None:
    timeout_s = float(KafkaSettings.model_fields["batch_timeout"].default)
    result.method = (
        "Messages are sent at a steady pace, each with the time of its making, for "
        f"{context.size.seconds:.0f} s; the first fifth is left out. A row is visible when its transaction has "
        "committed: PostgreSQL's own commit timestamp, by the same clock. *Half* is half of what one process takes, "
        "measured before."
    )
    bed = context.bed
    async with bed.load(EMOTION_SCORES.topics, emotions(context.size.rows, bed.seed)) as load:
        fastest = await run(bed, Service(), load)
    half = fastest.rate / 2
    result.other_share = fastest.other_share
    context.say(f"half of the maximal load: {written(half)} messages/s")
    rows, p99s = [], list[float]()
    for name, rate in (("half of the maximum", half), ("quiet", QUIET)):
        found = [await _watch(context, rate) for _ in range(context.size.repetitions)]
        rows.append(
            [name, written(rate), *(str(Spread.of(1000 * each[place] for each in found)) for place in range(5))]
        )
        context.say(f"{name}: p50 {rows[-1][2]} ms, p99 {rows[-1][4]} ms")
        if rate == half:
            p99s = [each[2] for each in found]
    p99 = Spread.of(p99s).middle
    goal = timeout_s + ABOVE_TIMEOUT_S
    result.verdicts.append(Verdict("p99 at half of the maximal load, s", f"≤ {goal:.2f}", f"{p99:.3f}", p99 <= goal))
    result.grids.append(
        Grid("Latency", ("load", "messages/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"), rows)
    )
    result.numbers |= {"p99_s": p99, "half_rate": half}


async def _watch(context: Context, rate: float) -> list[float]:
    """Seconds: p50, p90, p99, p99.9, max."""
    bed, seconds = context.bed, context.size.seconds
    templates = Templates(bed.seed)
    with bed.database() as database:
        async with bed.topics(EMOTION_SCORES.topics) as names:
            load = Load(names, {}, 0)
            connection = await asyncpg.connect(database.url)
            try:
                with started(bed, Service(), load, database):
                    async with sender(bed.stack.kafka) as sends:
                        await sends.send(load.topic, templates.make(0, datetime.now(UTC)))
                        await sends.flush()
                        await until_ended(connection, BY_LEDGER, 1)
                        begun, end = datetime.now(UTC), time.monotonic() + seconds
                        sent = await send_steadily(sends, load.topic, templates, rate, lambda: time.monotonic() >= end)
                    await until_ended(connection, BY_LEDGER, sent + 1)
                    since = begun + timedelta(seconds=WARM_UP * seconds)
                    return [float(each) for each in await connection.fetchval(LATENCIES, since)]
            finally:
                await connection.close()
