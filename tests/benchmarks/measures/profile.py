"""The profile: where a microsecond of the client goes, and one of the server."""

from __future__ import annotations

import asyncio
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.bed import Database
from tests.benchmarks.contender import Service
from tests.benchmarks.figures import written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.measures.throughput import middle
from tests.benchmarks.result import Grid, Result
from tests.benchmarks.server import Seen, sample
from tests.benchmarks.stacks import Where, summed
from tests.benchmarks.trial import Sight, Trial, run
from tests.benchmarks.workloads import EMOTION_SCORES, emotions

SAMPLES_A_SECOND = 200
TABLE = "analysis_audio_emotion_scores_raw"
SIZES = f"""
    SELECT 'table' AS part, pg_table_size('{TABLE}')::float8 AS bytes
    UNION ALL
    SELECT indexrelid::regclass::text, pg_relation_size(indexrelid)::float8
    FROM pg_index WHERE indrelid = '{TABLE}'::regclass
"""  # noqa: S608 - a declared table's name


@measure("profile", "Where the time goes")
async def profile(context: Context, result: Result) -> None:
    result.method = (
        f"Emotion scores, one process. The client is sampled from outside by py-spy, {SAMPLES_A_SECOND} times a "
        "second, while it is on a CPU; a sample belongs to the stage of its innermost frame that has one. The server's "
        "sessions are sampled fifty times a second in `pg_stat_activity`, each of the two in trials of its own. Beside "
        "them, interleaved, trials without any of it tell what looking costs."
    )
    bed, rows = context.bed, context.size.rows
    spy = shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    plain, spied, sampled = list[Trial](), list[Trial](), list[Trial]()
    stacks, seen = list[str](), Seen()
    sizes: dict[str, float] = {}
    wal: list[float] = []

    async def look(sight: Sight) -> None:
        stacks.extend(await _spy(str(spy), sight, bed.directory / "stacks.txt"))

    async def look_at_server(sight: Sight) -> None:
        await sample(sight.connection, seen)

    async def measure_sizes(database: Database) -> None:
        sizes.update({row["part"]: row["bytes"] / rows for row in database.query(SIZES)})

    async with bed.load(EMOTION_SCORES.topics, emotions(rows, bed.seed)) as load:
        for _ in range(context.size.repetitions):
            plain.append(await run(bed, Service(), load, after=measure_sizes))
            if spy is not None:
                spied.append(await run(bed, Service(), load, during=look))
            before = bed.wal()
            sampled.append(await run(bed, Service(), load, during=look_at_server))
            wal.append((bed.wal() - before) / rows)
    if spy is None:
        result.notes.append("py-spy is not installed: no profile of the client.")
    result.other_share = max(each.other_share for each in (*plain, *spied, *sampled))
    client, server = middle(plain, lambda each: each.client_us), middle(plain, lambda each: each.server_us)
    if stacks:
        _client(result, summed(stacks), client)
    _server(result, seen, server)
    result.grids.append(
        Grid(
            "Bytes a row",
            ("part", "bytes/row"),
            [*([name, written(each)] for name, each in sizes.items()), ["WAL", written(sum(wal) / len(wal))]],
        )
    )
    rates = [(name, middle(trials, lambda each: each.rate)) for name, trials in
             (("unwatched", plain), ("client sampled", spied), ("server sampled", sampled)) if trials]  # fmt: skip
    result.grids.append(
        Grid("What looking costs", ("", "rows/s", "÷ unwatched"),
             [[name, written(rate), written(rate / rates[0][1])] for name, rate in rates])
    )  # fmt: skip
    result.numbers |= {"client_us": client, "server_us": server, "wal_bytes": sum(wal) / len(wal)}


async def _spy(program: str, sight: Sight, path: Path) -> list[str]:
    """Samples the process until cancelled; py-spy writes what it has when it is asked to end."""
    process = await asyncio.create_subprocess_exec(
        program, "record", "--pid", str(sight.running.pids[0]), "--rate", str(SAMPLES_A_SECOND), "--format", "raw",
        "--output", str(path), "--nolineno",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await process.wait()
    except asyncio.CancelledError:
        process.send_signal(2)
    try:
        _, words = await asyncio.wait_for(process.communicate(), 30)
    except TimeoutError:
        process.kill()
        await process.wait()
        return []
    if process.returncode:
        raise RuntimeError(f"py-spy failed: {words.decode(errors='replace')[-300:]}")
    return await asyncio.to_thread(lambda: path.read_text().splitlines())


def _client(result: Result, where: Where, client_us: float) -> None:
    result.grids.append(
        Grid(
            f"The client, by stage: {written(client_us)} µs a row, {where.samples:,} samples",
            ("stage", "share", "µs/row"),
            [[name, f"{share:.1%}", written(share * client_us)] for name, share in where.stages.items()],
        )
    )
    result.grids.append(
        Grid(
            "The client, by innermost function",
            ("function", "share", "µs/row"),
            [[f"`{name}`", f"{share:.1%}", written(share * client_us)] for name, share in where.functions.items()],
        )
    )
    result.numbers |= {f"stage {name}": share * client_us for name, share in where.stages.items()}


def _server(result: Result, seen: Seen, server_us: float) -> None:
    total = sum(seen.active.values())
    if not total:
        result.notes.append("No statement was seen on the server: too few rows to sample.")
        return

    def shares(counts: Mapping[str, float], least: float = 0.005) -> list[list[str]]:
        ordered = sorted(counts.items(), key=lambda each: -each[1])
        whole = sum(counts.values())
        return [[name, f"{count / whole:.1%}"] for name, count in ordered if whole and count / whole >= least]

    result.grids += [
        Grid(
            f"The server, by statement that runs: {written(server_us)} µs of CPU a row, {total:,} samples",
            ("statement", "share"),
            shares(seen.active),
        ),
        Grid("The server, by what a running statement waits for", ("waits for", "share"), shares(seen.waits)),
        Grid("The server's CPU, by process", ("process", "share"), shares(seen.cpu_s, 0.001)),
    ]
    result.notes.append(
        f"For {seen.between / (seen.between + total):.0%} of the time that a transaction is open, the server waits "
        "for its client."
    )
