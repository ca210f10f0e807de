"""``docs/performance.md``: what one run found, misses included. Pure but for the machine, which is passed in."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from ingest.local.stack import Stack
from tests.benchmarks.bed import DURABLE, PARTITIONS, SESSION
from tests.benchmarks.figures import written
from tests.benchmarks.measure import Measure, Size
from tests.benchmarks.plots import drawn
from tests.benchmarks.result import Grid, Result, Verdict

PICTURES = "performance"
"""The directory of the plots, beside the page."""
PACKAGES = ("aiokafka", "asyncpg", "pydantic", "SQLAlchemy")
NOISY = 0.10
"""Cores that others may use before the page says that its figures suffer."""


@dataclass(frozen=True)
class Machine:
    """Where and with what it was measured."""

    cores: int
    processor: str
    memory_gib: float
    system: str
    broker: str
    database: str
    packages: str

    @classmethod
    def here(cls, stack: Stack) -> Machine:
        return cls(
            os.cpu_count() or 1,
            _processor(),
            psutil.virtual_memory().total / 2**30,
            f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}, "
            f"Python {platform.python_version()}",
            stack.kafka_served_by,
            stack.database_served_by,
            ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def page(
    measures: Sequence[Measure],
    results: Mapping[str, Result],
    machine: Machine,
    size: Size,
    seed: int,
    before: Mapping[str, Result] | None = None,
) -> tuple[str, dict[str, str]]:
    """The page in Markdown, and its pictures: file name → SVG.

    ``before`` are results of an earlier state of the project: its figures stand beside those of now.
    """
    pictures: dict[str, str] = {}
    parts = [_head(results, machine, size, seed), _overview(measures, results)]
    for each in measures:
        result = results.get(each.key)
        if result is None:
            parts.append(f"## {_heading(each.key, each.title)}\n\nNot measured in this run.\n")
            continue
        parts.append(_section(result, pictures))
    if "profile" in results and "peer_rate" in results.get("P3", Result("", "", "")).numbers:
        parts.append(_limit(results["profile"].numbers, results["P3"].numbers, machine.cores))
    if before:
        parts.append(_beside_before(results, before))
    return "\n".join(parts), pictures


def _head(results: Mapping[str, Result], machine: Machine, size: Size, seed: int) -> str:
    days = sorted({result.began[:10] for result in results.values()})
    goals = [verdict for result in results.values() for verdict in result.verdicts if verdict.met is not None]
    met = sum(bool(verdict.met) for verdict in goals)
    loud = [result.key for result in results.values() if result.other_share > NOISY]
    settings = ", ".join(f"`{name}={value}`" for name, value in DURABLE.items())
    session = " and ".join(f"`{name}={value}`" for name, value in SESSION.items())
    facts = (
        f"Machine: {machine.cores} cores ({machine.processor}), {machine.memory_gib:.0f} GiB, {machine.system}. "
        "Broker, database, contender and harness share it.",
        f"Broker: {machine.broker}; topics of {PARTITIONS} partitions.",
        f"Database: {machine.database}; {settings}.",
        f"{machine.packages}. `ingest run` as it is released, with its default settings: contracts, ledger, conflict "
        f"rules and metrics all on. Its sessions set {session}; so do everybody else's here. For the service this is "
        "safe: the offset lies in the same transaction.",
        f"A trial of the emotion scores has {size.rows:,} messages where nothing else is said. CPU and memory are "
        "those of all processes of a contender.",
    )
    begin = (
        f"{met} of {len(goals)} goals are met. Measured on {' and '.join(days)}, seed {seed}, {size.repetitions} "
        "repetitions: a figure is their median, with the least and the greatest in brackets. What is compared was "
        "measured in one run, interleaved."
    )
    text = (
        "<!-- Made by `make bench`. It is what one run found; don't change it by hand. -->\n\n# Performance\n\n"
        + f"{_prose(begin)}\n\n"
        + "".join(f"{_prose(f'- {fact}', '  ')}\n" for fact in facts)
        + "\n`make bench` measures all of it and writes this page; `.venv/bin/python -m tests.benchmarks P1 P5` "
        "measures some.\n"
    )
    if loud:
        warning = (
            f"**Somebody else used the machine during {', '.join(loud)}** (more than {NOISY:.0%} of a core): compare "
            "ratios there, not rates."
        )
        text += f"\n{_prose(warning)}\n"
    return text


def _overview(measures: Sequence[Measure], results: Mapping[str, Result]) -> str:
    lines = ["## Goals\n", "| | measure | goal | found | |", "|---|---|---|---:|---|"]
    for each in measures:
        for verdict in results[each.key].verdicts if each.key in results else []:
            cells = (each.key, verdict.what, verdict.goal, verdict.found, _said(verdict))
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines) + "\n"


def _said(verdict: Verdict) -> str:
    return {True: "met", False: "**missed**", None: ""}[verdict.met]


def _heading(key: str, title: str) -> str:
    return f"{key}: {title}" if key.startswith("P") else title


def _section(result: Result, pictures: dict[str, str]) -> str:
    parts = [f"## {_heading(result.key, result.title)}\n\n{_prose(result.method)}\n"]
    parts += [_grid(grid) for grid in result.grids]
    for number, plot in enumerate(result.plots):
        name = f"{result.key.lower()}{f'-{number + 1}' if number else ''}.svg"
        pictures[name] = drawn(plot)
        parts.append(f"![{plot.title}]({PICTURES}/{name})\n")
    parts += [f"{_prose(note)}\n" for note in result.notes]
    return "\n".join(parts)


def _grid(grid: Grid) -> str:
    head = f"**{grid.title}**\n\n| " + " | ".join(map(_cell, grid.columns)) + " |\n"
    head += "|" + "|".join("---" if number == 0 else "---:" for number in range(len(grid.columns))) + "|\n"
    return head + "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in grid.rows)


def _limit(profile: Mapping[str, float], peers: Mapping[str, float], cores: int) -> str:
    """What keeps it from being faster, and what would be next."""
    client, server = profile["client_us"], profile["server_us"]
    moved = sum(us for name, us in profile.items() if name.startswith(("stage consume", "stage write")))
    twice = 1e6 * cores / (2 * peers["peer_rate"])
    paragraphs = (
        f"One process is limited by its own CPU, {written(client)} µs a row, nearly all of one core; two and more by "
        f"the {cores} cores, which they share with the server's {written(server)} µs and the broker. Consuming "
        f"(aiokafka) and bringing rows to the server (asyncpg) take {written(moved)} µs before anything is validated.",
        f"That is why P3 asks for more than there is. A third of the best peer's CPU is "
        f"{written(peers['peer_client_us'] / 3)} µs. Twice its rate leaves {written(twice)} µs of all cores to a row; "
        f"without the server's and what moves the row, {written(twice - server - moved)} µs for the broker, parsing, "
        "contract, batch and ledger.",
        "What would be next: to leave the savepoints, four of a transaction's dozen exchanges, to a second attempt; to "
        "hand nested JSON on as it came, where pydantic can only give it parsed; the key's pages, which are less full "
        "where many devices append; rows that a trigger refuses, which are searched for.",
    )
    return "## The limit, and what would be next\n\n" + "\n\n".join(map(_prose, paragraphs)) + "\n"


def _beside_before(results: Mapping[str, Result], before: Mapping[str, Result]) -> str:
    rows = [
        [f"{key}: {name.replace('_', ' ')}", written(before[key].numbers[name]), written(value)]
        for key, result in results.items()
        if key in before
        for name, value in result.numbers.items()
        if name in before[key].numbers
    ]
    days = sorted({result.began[:10] for result in before.values()})
    text = (
        f"The same measured on {' and '.join(days)}, in an earlier state of the project "
        "(`tests/benchmarks/before.json`). The machine is not always equally fast."
    )
    return f"## Before and after\n\n{_prose(text)}\n\n" + _grid(Grid("Figures", ("", "before", "now"), rows))


def _prose(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
