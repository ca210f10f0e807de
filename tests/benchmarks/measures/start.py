"""P9: from the start of the process to its first row, and its memory at rest."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg

from ingest.local.sample_topics import EVERY
from tests.benchmarks.bed import Load, sender
from tests.benchmarks.contender import BY_LEDGER, Service
from tests.benchmarks.figures import Spread, written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.result import Grid, Result, Verdict
from tests.benchmarks.steady import until_ended
from tests.benchmarks.trial import started
from tests.benchmarks.watch import resident_mib
from tests.benchmarks.workloads import Templates

START_GOAL_S = 1.5
REST_GOAL_MIB = 80.0
REST_LOOKS, REST_EVERY_S = 10, 0.5
"""The memory at rest is the median of so many looks, so far apart."""
REPETITIONS = 5
"""At least: a start takes a second."""

FIRST_ROW = "SELECT min(pg_xact_commit_timestamp(xmin)) FROM analysis_audio_emotion_scores_raw"


@measure("P9", "Start, and memory at rest")
async def start(context: Context, result: Result) -> None:
    result.method = (
        "The schema is there, all twelve topics exist, a few messages lie in one of them, and the broker has "
        "`group.initial.rebalance.delay.ms=0`. Python's modules are compiled, as they are in the image. The time runs "
        "from the start of the process to the commit of the first row. Memory at rest is looked at after that, while "
        "nothing arrives."
    )
    times, memories = [], []
    await _start(context)  # compiles
    for _ in range(max(REPETITIONS, context.size.repetitions)):
        first, rest = await _start(context)
        times.append(first)
        memories.append(rest)
        context.say(f"first row after {first:.2f} s; {rest:.0f} MiB at rest")
    time, memory = Spread.of(times), Spread.of(memories)
    result.verdicts += [
        Verdict("start to first row, s", f"≤ {START_GOAL_S}", written(time.middle), time.middle <= START_GOAL_S),
        Verdict(
            "memory at rest, MiB", f"≤ {REST_GOAL_MIB:.0f}", written(memory.middle), memory.middle <= REST_GOAL_MIB
        ),
    ]
    result.grids.append(
        Grid("Start", ("starts", "first row after s", "MiB at rest"), [[f"{time.times}", str(time), str(memory)]])
    )
    result.numbers |= {"start_s": time.middle, "rest_mib": memory.middle}


async def _start(context: Context) -> tuple[float, float]:
    bed, templates = context.bed, Templates(context.bed.seed)
    compiled = Service(settings={"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(bed.directory / "bytecode")})
    with bed.database() as database:
        async with bed.topics(EVERY) as names:
            async with sender(bed.stack.kafka) as sends:
                for number in range(10):
                    message = templates.make(number, datetime.now(UTC))
                    await sends.send(names[message.topic], message)
            connection = await asyncpg.connect(database.url)
            try:
                begun = datetime.now(UTC)
                with started(bed, compiled, Load(names, {}, 0), database) as running:
                    await until_ended(connection, BY_LEDGER, 10)
                    first = await connection.fetchval(FIRST_ROW)
                    looks = []
                    for _ in range(REST_LOOKS):
                        await asyncio.sleep(REST_EVERY_S)
                        looks.append(resident_mib(running.pids))
            finally:
                await connection.close()
    return (first - begun).total_seconds(), Spread.of(looks).middle
