"""A broker and a database for demo, tests and development: one provider for all of them.

In this order, each of the two by itself, and always said which one served:

1. what the environment gives (``LOOM_KAFKA_BOOTSTRAP_SERVERS``, ``LOOM_DATABASE_URL``);
2. Docker, where an engine answers, through testcontainers;
3. wheels: real Apache Kafka and PostgreSQL, with nothing but what pip installs.

Example::

    with running_stack(Path("/tmp/here"), say=print) as stack:
        print(stack.kafka, stack.database_url)
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import asyncpg
from rich.console import Console

from ingest.local import docker
from ingest.local.errors import LocalStackError
from ingest.local.kafka import KafkaServer
from ingest.local.postgres import PostgresServer, query

KAFKA_VARIABLE = "LOOM_KAFKA_BOOTSTRAP_SERVERS"
DATABASE_VARIABLE = "LOOM_DATABASE_URL"
BY_ENVIRONMENT = "environment"

KEPT = "stack.json"
"""The file in a directory whose stack outlives its command (``ingest stack up``)."""

Say = Callable[[str], None]


class Server(Protocol):
    """A broker or a database that was started here. Its address and data last until :meth:`remove`."""

    @property
    def served_by(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def alive(self) -> bool: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def remove(self) -> None: ...


@dataclass(frozen=True)
class Stack:
    """A broker and a database that answer."""

    kafka: str
    """Bootstrap servers."""
    database_url: str = field(repr=False)
    """``postgresql://…`` for asyncpg and libpq, password included. Its role may create databases."""
    kafka_served_by: str
    """For people: ``environment``, ``docker: apache/kafka:4.3.1``, ``wheels: Kafka 4.3.1 on Java 25``."""
    database_served_by: str
    kafka_server: Server | None = field(default=None, repr=False)
    """For tests that stop or kill it; None where the environment gave it."""
    database_server: Server | None = field(default=None, repr=False)

    def environment(self) -> dict[str, str]:
        """The variables that ``ingest run`` and alembic need. The wheels' PostgreSQL has no TimescaleDB."""
        return {KAFKA_VARIABLE: self.kafka, DATABASE_VARIABLE: self.database_url, "LOOM_TIMESCALE": "auto"}


@contextmanager
def running_stack(
    directory: Path,
    *,
    say: Say,
    environ: Mapping[str, str] = os.environ,
    console: Console | None = None,
    database_settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Run a stack whose servers end with the block, or with this process if it is killed.

    Args:
        directory: for the servers' files, which are removed at the end. One stack at a time in one directory;
            what a killed owner left there is stopped and removed first.
        say: told what is being done, a line at a time.
        environ: where the two variables are looked for.
        console: gets a progress bar for downloads, if it is a terminal.
        database_settings: more of postgresql.conf, such as ``{"fsync": "off"}``.

    Raises:
        LocalStackError: a part can't be had, or the directory is in use.
    """
    with alone_in(directory):
        if (directory / KEPT).exists():
            raise LocalStackError(
                f"local stack: {directory} holds the one of `ingest stack up`; choose another directory, or "
                f"`ingest stack down --directory {directory}`"
            )
        starting = Starting(
            directory,
            say=say,
            environ=environ,
            console=console,
            database_settings=database_settings,
            guarded=True,
        )
        try:
            starting.clear()
            yield starting.start()
        finally:
            starting.clear()


class Starting:
    """The servers of one directory, as far as they are started. The directory is locked by the caller."""

    def __init__(
        self,
        directory: Path,
        *,
        say: Say,
        environ: Mapping[str, str],
        console: Console | None = None,
        database_settings: Mapping[str, str] | None = None,
        guarded: bool,
    ) -> None:
        self._directory = directory
        self._say = say
        self._environ = environ
        self._kafka = KafkaServer(directory / "kafka", say=say, console=console, guarded=guarded)
        self._postgres = PostgresServer(directory / "postgres", settings=database_settings, guarded=guarded)
        self._database_settings = database_settings
        self._guarded = guarded
        self._containers: list[Server] = []
        self._engine: bool | None = None

    def start(self) -> Stack:
        """Start what the environment doesn't give, and say what serves.

        Raises:
            LocalStackError: a part can't be had. What was started still runs: :meth:`clear` ends it.
        """
        broker, kafka, kafka_by = self._first("Kafka", KAFKA_VARIABLE, docker.kafka_container, self._kafka)
        database, url, database_by = self._first(
            "Database", DATABASE_VARIABLE, self._database_container, self._postgres
        )
        url = url.replace("postgresql+asyncpg://", "postgresql://", 1)
        _check_answers(url)
        return Stack(
            kafka=kafka,
            database_url=url,
            kafka_served_by=kafka_by,
            database_served_by=database_by,
            kafka_server=broker,
            database_server=database,
        )

    def clear(self) -> None:
        """Stop the servers of this directory, whoever started them, and remove their files."""
        servers: list[Server] = [*self._containers, self._postgres, self._kafka]
        for server in servers:
            server.remove()
        self._containers.clear()

    def _first(
        self,
        part: str,
        variable: str,
        container: Callable[..., Server],
        wheels: Server,
    ) -> tuple[Server | None, str, str]:
        """Start the first that can serve; return it, its address and what it is."""
        if given := self._environ.get(variable):
            self._say(f"{part}: given by the environment ({variable})")
            return None, given, BY_ENVIRONMENT
        if self._engine is None:
            self._engine = docker.engine_answers()
        if self._engine:
            candidate = container(self._directory, say=self._say, guarded=self._guarded)
            self._containers.append(candidate)
            try:
                return self._started(part, candidate)
            except docker.ImageUnavailable as unavailable:
                self._say(f"{part}: {unavailable}; the wheels serve instead")
                candidate.remove()
                self._containers.remove(candidate)
        return self._started(part, wheels)

    def _started(self, part: str, server: Server) -> tuple[Server, str, str]:
        self._say(f"{part}: starting {server.served_by}")
        begun = time.monotonic()
        server.start()
        address = server.address.rpartition("@")[2]
        self._say(f"{part}: {address} answers after {time.monotonic() - begun:.1f} s ({server.served_by})")
        return server, server.address, server.served_by

    def _database_container(self, directory: Path, *, say: Say, guarded: bool) -> Server:
        return docker.database_container(directory, say=say, settings=self._database_settings, guarded=guarded)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Make ``directory`` and hold it among processes; removed at the end if it is empty and was made here.

    Raises:
        LocalStackError: another living process holds it.
    """
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / "in-use"
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not lock.exists() or not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                raise BlockingIOError  # its last owner removed it between our two calls
        except BlockingIOError:
            raise LocalStackError(
                f"local stack: another process runs one in {directory}; stop that one, or choose another directory"
            ) from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # something else is in it
                    directory.rmdir()


def _check_answers(url: str) -> None:
    try:
        query(url, "SELECT 1")
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise LocalStackError(
            f"Database: it doesn't answer at {url.rpartition('@')[2]} ({type(error).__name__}: {error}); "
            f"check {DATABASE_VARIABLE}"
        ) from error
