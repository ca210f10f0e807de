"""P1, P2, P3: one process beside the server's own COPY, the incident's way, and the peers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from tests.benchmarks import trial
from tests.benchmarks.bed import Database, Load
from tests.benchmarks.contender import Contender, OneByOne, Service, UnavailableError
from tests.benchmarks.figures import Spread, written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.peers.debezium import Debezium
from tests.benchmarks.peers.quix import Quix
from tests.benchmarks.result import Grid, Line, Plot, Result, Verdict
from tests.benchmarks.trial import Trial, TrialError
from tests.benchmarks.workloads import EMOTION_SCORES, WORKLOADS, Workload, emotions_with_text

OURS = "loom-ingest"
CEILING = "binary COPY"
ONE_BY_ONE_ROWS = 20_000
"""Of the incident's way: it would take minutes for more."""

P1_GOAL, P2_GOAL = 0.50, 60.0
P3_RATE, P3_CPU, P3_MEMORY = 2.0, 1 / 3, 1 / 5

COLUMNS = ("", "rows/s", "client µs/row", "server µs/row", "broker µs/row", "peak MiB", "first row after s")


def row(name: str, trials: Sequence[Trial]) -> list[str]:
    """A contender's line."""

    def spread(value: Callable[[Trial], float]) -> str:
        found = [value(each) for each in trials if value(each) == value(each)]
        return str(Spread.of(found)) if found else "–"

    return [
        name,
        spread(lambda each: each.rate),
        spread(lambda each: each.client_us),
        spread(lambda each: each.server_us),
        spread(lambda each: each.broker_us),
        spread(lambda each: each.peak_mib),
        spread(lambda each: each.first_s),
    ]


def middle(trials: Sequence[Trial], value: Callable[[Trial], float]) -> float:
    """The median over trials, of those in which it could be measured; NaN for none."""
    known = [found for each in trials if (found := value(each)) == found]
    return median(known) if known else float("nan")


async def rounds(
    context: Context, result: Result, asked: Sequence[tuple[Contender, Load, int | None]], ceiling: Workload | None
) -> dict[str, list[Trial]]:
    """Interleaved: each round runs every contender once, and begins with another one than the round before.

    The ceiling's rows are those that the service wrote in the first round, as the server dumps them.
    """
    bed, found = context.bed, dict[str, list[Trial]]()
    missing: set[str] = set()
    files: dict[str, Path] = {}
    dumps = bed.directory / "dump"
    dumps.mkdir(exist_ok=True)
    for number in range(context.size.repetitions):
        turned = [*asked[number % len(asked) :], *asked[: number % len(asked)]]
        for contender, load, expect in turned:
            if contender.name in missing:
                continue

            async def keep(database: Database, load: Load = load) -> None:
                files.update(await trial.dump(database, bed.tables(load.topics), dumps))

            after = keep if ceiling is not None and contender.name == OURS and not files else None
            try:
                done = await trial.run(bed, contender, load, expect=expect, after=after)
            except UnavailableError as error:
                missing.add(contender.name)
                result.notes.append(f"{contender.name} could not be had here: {error}")
                continue
            except TrialError as error:
                result.notes.append(f"A trial failed: {error}")
                context.say(f"failed: {error}")
                continue
            found.setdefault(contender.name, []).append(done)
            context.say(
                f"{contender.name}: {written(done.rate)} rows/s, {written(done.client_us)} µs of client CPU a row"
            )
        if files:
            found.setdefault(CEILING, []).append(await trial.copy(bed, files))
    shutil.rmtree(dumps, ignore_errors=True)
    result.other_share = max(
        [
            result.other_share,
            *(each.other_share for trials in found.values() for each in trials if each.other_share > 0),
        ]
    )
    return found


@measure("P1", "One process beside the server's own COPY")
async def beside_copy(context: Context, result: Result) -> None:
    result.method = (
        "One `ingest run` process with its default settings reads a backlog, end to end. Beside it, in the same "
        "round, one connection COPYs the same rows in binary, encoded before, into the same empty table with all its "
        "constraints and indexes. Messages in the mixture that are bad or come twice end, too: a rate counts all "
        "that ended."
    )
    rows: list[list[str]] = []
    lines: list[Line] = []
    for workload in WORKLOADS:
        count = workload.count(context.size.rows)
        async with context.bed.load(workload.topics, workload.make(count, context.bed.seed)) as load:
            found = await rounds(context, result, [(Service(), load, None)], workload)
        ours, copied = found.get(OURS, []), found.get(CEILING, [])
        ratio = middle(ours, lambda each: each.rate) / middle(copied, lambda each: each.rate)
        for name, trials in found.items():
            rows.append([f"{workload.name}: {name}", f"{count:,}", *row("", trials)[1:-1]])
        lines += [
            Line(f"{workload.name}: {name}", [(index, middle(trials, lambda each: each.rate))])
            for index, (name, trials) in enumerate(found.items())
        ]
        main = workload is EMOTION_SCORES
        result.verdicts.append(
            Verdict(
                f"{workload.name} ({workload.what}): rows/s ÷ COPY's",
                f"≥ {P1_GOAL:.2f}" if main else "–",
                written(ratio),
                ratio >= P1_GOAL if main else None,
            )
        )
        key = workload.name.replace(" ", "_")
        result.numbers[f"{key}_rate"] = middle(ours, lambda each: each.rate)
        result.numbers[f"{key}_client_us"] = middle(ours, lambda each: each.client_us)
        result.numbers[f"{key}_server_us"] = middle(ours, lambda each: each.server_us)
        result.numbers[f"{key}_bytes"] = load.bytes / load.messages
    result.grids.append(Grid("One process, and COPY", ("", "messages", *COLUMNS[1:-1]), rows))
    result.plots.append(Plot("Rows a second, end to end, and COPY", "", "rows/s", lines))


@measure("P2", "Beside the incident's way")
async def beside_one_by_one(context: Context, result: Result) -> None:
    result.method = (
        "aiokafka with auto-commit, one `INSERT` and one transaction a message, from the same topic into the same "
        f"table; it is watched over the first {ONE_BY_ONE_ROWS:,} messages, the service over all."
    )
    load = EMOTION_SCORES.make(context.size.rows, context.bed.seed)
    async with context.bed.load(EMOTION_SCORES.topics, load) as lying:
        few = min(ONE_BY_ONE_ROWS, lying.messages)
        found = await rounds(context, result, [(Service(), lying, None), (OneByOne(), lying, few)], None)
    ours, theirs = found.get(OURS, []), found.get(OneByOne().name, [])
    ratio = middle(ours, lambda each: each.rate) / middle(theirs, lambda each: each.rate)
    result.verdicts.append(
        Verdict("rows/s ÷ one by one's", f"≥ {P2_GOAL:.0f}", written(ratio), _met(ratio >= P2_GOAL, ratio))
    )
    result.grids.append(
        Grid("One by one, and in batches", COLUMNS, [row(name, trials) for name, trials in found.items()])
    )


@measure("P3", "Beside the peers")
async def beside_peers(context: Context, result: Result) -> None:
    result.method = (
        "Each at its best settings (`tests/benchmarks/peers/`), any number of processes on the same cores, "
        f"interleaved, over {context.size.compared:,} messages. Rates and CPU count from the first row that is seen: "
        "nobody's start-up is in them. Debezium's topic "
        "holds the nested objects as JSON text: from objects it fills the jsonb columns with NULL. Peers get "
        "`synchronous_commit=off`, too, although a crash of the host could cost them rows by it."
    )
    bed, size, topics = context.bed, context.size, EMOTION_SCORES.topics
    async with (
        bed.load(topics, EMOTION_SCORES.make(size.compared, bed.seed)) as lying,
        bed.load(topics, emotions_with_text(size.compared, bed.seed)) as text,
    ):
        asked: list[tuple[Contender, Load, int | None]] = [
            (Service(), lying, None),
            (Service(f"{OURS}, 2 processes", 2), lying, None),
            (Debezium(), text, None),
            (Quix(), lying, None),
            (Quix(2), lying, None),
        ]
        found = await rounds(context, result, asked, None)
    result.grids.append(Grid("Ours and theirs", COLUMNS, [row(name, trials) for name, trials in found.items()]))
    result.plots.append(
        Plot(
            "Rows a second, end to end",
            "",
            "rows/s",
            [
                Line(name, [(index, middle(trials, lambda each: each.rate))])
                for index, (name, trials) in enumerate(found.items())
            ],
        )
    )
    ours = [trials for name, trials in found.items() if name.startswith(OURS)]
    theirs = [trials for name, trials in found.items() if not name.startswith(OURS)]
    if not ours or not theirs:
        result.verdicts.append(Verdict("ours ÷ the best peer's", "–", "no peer could be run", None))
        return
    one = ours[0]

    def best(of: list[list[Trial]], value: Callable[[Trial], float], choose: Callable[[list[float]], float]) -> float:
        known = [found for trials in of if (found := middle(trials, value)) == found]
        return choose(known) if known else float("nan")

    peer_rate, peer_us = (
        best(theirs, lambda each: each.rate, max),
        best(theirs, lambda each: each.client_us, min),
    )
    result.numbers |= {"peer_rate": peer_rate, "peer_client_us": peer_us}
    rate = best(ours, lambda each: each.rate, max) / peer_rate
    cpu = middle(one, lambda each: each.client_us) / peer_us
    memory = middle(one, lambda each: each.peak_mib) / best(theirs, lambda each: each.peak_mib, min)
    fastest = max(theirs, key=lambda trials: middle(trials, lambda each: each.rate))
    of_fastest = middle(one, lambda each: each.peak_mib) / middle(fastest, lambda each: each.peak_mib)
    result.verdicts += [
        Verdict("rows/s, our best ÷ the best peer's", f"≥ {P3_RATE:.0f}", written(rate), _met(rate >= P3_RATE, rate)),
        Verdict("client CPU a row, one process ÷ the least of a peer", "≤ 1/3", written(cpu), _met(cpu <= P3_CPU, cpu)),
        Verdict(
            f"peak memory, one process ÷ that of the fastest peer ({fastest[0].contender})",
            "≤ 1/5", written(of_fastest), _met(of_fastest <= P3_MEMORY, of_fastest),
        ),
        Verdict("peak memory, one process ÷ the least of a peer", "–", written(memory), None),
    ]  # fmt: skip


def _met(holds: bool, value: float) -> bool | None:
    """None where nothing was measured."""
    return holds if value == value else None
