"""``ingest run`` starts often, and rests long: it imports the service, and none of the other commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.support.database import ROOT

NOT_NEEDED = re.compile(
    r"(alembic|mako|typer|click|rich\..*|pygments|attr|testcontainers|docker|psutil"
    r"|ingest\.(cli|local|timescale|migrate|adopt|command|offset_commands|inquiry|reconcile|standing|offsets))(\.|$)"
)


def imported_by(*arguments: str) -> set[str]:
    """The modules that a start with all of Loom's topics imports; it ends at a topic that is not there."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "LOOM_KAFKA_BOOTSTRAP_SERVERS": "localhost:1",
        "LOOM_DATABASE_URL": "postgresql://localhost:1/none",
        "LOOM_TOPICS": "ingest.topics,acme.is.not.there",
    }
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ingest", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert "LOOM_TOPICS: can't load acme.is.not.there" in ended.stderr
    return set(re.findall(r"^import time:.*\| +(\S+)$", ended.stderr, re.MULTILINE))


def test_run_imports_nothing_that_only_other_commands_need() -> None:
    for arguments in (["run"], ["run", "--wait-for-schema"]):
        modules = imported_by(*arguments)
        assert {"ingest.app", "ingest.topics.columns"} <= modules
        assert not {name for name in modules if NOT_NEEDED.match(name)}


def test_other_commands_are_told_apart() -> None:
    assert {"ingest.cli", "typer", "rich.console"} <= imported_by("check")
