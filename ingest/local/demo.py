"""``ingest demo``: a stream like Loom's through a real Kafka into a real PostgreSQL, watched and checked.

Exit codes: 0 the account closes, 1 it does not, 4 something could not be had or started, 130 it was stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXIT_STOPPED_EARLY = 130
"""What a shell reports for Ctrl-C; the same for SIGTERM."""


def demo(
    messages: Annotated[int, typer.Option(min=1, help="How many messages to produce.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Another seed makes another stream.")] = 20,
    svg: Annotated[Path | None, typer.Option(hidden=True, help="Save the screen as a picture.")] = None,
) -> None:
    """Shows the service at work: starts Kafka and PostgreSQL, streams, counts, checks, and stops all again."""
    # Here, so that `ingest run` needs none of it: the [local] extra may not be installed.
    from ingest.local.demo_interrupt import Interrupts

    interrupts = Interrupts()
    interrupts.install()
    try:
        from ingest.local.demo_screen import Screen
        from ingest.local.demo_show import show

        screen = Screen(messages)
        closes = show(messages, seed, screen=screen, interrupts=interrupts)
        if svg is not None:
            screen.save_svg(svg)
    except KeyboardInterrupt:
        typer.echo("stopped")
        raise typer.Exit(EXIT_STOPPED_EARLY) from None
    finally:
        interrupts.ignore()
    if not closes:
        raise typer.Exit(1)
