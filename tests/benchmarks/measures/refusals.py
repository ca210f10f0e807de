"""P4: what rows cost that the database refuses."""

from __future__ import annotations

from tests.benchmarks.bed import Database
from tests.benchmarks.contender import Service
from tests.benchmarks.figures import written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.measures.throughput import COLUMNS, middle, row
from tests.benchmarks.result import Grid, Result, Verdict
from tests.benchmarks.trial import Trial, run
from tests.benchmarks.workloads import EMOTION_SCORES, REFUSED_SEGMENTS, emotions

REFUSED = 0.01
GOAL = 0.6
CONSTRAINT = f"""
    ALTER TABLE analysis_audio_emotion_scores_raw
    ADD CONSTRAINT benchmark_segment CHECK (segment_id NOT LIKE '{REFUSED_SEGMENTS}')
"""


def _constrain(database: Database) -> None:
    database.query(CONSTRAINT)


@measure("P4", "One row in a hundred refused by the database")
async def refusals(context: Context, result: Result) -> None:
    result.method = (
        "1 % of the rows, spread evenly, keep the contract and violate a CHECK constraint that both tables have; "
        "each becomes a dead letter with its neighbours written. Beside it, in the same round, as many without any."
    )
    bed, rows = context.bed, context.size.rows
    found: dict[str, list[Trial]] = {"clean": [], "1 % refused": []}
    letters: list[int] = []

    async def count(database: Database) -> None:
        letters.append(database.query("SELECT count(*) FROM ingest_dead_letters")[0][0])

    async with (
        bed.load(EMOTION_SCORES.topics, emotions(rows, bed.seed)) as clean,
        bed.load(EMOTION_SCORES.topics, emotions(rows, bed.seed, refused=REFUSED)) as refused,
    ):
        for number in range(context.size.repetitions):
            pair = [("clean", clean), ("1 % refused", refused)]
            for name, load in pair if number % 2 == 0 else reversed(pair):
                done = await run(bed, Service(), load, prepare=_constrain, after=count if load is refused else None)
                found[name].append(done)
                context.say(f"{name}: {written(done.rate)} rows/s")
    assert set(letters) == {round(rows * REFUSED)}, f"{letters} dead letters of {rows} rows"
    result.other_share = max(each.other_share for trials in found.values() for each in trials)
    ratio = middle(found["1 % refused"], lambda each: each.rate) / middle(found["clean"], lambda each: each.rate)
    result.verdicts.append(Verdict("rows/s with 1 % refused ÷ clean", f"≥ {GOAL}", written(ratio), ratio >= GOAL))
    result.grids.append(Grid("Clean and refused", COLUMNS, [row(name, trials) for name, trials in found.items()]))
    result.notes.append(f"{letters[0]:,} dead letters in every trial: exactly the refused ones.")
