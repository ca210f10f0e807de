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
TRIGGER = f"""
    CREATE FUNCTION benchmark_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''refused''; END';
    CREATE TRIGGER benchmark_segment BEFORE INSERT ON analysis_audio_emotion_scores_raw
    FOR EACH ROW WHEN (NEW.segment_id LIKE '{REFUSED_SEGMENTS}') EXECUTE FUNCTION benchmark_refuse()
"""
CLEAN, BY_CHECK, BY_TRIGGER = "clean", "1 % refused", "1 % refused by a trigger"


def _constrain(database: Database) -> None:
    database.query(CONSTRAINT)


def _forbid(database: Database) -> None:
    for statement in TRIGGER.split(";\n"):
        database.query(statement)


@measure("P4", "One row in a hundred refused by the database")
async def refusals(context: Context, result: Result) -> None:
    result.method = (
        "1 % of the rows, spread evenly, keep the contract and violate a CHECK constraint that both tables have; "
        "each becomes a dead letter with its neighbours written. Beside it, in the same round, as many without any. "
        "The server can be asked beforehand what a CHECK will refuse; what a trigger refuses can only "
        "be searched for."
    )
    bed, rows = context.bed, context.size.rows
    found: dict[str, list[Trial]] = {CLEAN: [], BY_CHECK: [], BY_TRIGGER: []}
    letters: list[int] = []

    async def count(database: Database) -> None:
        letters.append(database.query("SELECT count(*) FROM ingest_dead_letters")[0][0])

    async with (
        bed.load(EMOTION_SCORES.topics, emotions(rows, bed.seed)) as clean,
        bed.load(EMOTION_SCORES.topics, emotions(rows, bed.seed, refused=REFUSED)) as refused,
    ):
        for number in range(context.size.repetitions):
            trials = [(CLEAN, clean, _constrain), (BY_CHECK, refused, _constrain), (BY_TRIGGER, refused, _forbid)]
            for name, load, prepare in trials if number % 2 == 0 else reversed(trials):
                done = await run(bed, Service(), load, prepare=prepare, after=count if load is refused else None)
                found[name].append(done)
                context.say(f"{name}: {written(done.rate)} rows/s")
    assert set(letters) == {round(rows * REFUSED)}, f"{letters} dead letters of {rows} rows"
    result.other_share = max(each.other_share for trials in found.values() for each in trials)
    rates = {name: middle(trials, lambda each: each.rate) for name, trials in found.items()}
    ratio = rates[BY_CHECK] / rates[CLEAN]
    result.verdicts += [
        Verdict("rows/s with 1 % refused ÷ clean", f"≥ {GOAL}", written(ratio), ratio >= GOAL),
        Verdict("rows/s with 1 % refused by a trigger ÷ clean", "–", written(rates[BY_TRIGGER] / rates[CLEAN]), None),
    ]
    result.grids.append(Grid("Clean and refused", COLUMNS, [row(name, trials) for name, trials in found.items()]))
    result.notes.append(f"{letters[0]:,} dead letters in every trial: exactly the refused ones.")
