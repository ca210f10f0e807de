"""What tests do to a database from outside the service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

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
