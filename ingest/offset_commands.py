"""``ingest reconcile`` and ``ingest offsets show | set``: the ledger beside the broker, for a person."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import offsets as moving
from ingest import standing
from ingest.command import with_engine
from ingest.errors import FatalError, SettingsError
from ingest.inquiry import inquire
from ingest.ledger import timestamp_of
from ingest.offsets import Step, Target
from ingest.reconcile import Remark, closes, judge
from ingest.settings import KafkaSettings, ServiceSettings, load_section
from ingest.standing import Row, Standing
from ingest.topics import Append, Topic, load_topics

FOUND = 1
"""Exit code of ``ingest reconcile`` when there is a finding."""
PIPED_WIDTH = 200
"""Columns where the output is no terminal: wide enough that no number is broken."""
MOST_RUNS = 10
"""Runs of partitions, as 4-7, that a line names."""
_TIMES = ("last message", "updated")
"""Columns that may be broken between date and time."""

offsets = typer.Typer(help="What is read next: look, and move it.", no_args_is_help=True)

Topics = Annotated[list[str] | None, typer.Argument(metavar="[TOPIC]...", help="default: all", show_default=False)]


def reconcile(topics: Topics = None) -> None:
    """Compares ledger, dead letters and broker: does each account close? Ends with 1 if something is found.

    `next` is read next, unless a line below the table says otherwise.
    """
    settings = load_section(KafkaSettings)
    chosen = _chosen(topics)
    active, database_id, found = _read(settings, chosen)
    remarks = judge(found, settings, database_id, active=active)
    console = _console()
    for topic, its in _by_topic(chosen, found):
        table = _table("", "first", "written", "duplicate", "dead", "passed", "moved", "next", "lag", "account")
        for each in its:
            row = each.row
            cells = (
                (row.first_offset, row.written, row.duplicate, row.dead_lettered, row.passed, row.moved)
                if row
                else (None,) * 6
            )
            next_offset = row.next_offset if row else None
            _add(table, each.partition, *cells, next_offset, each.lag, closes(row) if row else None)
        _print_topic(console, topic, table, its, [remark for remark in remarks if remark.topic == topic])
    findings = sum(remark.finding for remark in remarks)
    rows = [each.row for each in found if each.row is not None]
    judged = [row for row in rows if row.off is not None]
    closed = sum(row.off == 0 for row in judged)
    _line(
        console,
        f"group {settings.group_id}: {closed} of {len(judged)} accounts close"
        + (f", {len(rows) - len(judged)} can't be judged" if len(rows) > len(judged) else "")
        + f"; {findings or 'no'} finding{'' if findings == 1 else 's'}",
    )
    if findings:
        raise typer.Exit(FOUND)


@offsets.command()
def show(topics: Topics = None) -> None:
    """Where the ledger stands in each partition, and what the broker has. Times are UTC."""
    settings = load_section(KafkaSettings)
    chosen = _chosen(topics)
    *_, found = _read(settings, chosen)
    console = _console()
    for topic, its in _by_topic(chosen, found):
        table = _table("", "next", "lag", "log start", "log end", "committed", *_TIMES)
        for each in its:
            row, bounds = each.row, each.bounds
            _add(
                table,
                each.partition,
                row.next_offset if row else None,
                each.lag,
                bounds.start if bounds else None,
                bounds.end if bounds else None,
                each.committed.offset if each.committed else None,
                _last_message(row),
                _shown(row.updated_at) if row else None,
            )
        _print_topic(console, topic, table, its, [])


@offsets.command(name="set")
def set_offsets(
    place: Annotated[str, typer.Argument(metavar="TOPIC[:PARTITION]", help="without a partition: all of the topic's")],
    to_offset: Annotated[int | None, typer.Option(min=0, help="to this offset", show_default=False)] = None,
    to_earliest: Annotated[bool, typer.Option("--to-earliest", help="to the first that the broker has")] = False,
    to_latest: Annotated[bool, typer.Option("--to-latest", help="to the end: what is there is never read")] = False,
    to_datetime: Annotated[
        str | None,
        typer.Option(help="to the first message that is not earlier: 2026-11-26T20:00:00Z", show_default=False),
    ] = None,
    execute: Annotated[bool, typer.Option("--execute/--dry-run", help="do it, or only say what it would do")] = False,
) -> None:
    """Sets what is read next, in the ledger. --execute is refused while a process of the group runs."""
    name, colon, number = place.partition(":")
    (topic,) = _chosen([name]).values()
    if colon and not number.isdecimal():  # a script's empty variable must not mean the whole topic
        raise SettingsError(f"{place}: a partition is a number, as in {name}:0")
    target = _target(to_offset, to_earliest, to_latest, to_datetime)
    settings = load_section(KafkaSettings)

    async def work(engine: AsyncEngine) -> tuple[str | None, list[Step]]:
        partition = int(number) if number else None
        async with inquire(settings) as inquiry:
            # First: what a process commits when it ends is then known to the plan.
            runs = moving.activity(settings.group_id, await inquiry.group())
            if runs and execute:
                raise FatalError(runs)
            steps = await moving.plan(engine, inquiry, settings.group_id, name, partition, target)
            if execute:
                await moving.carry_out(engine, inquiry, settings.group_id, name, steps)
        return runs, steps

    runs, steps = with_engine(work)
    console = _console()
    for step in steps:
        _line(console, f"{name}:{step.partition}  {_consequence(topic, step)}")
    if settings.auto_offset_reset == "latest" and number and all(step.from_offset is None for step in steps):
        _line(
            console,
            f"{name}: its other partitions without a row will begin where the group has committed, or else at their "
            "earliest offset",
        )
    if runs:
        _line(console, f"where it stands may move, and --execute would refuse: {runs}")
    if not execute:
        _line(console, f"dry run: nothing was changed in group {settings.group_id}; --execute does it")
    elif any(step.from_offset != step.to_offset for step in steps):
        _line(console, f"done in group {settings.group_id}; Kafka's committed offsets follow when the service starts")


def _target(to_offset: int | None, to_earliest: bool, to_latest: bool, to_datetime: str | None) -> Target:
    given: list[Target] = []
    if to_offset is not None:
        given.append(to_offset)
    if to_earliest:
        given.append("earliest")
    if to_latest:
        given.append("latest")
    if to_datetime is not None:
        given.append(_time(to_datetime))
    if len(given) != 1:
        raise SettingsError("say where to: one of --to-offset, --to-earliest, --to-latest and --to-datetime")
    return given[0]


def _time(given: str) -> datetime:
    hint = "a time is written with its zone, as 2026-11-26T20:00:00Z"
    try:
        time = datetime.fromisoformat(given)
    except ValueError:
        raise SettingsError(f"--to-datetime {given!r} is no time; {hint}") from None
    if time.tzinfo is None:
        raise SettingsError(f"--to-datetime {given!r} has no zone; {hint}")
    if time.timestamp() < 0:
        raise SettingsError(f"--to-datetime {given!r} is before 1970, where Kafka's times begin")
    return time


def _consequence(topic: Topic, step: Step) -> str:
    at, to = step.start, step.to_offset
    if step.from_offset is not None:
        if to == at:
            return f"stands at {at} already"
        where = f"{at} → {to}"
    elif step.committed is None:
        return f"has no row yet: reading begins at {to}"
    elif to == at:
        return f"has no row yet: reading begins at {to}, which the group had committed"
    else:
        where = f"has no row yet: reading begins at {to}, and the group had committed {at}"
    if to > at:
        return f"{where}: {_range(at, to)} never read"
    without_key = any(isinstance(write.rule, Append) for write in topic.writes)
    rows = (
        "as rows once more, for a table of it has no key" if without_key else "as duplicates where their rows are there"
    )
    return f"{where}: {_range(to, at)} read again: {rows}; what was a dead letter is tried again"


def _range(first: int, end: int) -> str:
    return f"offset {first} is" if end - first == 1 else f"offsets {first} to {end - 1} are"


def _chosen(names: Sequence[str] | None) -> dict[str, Topic]:
    known = load_topics(load_section(ServiceSettings).topics)
    if not names:
        return known
    for name in names:
        if name not in known:
            raise SettingsError(f"LOOM_TOPICS holds no topic {name}; it has {', '.join(sorted(known))}")
    return {name: known[name] for name in names}


def _read(settings: KafkaSettings, topics: dict[str, Topic]) -> tuple[bool, str, list[Standing]]:
    async def work(engine: AsyncEngine) -> tuple[bool, str, list[Standing]]:
        async with inquire(settings) as inquiry:
            active = (await inquiry.group()).active
            return active, *await standing.read(engine, inquiry, settings.group_id, topics)

    return with_engine(work)


def _by_topic(topics: Iterable[str], found: Iterable[Standing]) -> list[tuple[str, list[Standing]]]:
    found = list(found)
    return [(topic, [each for each in found if each.topic == topic]) for topic in sorted(topics)]


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _last_message(row: Row | None) -> str | None:
    if row is None or row.last_timestamp in (None, -1):  # -1: the producer gave none
        return None
    time = timestamp_of(row.last_timestamp)
    return f"{row.last_timestamp} ms" if time is None else _shown(time)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in (first, *columns):
        table.add_column(name, justify="right", overflow="fold", min_width=10 if name in _TIMES else 3)
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(Text("-" if cell is None else str(cell)) for cell in cells))


def _print_topic(
    console: Console, topic: str, table: Table, its: Sequence[Standing], remarks: Sequence[Remark]
) -> None:
    _line(console, topic if its else f"{topic}: the broker does not have it yet, or does not show it to this login")
    if its:
        console.print(table)
    for line in _lines(remarks):
        _line(console, f"  {line}")


def _lines(remarks: Iterable[Remark]) -> list[str]:
    """A line for each thing that is said of a topic's partitions, findings first."""
    said: dict[tuple[bool, str], list[int]] = {}
    for remark in remarks:
        said.setdefault((remark.finding, remark.text), []).append(remark.partition)
    return [
        f"{'FOUND' if finding else 'note'}  {_partitions(numbers)}: {text}"
        for (finding, text), numbers in sorted(said.items(), key=lambda each: not each[0][0])
    ]


def _partitions(numbers: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    shown = ", ".join("-".join(map(str, run)) for run in runs[:MOST_RUNS])
    more = f" and {len(runs) - MOST_RUNS} more runs" if len(runs) > MOST_RUNS else ""
    return f"partition{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _line(console: Console, text: str) -> None:
    # One line, however wide the terminal is; as Text, for a reason or a member's name must not be read as markup.
    console.print(Text(text), soft_wrap=True)
