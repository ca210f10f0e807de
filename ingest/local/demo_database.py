"""The demo's database: one of its own in the server at hand, with the tables that the migrations make."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

import ingest
from ingest.local.errors import LocalStackError
from ingest.local.postgres import query

MIGRATION_DEADLINE_S = 120


@contextmanager
def own_database(server_url: str, name: str) -> Iterator[str]:
    """Makes a database beside the one that ``server_url`` names, for the time of the block; yields its URL.

    A database that the environment gives is somebody's: the demo writes nothing into it. Raises LocalStackError.
    """
    try:
        try:
            query(server_url, f'CREATE DATABASE "{name}"')
        except (OSError, asyncpg.PostgresError) as error:
            raise LocalStackError(f"Database: can't make one for the demo: {error}; its role needs CREATEDB") from error
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # the server may be gone
            query(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def migrate(environment: Mapping[str, str]) -> None:
    """``alembic upgrade head`` as a user types it, in the project's checkout. Raises LocalStackError."""
    root = Path(ingest.__file__).resolve().parent.parent
    if not (root / "alembic.ini").exists():
        raise LocalStackError(f"Tables: no alembic.ini in {root}; the demo needs a checkout of the project")
    try:
        # In a session of its own: a Ctrl-C is this process's to answer, which then ends it.
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=MIGRATION_DEADLINE_S,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LocalStackError(f"Tables: `alembic upgrade head` took more than {MIGRATION_DEADLINE_S} s") from error
    if done.returncode != 0:
        words = " | ".join(line for line in done.stdout.splitlines() if line.strip())
        raise LocalStackError(f"Tables: `alembic upgrade head` failed: {words[-1000:]}")
