"""P8: several processes in one group."""

from __future__ import annotations

import os

from tests.benchmarks.bed import Database
from tests.benchmarks.contender import Service
from tests.benchmarks.figures import Spread, written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.measures.throughput import COLUMNS, middle, row
from tests.benchmarks.result import Grid, Line, Plot, Result, Verdict
from tests.benchmarks.trial import Trial, run
from tests.benchmarks.workloads import EMOTION_SCORES, emotions

PROCESSES = (1, 2, 3)


@measure("P8", "Two and three processes in one group")
async def scaling(context: Context, result: Result) -> None:
    result.method = (
        "One, two and three processes start at once in one group and share the topic's six partitions. They, the "
        "broker and the database share the machine: its limit stands beside each."
    )
    bed, rows = context.bed, context.size.rows
    found: dict[int, list[Trial]] = {each: [] for each in PROCESSES}

    async def complete(database: Database) -> None:
        ((there,),) = database.query("SELECT count(*) FROM analysis_audio_emotion_scores_raw")
        assert there == rows, f"{there:,} rows of {rows:,} messages"

    async with bed.load(EMOTION_SCORES.topics, emotions(rows, bed.seed)) as load:
        for number in range(context.size.repetitions):
            for processes in PROCESSES if number % 2 == 0 else reversed(PROCESSES):
                done = await run(bed, Service(processes=processes), load, after=complete)
                found[processes].append(done)
                context.say(f"{processes} process{'es' if processes > 1 else ''}: {written(done.rate)} rows/s")
    cores = os.cpu_count() or 1
    rates = {each: middle(trials, lambda each: each.rate) for each, trials in found.items()}
    for each in PROCESSES[1:]:
        result.verdicts.append(
            Verdict(
                f"rows/s of {each} processes ÷ one's",
                "near what the cores leave",
                written(rates[each] / rates[1]),
                None,
            )
        )
    used = [
        [
            f"{each}",
            str(Spread.of((one.client_us + one.server_us + one.broker_us) * one.rate / 1e6 for one in trials)),
            written(cores * 1e6 / middle(trials, lambda one: one.client_us + one.server_us + one.broker_us)),
        ]
        for each, trials in found.items()
    ]
    result.grids += [
        Grid("Processes", COLUMNS, [row(f"{each}", trials) for each, trials in found.items()]),
        Grid(
            f"What they use of {cores} cores",
            ("processes", "cores used by service, server and broker", "rows/s if all cores did only this"),
            used,
        ),
    ]
    result.plots.append(
        Plot("Rows a second by processes", "processes", "rows/s", [Line("loom-ingest", list(rates.items()))])
    )
    result.notes.append("Nothing lost, nothing twice: every trial's table holds exactly the rows that were sent.")
    result.numbers |= {f"rate_{each}": rate for each, rate in rates.items()}
    result.other_share = max(each.other_share for trials in found.values() for each in trials)
