"""A stack that outlives the command that starts it: ``ingest stack up``, ``env`` and ``down``.

Its directory holds ``stack.json`` while it is up, readable by its owner only: it has the database's password.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from ingest.local import docker
from ingest.local.errors import LocalStackError
from ingest.local.kafka import serves
from ingest.local.postgres import answers
from ingest.local.stack import (
    DATABASE_VARIABLE,
    KAFKA_VARIABLE,
    KEPT,
    Say,
    Stack,
    Starting,
    alone_in,
)


class NotUpError(LocalStackError):
    """No stack is up in that directory."""

    exit_code = 2


@dataclass(frozen=True)
class Kept:
    """What ``stack.json`` says."""

    variables: dict[str, str]
    kafka_served_by: str
    database_served_by: str

    def answers(self) -> bool:
        """Whether both of its servers serve."""
        host, _, port = self.variables[KAFKA_VARIABLE].rpartition(":")
        return serves(host, int(port)) and answers(self.variables[DATABASE_VARIABLE])


def default_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the kept stack lives: below XDG_STATE_HOME, or the user's directory for such things."""
    given = environ.get("XDG_STATE_HOME")
    if given and Path(given).is_absolute():
        return Path(given) / "loom-ingest" / "stack"
    usual = "Library/Application Support" if sys.platform == "darwin" else ".local/state"
    return Path.home() / usual / "loom-ingest" / "stack"


def up(directory: Path, *, say: Say, console: Console | None = None) -> None:
    """Start a stack in ``directory`` that stays up until :func:`down`; says so if it is up already.

    One whose servers have died (the machine was restarted) is started again, on its data where wheels serve.
    What the environment gives is not looked at: after ``eval "$(ingest stack env)"`` that is this very stack.

    Raises:
        LocalStackError: a part can't be had; nothing is left running.
    """
    with alone_in(directory):
        kept = _read(directory)
        if kept is not None and kept.answers():
            say(f"Stack: already up in {directory}: {kept.kafka_served_by}; {kept.database_served_by}")
            return
        starting = Starting(directory, say=say, environ={}, console=console, guarded=False)
        if kept is None:
            starting.clear()
        else:
            say(f"Stack: the one in {directory} has stopped; starting it again")
        up_now = False
        try:
            _write(directory, starting.start())
            up_now = True
        finally:
            if not up_now and kept is None:
                starting.clear()
        say('Stack: up. For a shell: eval "$(ingest stack env)"; to end it: ingest stack down')


def env(directory: Path) -> str:
    """Shell lines that export what ``ingest run`` and alembic need to use the stack in ``directory``.

    Raises:
        NotUpError: none is up there.
    """
    kept = _read(directory)
    if kept is None or not kept.answers():
        raise NotUpError(f"Stack: none is up in {directory}; start one with `ingest stack up`")
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in kept.variables.items())


def down(directory: Path, *, say: Say) -> None:
    """Stop the stack in ``directory`` and remove its data. Fine if there is none."""
    if not directory.exists():
        say(f"Stack: none is up in {directory}")
        return
    with alone_in(directory):
        kept = _read(directory)
        Starting(directory, say=say, environ={}, guarded=False).clear()
        if kept is not None and "docker:" in kept.kafka_served_by + kept.database_served_by:
            for kind in ("kafka", "postgres"):
                docker.remove_container(docker.container_name(kind, directory))
        (directory / KEPT).unlink(missing_ok=True)
        say("Stack: down, its data removed" if kept is not None else f"Stack: none is up in {directory}")
    try:
        directory.rmdir()
    except OSError:
        return  # something else is in it


def _read(directory: Path) -> Kept | None:
    """What is said to be up there; None where nothing (readable) is."""
    try:
        return Kept(**json.loads((directory / KEPT).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _write(directory: Path, stack: Stack) -> None:
    kept = Kept(stack.environment(), stack.kafka_served_by, stack.database_served_by)
    beside = directory / f"{KEPT}.new"
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(asdict(kept)))
    beside.replace(directory / KEPT)
