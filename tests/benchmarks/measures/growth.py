"""P7: what a row costs as the table grows."""

from __future__ import annotations

from tests.benchmarks.bed import Bed, Database
from tests.benchmarks.contender import Service
from tests.benchmarks.figures import written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.measures.throughput import middle
from tests.benchmarks.result import Grid, Line, Plot, Result, Verdict
from tests.benchmarks.trial import Trial, run_on
from tests.benchmarks.workloads import BEGIN, DEVICES, EMOTION_SCORES, STEP, emotions

SMALLEST = 10_000
AGAIN = 0.01
FLAT = 0.10

FILL = f"""
    INSERT INTO analysis_audio_emotion_scores_raw (
        device_id, "timestamp", message_id, schema_version, segment_id, predicted_emotion, confidence_score,
        valence_score, arousal_score, dominance_score, emotion_probabilities, audio_features, model_version
    )
    SELECT
        'device-' || lpad((((hashint8(n) & 2147483647) % {DEVICES})::text), 3, '0'),
        $3::timestamptz + n * interval '{STEP.total_seconds()} s',
        md5('benchmark' || n)::uuid::text, 'v1', 'seg-' || lpad(n::text, 8, '0'),
        (ARRAY['happy', 'sad', 'angry', 'neutral', 'fear'])[1 + n % 5],
        0.5, (n % 200) / 100.0 - 1, 0.1, -0.2,
        '{{"happy":0.11,"sad":0.52,"angry":0.33,"neutral":0.94,"fear":0.25}}', '{{"rms":0.123,"zcr":0.456}}',
        'emotion-recogniser-2.0'
    FROM generate_series($1::bigint, $2::bigint - 1) AS n
"""  # noqa: S608 - constants of this project
"""Rows like the ones that are sent, made in the server: from number $1 to before $2, the first at $3."""
_FILL_AT_ONCE = 500_000


APPENDED = 1 / 3
"""Of the rows of a trial of the emotion scores: so that the smallest table stays small."""


def fill(database: Database, rows: int) -> None:
    """So many rows, before those that are sent."""
    for begin in range(0, rows, _FILL_AT_ONCE):
        database.query(FILL, begin, min(rows, begin + _FILL_AT_ONCE), BEGIN, timeout_s=1800)


@measure("P7", "The cost of a row as the table grows")
async def growth(context: Context, result: Result) -> None:
    appended = max(1000, int(context.size.rows * APPENDED))
    result.method = (
        "A table of its own is filled in the server to each size. Then the service appends "
        f"{appended:,} rows in the order of time, {AGAIN:.0%} of them redelivered, once for each repetition; the table "
        "is vacuumed and the server checkpointed before. *Flat* compares the rate at the largest size with that at "
        "the smallest."
    )
    bed = context.bed
    sizes = [size for size in (SMALLEST * 10**step for step in range(4)) if size <= context.size.largest] or [0]
    rows, points = list[list[str]](), list[tuple[float, float]]()
    for size in sizes:
        trials: list[Trial] = []
        with bed.database() as database:
            fill(database, size)
            for number in range(context.size.repetitions):
                trials.append(await _append(bed, database, size + number * appended, appended))
            found = database.query("SELECT pg_indexes_size('analysis_audio_emotion_scores_raw') / 1048576.0")
        rate, client, server = (
            middle(trials, value)
            for value in (lambda each: each.rate, lambda each: each.client_us, lambda each: each.server_us)
        )
        result.other_share = max(result.other_share, *(each.other_share for each in trials))
        rows.append([f"{size:,}", written(rate), written(client), written(server), written(float(found[0][0]))])
        points.append((float(max(size, 1)), rate))
        result.numbers |= {f"rate_{size}": rate, f"server_us_{size}": server}
        context.say(f"{size:,} rows: {written(rate)} rows/s, server {written(server)} µs a row")
    flat = points[-1][1] / points[0][1]
    result.verdicts.append(
        Verdict(
            f"rows/s at {sizes[-1]:,} rows ÷ at {sizes[0]:,}",
            f"within {FLAT:.0%}: 0.90–1.10",
            written(flat),
            abs(flat - 1) <= FLAT if len(sizes) > 1 else None,
        )
    )
    result.grids.append(
        Grid("By size", ("rows before", "rows/s", "client µs/row", "server µs/row", "indexes MiB"), rows)
    )
    result.plots.append(
        Plot("Rows a second by size of the table", "rows", "rows/s", [Line("loom-ingest", points)], True)
    )


async def _append(bed: Bed, database: Database, begin: int, rows: int) -> Trial:
    """One backlog of new rows onto the table."""
    database.query("VACUUM (ANALYZE) analysis_audio_emotion_scores_raw", timeout_s=1800)
    database.query("TRUNCATE ingest_offsets")  # the trial counts by it; its group is another one each time
    database.query("CHECKPOINT", timeout_s=600)
    async with bed.load(EMOTION_SCORES.topics, emotions(rows, bed.seed + begin, begin=begin, again=AGAIN)) as load:
        return await run_on(bed, Service(), load, database)
