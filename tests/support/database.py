"""What tests do to a database from outside the service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from ingest.local.postgres import query
from ingest.local.stack import Stack
from tests.support.topics import create_test_tables

ROOT = Path(__file__).parent.parent.parent


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def alembic(url: str, *arguments: str, config: Path | None = None, check: bool = True, timescale: str = "auto") -> str:
    """Runs Alembic's command as a user does; returns what it printed.

    ``timescale`` is ``LOOM_TIMESCALE``: most tests run on a PostgreSQL that has no TimescaleDB.
    """
    result = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(config or ROOT / "alembic.ini"), *arguments],
        env={**os.environ, "LOOM_DATABASE_URL": url, "LOOM_TIMESCALE": timescale},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = result.stdout + result.stderr
    if check and result.returncode:
        raise AssertionError(f"alembic {' '.join(arguments)} ended with {result.returncode}:\n{output}")
    return output


def create_template(stack: Stack) -> str:
    """Makes a database with the schema and the tests' own tables, to be cloned; returns its name."""
    name = f"template_{uuid4().hex[:8]}"
    query(stack.database_url, f"CREATE DATABASE {name}")
    url = with_database(stack.database_url, name)
    alembic(url, "upgrade", "head")
    create_test_tables(url)
    query(stack.database_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    return name
