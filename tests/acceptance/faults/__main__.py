"""``make faults``: runs the matrix, and writes ``docs/faults.md`` when all of it ran.

``python -m tests.acceptance.faults [names…]`` runs some. Exit code 1 if a line is not 0 and 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.acceptance.faults import catalogue, report
from tests.acceptance.faults.fault import FAULTS, Fault
from tests.acceptance.faults.stand import Stand, standing
from tests.acceptance.faults.trial import Result, run
from tests.support.database import ROOT

assert catalogue.__all__  # importing it has registered all faults
LONGEST = ("killed-in-turn", "backlog")
"""These begin, so that at the end no slot waits for them alone."""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def told(result: Result) -> str:
    verdict = result.verdict
    if result.not_here is not None:
        return f"{result.fault.name}: not run: {result.not_here}"
    recovery = "–" if result.recovery_s is None else f"{result.recovery_s:.1f} s"
    counts = f"{verdict.messages} messages, {verdict.lost} lost, {verdict.twice} twice, {verdict.letters} dead letters"
    lines = [
        f"{'ok    ' if result.good else 'FAILED'} {result.fault.name}: {counts}, recovery {recovery}, "
        f"took {result.took_s:.0f} s{'; ' if result.notes else ''}{'; '.join(result.notes)}"
    ]
    lines += [f"       {each}" for each in ([result.error] if result.error else []) + verdict.examples]
    return "\n".join(lines)


async def work(queue: list[Fault], stand: Stand, seed: int, directory: Path, results: dict[str, Result]) -> None:
    """Runs faults on one stand until none is left."""
    while queue:
        fault = queue.pop(0)
        say(f"       {fault.name}: {fault.done}")
        results[fault.name] = await run(fault, stand, seed, directory / fault.name)
        say(told(results[fault.name]))


async def run_all(faults: Sequence[Fault], seed: int, at_once: int, directory: Path) -> tuple[list[Result], str]:
    """Runs the faults, each slot on a stand of its own; returns the results and the report. SIGTERM ends it as Ctrl-C
    does: what it started ends first."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    queue, results = sorted(faults, key=lambda each: each.name not in LONGEST), dict[str, Result]()
    with contextlib.ExitStack() as stack:
        stands = [
            await asyncio.to_thread(stack.enter_context, standing(directory / f"stand-{number}", say))
            for number in range(min(at_once, len(queue)))
        ]
        async with asyncio.TaskGroup() as group:
            for stand in stands:
                group.create_task(work(queue, stand, seed, directory / "logs", results))
        done = [results[fault.name] for fault in faults]
        return done, report.page(done, report.Machine.here(stands[0]), seed, len(stands))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="faults to run; all of them if none is named")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--at-once", type=int, default=2, help="faults at a time, each with a broker and a database")
    parser.add_argument("--list", action="store_true", help="name them and end")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(FAULTS)
    if unknown:
        parser.error(f"no fault is named {', '.join(sorted(unknown))}; --list names all")
    faults = [FAULTS[name] for name in options.names] or list(FAULTS.values())
    if options.list:
        for fault in FAULTS.values():
            say(f"{fault.name}{' (CI)' if fault.ci else ''}: {fault.done}")
        return 0
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what its clients say of a broker that is gone
    directory = Path(tempfile.mkdtemp(prefix="loom-ingest-faults-"))
    say(f"seed {options.seed}; the services' logs are in {directory / 'logs'}")
    results, page = asyncio.run(run_all(faults, options.seed, options.at_once, directory))
    if not options.names:
        (ROOT / "docs" / "faults.md").write_text(page)
        say("docs/faults.md is written")
    bad = [result.fault.name for result in results if not result.good and result.not_here is None]
    say(f"{len(results) - len(bad)} of {len(results)} without loss or repetition" + (f"; not: {bad}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except asyncio.CancelledError:
        sys.exit(143)
