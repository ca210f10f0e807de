"""Whoever takes a topic into the table: how it is started, and how what it has done is counted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ingest.local.process import ServerProcess
from tests.benchmarks.bed import SERVICE, Bed, Database, Load

BY_LEDGER = "SELECT coalesce(sum(written + duplicate + dead_lettered), 0) FROM ingest_offsets"
"""Messages that have ended. Cheap at any size."""
BY_ROWS = "SELECT count(*) FROM analysis_audio_emotion_scores_raw"

STOP_S = 30.0


class UnavailableError(Exception):
    """A peer can't be had here. Says why; the page says it, too."""


@dataclass(frozen=True)
class Start:
    """One process to be started."""

    command: Sequence[str]
    environment: Mapping[str, str]


class Contender(Protocol):
    """A way from the broker into the table."""

    @property
    def name(self) -> str: ...
    @property
    def counted_by(self) -> str:
        """A query for how many messages have ended."""

    def starts(self, bed: Bed, load: Load, database: Database, directory: Path) -> list[Start]:
        """What to start for a load. Raises UnavailableError."""


@dataclass(frozen=True)
class Service:
    """``ingest run``: one process or several in one group, by its settings."""

    name: str = "loom-ingest"
    processes: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    counted_by: str = BY_LEDGER

    def starts(self, bed: Bed, load: Load, database: Database, directory: Path) -> list[Start]:
        environment = bed.service_environment(load.topics, database, **self.settings)
        return [Start(SERVICE, environment)] * self.processes


@dataclass(frozen=True)
class OneByOne:
    """The incident's way: auto-commit, and for each message one INSERT in a transaction of its own."""

    name: str = "one by one"
    counted_by: str = BY_ROWS

    def starts(self, bed: Bed, load: Load, database: Database, directory: Path) -> list[Start]:
        environment = bed.service_environment(load.topics, database)
        return [Start([sys.executable, "-m", "tests.benchmarks.peers.one_by_one", load.topic], environment)]


class Running:
    """The started processes of a contender. They end with the block they are used in, or with this process."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory
        self._processes: list[ServerProcess] = []

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def launch(self, start: Start) -> None:
        """Raises LocalStackError if the program can't be executed."""
        directory = self._directory / str(len(self._processes))
        directory.mkdir(parents=True)
        process = ServerProcess(
            self.name, directory, marker=start.command[-1], ask=((signal.SIGTERM, STOP_S),), guarded=True
        )
        self._processes.append(process)  # first: what is launched half is stopped, too
        process.launch(start.command, environment=start.environment)

    @property
    def pids(self) -> list[int]:
        return [pid for process in self._processes if (pid := process.pid) is not None]

    def alive(self) -> bool:
        return all(process.alive() for process in self._processes)

    def last_words(self) -> str:
        return " ".join(process.last_words(lines=4) for process in self._processes if not process.alive())

    def stop(self) -> None:
        for process in self._processes:
            process.stop()
