"""``make bench``: measures P1 … P10 and the profile, and writes ``docs/performance.md`` when all of it was measured.

``python -m tests.benchmarks P1 profile`` measures some, ``pure`` times the pure parts. Exit code 1 if a measure failed
(a goal that is missed is a result, no failure).
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest.errors import FatalError
from ingest.local.demo_interrupt import Interrupts
from tests.benchmarks import measures
from tests.benchmarks.bed import Bed, bedded
from tests.benchmarks.measure import MEASURES, Context, Size, in_order
from tests.benchmarks.page import PICTURES, Machine, page
from tests.benchmarks.result import Result
from tests.benchmarks.sizing import filled
from tests.support.database import ROOT

assert measures.__all__  # importing it has registered all measures

PURE = "pure"
DOCS = ROOT / "docs"
BEFORE = Path(__file__).with_name("before.json")
"""Results of an earlier state of the project, copied from its ``results.json``: they stand beside those of now."""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def ask(context: Context, key: str) -> Result | None:
    """One measure; None if it failed, which was said."""
    each = MEASURES[key]
    say(f"{key}: {each.title}")
    result = Result(each.key, each.title, f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}")
    begun = time.monotonic()
    try:
        await each.ask(context, result)
    except Exception as error:  # noqa: BLE001 - the others are measured all the same
        say(f"       FAILED: {type(error).__name__}: {error}")
        (context.bed.directory / f"{key}.traceback").write_text(traceback.format_exc())
        return None
    result.took_s = time.monotonic() - begun
    for verdict in result.verdicts:
        met = {True: "met", False: "MISSED", None: "–"}[verdict.met]
        say(f"       {verdict.what}: {verdict.found} (goal {verdict.goal}): {met}")
    for note in result.notes:
        say(f"       {note}")
    say(f"       {key} took {result.took_s:.0f} s; others used up to {result.other_share:.2f} cores")
    return result


async def ask_all(bed: Bed, keys: Sequence[str], size: Size, found: dict[str, Result]) -> list[str]:
    """Asks them in turn and keeps each result at once; returns those that failed."""
    failed = []
    for key in keys:
        result = await ask(Context(bed, size, found), key)
        if result is None:
            failed.append(key)
            continue
        found[key] = result
        keep(found, bed.directory / "results.json")
    return failed


def keep(found: dict[str, Result], path: Path) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({key: result.to_json() for key, result in found.items()}, indent=1))
    beside.replace(path)


def goes_on(path: Path, asked: dict[str, Any]) -> bool:
    """Whether the run whose file this is was asked the same; true for a new one, which is written down."""
    if path.exists():
        return bool(json.loads(path.read_text()) == asked)
    path.write_text(json.dumps(asked))
    return True


def kept(path: Path) -> dict[str, Result]:
    """Results of a file; empty if there is none."""
    if not path.exists():
        return {}
    return {key: Result.from_json(each) for key, each in json.loads(path.read_text()).items()}


def write(found: dict[str, Result], machine: Machine, size: Size, seed: int, docs: Path) -> None:
    """The page and its pictures into a directory."""
    text, pictures = page(in_order(), found, machine, size, seed, kept(BEFORE))
    (docs / PICTURES).mkdir(parents=True, exist_ok=True)
    for old in (docs / PICTURES).glob("*.svg"):
        old.unlink()
    for name, picture in pictures.items():
        (docs / PICTURES / name).write_text(picture)
    (docs / "performance.md").write_text(text)
    say(f"{docs / 'performance.md'} is written")


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"{', '.join(each.key for each in in_order())}, or {PURE}; all if none is named"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--rows", type=int, help="no trial with more: to see that it works, not how fast")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument(
        "--directory", type=Path, help="for logs and results; what is there already is not measured again"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {*MEASURES, PURE}
    if unknown:
        parser.error(f"no measure is named {', '.join(sorted(unknown))}; there are P1 … P10, profile and {PURE}")
    if options.repetitions < 1 or (options.rows is not None and options.rows < 1000):
        parser.error("--repetitions is at least 1, --rows at least 1,000")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_of(arguments)
    keys = [key for key in options.names if key != PURE] or (
        [] if PURE in options.names else [each.key for each in in_order()]
    )
    interrupts = Interrupts()
    interrupts.install()
    code = 0
    if PURE in options.names or not options.names:
        tests = [sys.executable, "-m", "pytest", str(Path(__file__).with_name("test_pure.py")), "--benchmark-enable"]
        code = subprocess.run([*tests, "-q"], cwd=ROOT, check=False).returncode
    if not keys:
        return code
    size = Size.full(options.repetitions)
    if options.rows is not None:
        size = Size.small(options.repetitions, options.rows)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    directory = options.directory or Path(tempfile.mkdtemp(prefix="loom-ingest-benchmarks-"))
    directory.mkdir(parents=True, exist_ok=True)
    if not goes_on(directory / "run.json", {"seed": options.seed, **asdict(size)}):
        say(f"{directory} holds a run of another size or seed; choose another directory")
        return 2
    found = kept(directory / "results.json")
    keys = [key for key in keys if key not in found]
    say(f"seed {options.seed}; logs and results are in {directory}")
    with bedded(directory, options.seed, say) as bed:
        machine = Machine.here(bed.stack)
        failed = interrupts.run(lambda: ask_all(bed, keys, size, found))
    if set(found) == set(MEASURES):
        whole = options.rows is None
        write(found, machine, size, options.seed, DOCS if whole else directory)
        if whole:
            sizing = DOCS / "sizing.md"
            sizing.write_text(filled(sizing.read_text(), found))
    return 1 if failed else code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except FatalError as error:
        say(str(error))
        sys.exit(error.exit_code)
