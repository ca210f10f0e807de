"""Quix Streams as a contender, in an environment of its own: its packages are none of the project's.

``requirements/peers.txt`` pins them with hashes. The environment is made once, in the cache.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ingest.local.jars import cache_directory
from ingest.local.process import own_environment
from tests.benchmarks.bed import SESSION, Bed, Database, Load
from tests.benchmarks.contender import BY_ROWS, Start, UnavailableError
from tests.support.database import ROOT

LOCK = ROOT / "requirements" / "peers.txt"
INSTALL_DEADLINE_S = 600
_SCRIPT = Path(__file__).with_name("quix_sink.py")


@dataclass(frozen=True)
class Quix:
    """Its PostgreSQLSink: one process or several in one group."""

    processes: int = 1
    counted_by: str = BY_ROWS

    @property
    def name(self) -> str:
        return "Quix Streams" if self.processes == 1 else f"Quix Streams, {self.processes} processes"

    def starts(self, bed: Bed, load: Load, database: Database, directory: Path) -> list[Start]:
        """Raises UnavailableError when its packages can't be had."""
        environment = own_environment(
            LOOM_KAFKA_BOOTSTRAP_SERVERS=bed.stack.kafka,
            LOOM_KAFKA_GROUP_ID=f"quix-{secrets.token_hex(4)}",
            LOOM_DATABASE_URL=database.url,
            PGOPTIONS=" ".join(f"-c {name}={value}" for name, value in SESSION.items()),
        )
        return [Start([str(python()), str(_SCRIPT), load.topic], environment)] * self.processes


def python() -> Path:
    """The Python of the peers' environment, which is made if it isn't there. Raises UnavailableError."""
    fingerprint = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:8]
    directory = cache_directory() / f"peers-{fingerprint}"
    if not directory.exists():
        partial = directory.with_suffix(f".{secrets.token_hex(4)}")
        try:
            _run(sys.executable, "-m", "venv", str(partial))
            _run(
                str(partial / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                "--require-hashes", "-r", str(LOCK),
            )  # fmt: skip
            partial.rename(directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return directory / "bin" / "python"


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"Quix Streams: its packages can't be installed ({error})") from error
    if done.returncode:
        words = " | ".join(done.stderr.strip().splitlines()[-2:])[:300]
        raise UnavailableError(f"Quix Streams: its packages can't be installed: {words}")
