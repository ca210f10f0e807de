"""``ingest stack up | env | down``: a real Kafka and PostgreSQL for development.

Everything for people goes to standard error, so that ``eval "$(ingest stack env)"`` gets nothing else.
The packages of the ``[local]`` extra are only asked for when a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A real Kafka and PostgreSQL for development, by Docker or by wheels.", no_args_is_help=True)

Directory = Annotated[
    Path | None,
    typer.Option("--directory", "-d", help="Where the stack lives. Default: your state directory.", show_default=False),
]


@app.command()
def up(directory: Directory = None) -> None:
    """Start a broker and a database that stay up after this command."""
    from rich.console import Console

    from ingest.local import keep

    keep.up(directory or keep.default_directory(), say=_say, console=Console(stderr=True))


@app.command()
def env(directory: Directory = None) -> None:
    """Print what to export to use them: eval "$(ingest stack env)". Exit code 2 if none is up."""
    from ingest.local import keep

    try:
        typer.echo(keep.env(directory or keep.default_directory()))
    except keep.NotUpError as error:
        _say(str(error))
        raise typer.Exit(error.exit_code) from None


@app.command()
def down(directory: Directory = None) -> None:
    """Stop them and remove their data."""
    from ingest.local import keep

    keep.down(directory or keep.default_directory(), say=_say)


def _say(line: str) -> None:
    typer.echo(line, err=True)
