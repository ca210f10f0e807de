"""P6: memory while a backlog is read."""

from __future__ import annotations

from tests.benchmarks.contender import Service
from tests.benchmarks.figures import Spread, written
from tests.benchmarks.measure import Context, measure
from tests.benchmarks.result import Grid, Result, Verdict
from tests.benchmarks.trial import run
from tests.benchmarks.workloads import EMOTION_SCORES, WORKLOADS, many_emotions

GOAL_MIB = 250.0
SHARES = {"voice segments": 0.03, "all twelve, mixed": 0.2}
"""Of the backlog's messages: 8 KB each, and twelve lanes at once."""


@measure("P6", "Memory with a backlog of a million")
async def memory(context: Context, result: Result) -> None:
    result.method = (
        "One process with its default settings reads a backlog from beginning to end. Its peak is the kernel's own "
        "(`VmHWM`). The goal is for the million emotion scores; the others show what large messages and twelve lanes "
        "at once add."
    )
    bed, rows = context.bed, []
    for workload in (each for each in WORKLOADS if each is EMOTION_SCORES or each.name in SHARES):
        count = max(1000, int(context.size.backlog * SHARES.get(workload.name, 1)))
        messages = many_emotions if workload is EMOTION_SCORES else workload.make
        async with bed.load(workload.topics, messages(count, bed.seed)) as load:
            peaks = []
            for _ in range(context.size.repetitions if workload is not EMOTION_SCORES else 1):
                done = await run(bed, Service(), load)
                peaks.append(done.peak_mib)
                result.other_share = max(result.other_share, done.other_share)
        peak = Spread.of(peaks)
        rows.append([workload.name, f"{load.messages:,}", written(load.bytes / 2**20), str(peak)])
        context.say(f"{workload.name}: {peak} MiB")
        if workload is EMOTION_SCORES:
            result.verdicts.append(
                Verdict(
                    f"peak MiB, {load.messages:,} messages",
                    f"≤ {GOAL_MIB:.0f}",
                    written(peak.high),
                    peak.high <= GOAL_MIB,
                )
            )
    result.grids.append(Grid("Peak memory", ("backlog", "messages", "MiB of values", "peak MiB"), rows))
