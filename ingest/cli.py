"""The command line: ``ingest run``, and what an operator needs beside it.

Exit codes: 0 done, 1 ``reconcile`` found something, 2 settings, 3 schema, 4 fatal. An error is one line on stderr that
says what, where, what to do.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest import dead_letters, fuse, pauses
from ingest.adopt import adopt as adopt_declarations
from ingest.command import asking_broker, with_database
from ingest.command import run as run_command
from ingest.consumer import existing_topics
from ingest.database import create_plain_engine
from ingest.errors import FatalError, SettingsError
from ingest.ledger import timestamp_of
from ingest.local.commands import app as stack
from ingest.local.demo import demo
from ingest.local.sample_producer import sample
from ingest.offset_commands import offsets, reconcile
from ingest.schema import SERVICE_TABLES, check_schema
from ingest.service import failures_as_one_line, run_service
from ingest.settings import KafkaSettings, ServiceSettings, load_section, load_settings
from ingest.topics import load_topics

app = typer.Typer(
    name="ingest",
    help="Puts what Kafka holds into TimescaleDB, each message exactly once. Settings: LOOM_… (docs/settings.md).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
letters = typer.Typer(help="Messages that could not be written.", no_args_is_help=True)
app.add_typer(letters, name="dead-letters")
app.add_typer(offsets, name="offsets")
app.command()(reconcile)
app.add_typer(stack, name="stack")
timescale = typer.Typer(help="What the tables are in TimescaleDB.", no_args_is_help=True)
app.add_typer(timescale, name="timescale")
app.command()(demo)
app.command()(sample)


@app.command()
def run(
    wait_for_schema: Annotated[
        bool, typer.Option("--wait-for-schema", help="wait until the database has the schema, instead of ending with 3")
    ] = False,
) -> None:
    """Reads the topics and writes their tables until it is asked to stop (SIGTERM, Ctrl-C)."""
    raise typer.Exit(run_service(wait_for_schema=wait_for_schema))


@app.command()
def check(
    broker: Annotated[bool, typer.Option("--broker", help="and that the broker answers, and has the topics")] = False,
) -> None:
    """Checks the settings, the contracts, and that the database has the tables they need."""
    settings = load_settings()
    topics = load_topics(settings.service.topics)

    async def work() -> None:
        engine = create_plain_engine(settings.database.url.get_secret_value(), application_name="loom-ingest check")
        try:
            await check_schema(engine, topics.values())
        finally:
            await engine.dispose()

    run_command(work)
    count = f"{len(topics)} topic{'' if len(topics) == 1 else 's'}"
    typer.echo(f"{count}: settings, contracts, tables and the live schema fit")
    if broker:
        with asking_broker():
            existing = asyncio.run(existing_topics(settings.kafka, topics))
        missing = sorted(set(topics) - existing)
        typer.echo(
            f"the broker answers, and has {len(topics) - len(missing)} of {count}"
            + (f"; these are read when they appear: {', '.join(missing)}" if missing else "")
        )


@app.command()
def pause(topic: Annotated[str, typer.Argument(help="the topic to hold")]) -> None:
    """Holds TOPIC in every pod, within seconds: it keeps its place and writes nothing until it is resumed."""
    known = load_topics(load_section(ServiceSettings).topics)
    if topic not in known:
        raise SettingsError(f"LOOM_TOPICS holds no topic {topic}; it has {', '.join(sorted(known))}")
    group = load_section(KafkaSettings).group_id
    new = with_database(lambda connection: pauses.pause(connection, group, topic))
    typer.echo(f"{topic}: {'paused' if new else 'paused already'} in group {group}, until `ingest resume {topic}`")


@app.command()
def resume(
    topic: Annotated[str, typer.Argument(help="the topic that is paused, or whose fuse is open")],
    accept: Annotated[
        bool, typer.Option("--accept", help="of an open fuse: let its rejected messages become dead letters")
    ] = False,
) -> None:
    """Lets TOPIC go on in every pod, within seconds: ends its pause, and with --accept releases its fuse."""
    group = load_section(KafkaSettings).group_id

    async def work(connection: AsyncConnection) -> tuple[bool, str | None]:
        resumed = await pauses.resume(connection, group, topic)
        return resumed, await fuse.accept(connection, group, topic) if accept else None

    resumed, cause = with_database(work)
    if resumed:
        typer.echo(f"{topic}: resumed in group {group}")
    if cause is not None:
        typer.echo(f"{topic}: rejections for {cause} become dead letters until a message is written again")
    if resumed or cause is not None:
        return
    if not accept:
        raise SettingsError(
            f"{topic} is not paused in group {group}. If its fuse is open: rejected messages become dead letters when "
            "it goes on, so say that with --accept"
        )
    raise FatalError(
        f"{topic} is not paused and its fuse has not opened in group {group}; /readyz of a pod says what holds it"
    )


@letters.command("list")
def list_dead_letters(
    topic: Annotated[str | None, typer.Option(help="only of this topic")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="how many, newest first")] = 20,
) -> None:
    """The newest dead letters, with their reasons."""
    found = with_database(lambda connection: dead_letters.find(connection, topic=topic, limit=limit))
    table = Table("id", "topic", "partition", "offset", "stage", "reason", "field", "error", box=None)
    for row in found:
        cells = (row.id, row.topic, row.partition, row.kafka_offset, row.stage, row.reason, row.field_path, row.error)
        # As Text: a producer's words must not be read as markup.
        table.add_row(*(Text("" if cell is None else str(cell)[:100]) for cell in cells))
    Console().print(table if found else "no dead letters")


@letters.command("show")
def show_dead_letter(identifier: Annotated[int, typer.Argument(metavar="ID", help="its id, from `list`")]) -> None:
    """One dead letter, whole: where it was, why it is here, its headers and its value."""
    row = with_database(lambda connection: dead_letters.get(connection, identifier))
    if row is None:
        raise FatalError(f"there is no dead letter {identifier}; `ingest dead-letters list` shows them")
    console = Console()
    time = timestamp_of(row.kafka_timestamp)
    for name, value in (
        ("topic", f"{row.topic} partition {row.partition} offset {row.kafka_offset}"),
        ("time", time.isoformat() if time else f"{row.kafka_timestamp} ms"),
        ("stage", row.stage),
        ("reason", row.reason + (f" at {row.field_path}" if row.field_path else "")),
        ("error", row.error),
        ("contract", row.contract),
        ("attempts", row.attempts),
        ("key", row.key),
        ("headers", dead_letters.decode_headers(row.headers) or None),
    ):
        if value is not None:
            console.print(f"{name:>9}  {value}", markup=False, highlight=False)
    sys.stdout.flush()
    sys.stdout.buffer.write((row.value or b"") + b"\n")


@timescale.command()
def adopt(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Makes ordinary tables and plain views the hypertables and aggregates that they are declared to be."""
    topics = load_topics(load_section(ServiceSettings).topics)
    tables = (*SERVICE_TABLES, *(table for topic in topics.values() for table in topic.tables))
    metadata = list({id(table.metadata): table.metadata for table in tables}.values())
    run_command(lambda: adopt_declarations(metadata, dry_run=dry_run, say=typer.echo))


def main() -> None:
    """The command line. Turns every failure into one line and its exit code."""
    with failures_as_one_line():
        app()
