"""One server process: in its own session, with a log, a pid file, and a guard that ends it with its owner.

Ctrl-C reaches the whole foreground process group, so a server is started in its own session: its owner
decides when it stops. What a killed owner left is found by the pid file, and only stopped if the process
there is the one that was started: same creation time, and the server's directory in its command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.local import guard, waiting
from ingest.local.errors import LocalStackError, missing_extra

try:
    import psutil
except ModuleNotFoundError as missing:
    raise missing_extra(missing) from missing

_KILL_DEADLINE_S = 20.0
"""How long a killed process may take to disappear: the kernel may have gigabytes to free."""


@dataclass(frozen=True)
class Account:
    """The user of the operating system that a server runs as, where it is not our own."""

    name: str
    uid: int
    gid: int


def as_account(account: Account | None) -> dict[str, Any]:
    """What makes :mod:`subprocess` run a program as ``account``; nothing for None."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


class ServerProcess:
    """The process of one server, whose files are below ``directory``.

    Args:
        name: for messages, such as ``Kafka``.
        directory: where its ``server.log`` and ``server.pid.json`` go; exists.
        marker: a text that only this server has in its command line, such as its data directory.
        ask: steps of a clean stop: a signal, and the seconds the server has to follow it. SIGKILL comes last
            by itself.
        guarded: end the server when this process ends. Off for a stack that outlives its command.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        marker: str,
        ask: Sequence[tuple[signal.Signals, float]],
        guarded: bool,
    ) -> None:
        self.name = name
        self.log = directory / "server.log"
        self._pid_file = directory / "server.pid.json"
        self._marker = marker
        self._ask = tuple(ask)
        self._guarded = guarded
        self._popen: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running server, whoever started it; None if it doesn't run."""
        running = self._running()
        return None if running is None else int(running.pid)

    def launch(self, command: Sequence[str], *, environment: Mapping[str, str], account: Account | None = None) -> None:
        """Start the server; returns at once. A server that still runs from before is stopped first.

        Raises:
            LocalStackError: the program can't be executed.
        """
        self.stop()
        with self.log.open("ab") as log:
            try:
                self._popen = subprocess.Popen(  # noqa: S603 - our own command
                    command,
                    cwd="/",
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **as_account(account),
                )
            except OSError as error:
                raise LocalStackError(f"{self.name}: {command[0]} can't be executed ({error.strerror})") from error
        created = self._created(self._popen.pid)
        self._remember(self._popen.pid, created)
        if self._guarded:
            self._watch(self._popen.pid, created)

    def alive(self) -> bool:
        """Whether the server's process runs, whoever started it."""
        return self._running() is not None

    def wait_until(self, answers: waiting.Condition, *, deadline_s: float) -> None:
        """Wait until ``answers()`` is true.

        Raises:
            LocalStackError: the process ended, or it didn't answer in time; quotes the end of its log. It is
                stopped then.
        """

        def condition() -> bool:
            if answers():
                return True
            if not self.alive():
                raise LocalStackError(f"{self.name}: ended while it started. {self.last_words()}")
            return False

        if not waiting.wait_for(condition, deadline_s=deadline_s):
            self.kill()
            raise LocalStackError(f"{self.name}: no answer {deadline_s:.0f} s after its start. {self.last_words()}")

    def stop(self) -> None:
        """Ask the server to stop, step by step; kill it if it doesn't. Does nothing if it doesn't run."""
        running = self._running()
        if running is not None:
            for ask, grace_s in self._ask:
                with contextlib.suppress(psutil.NoSuchProcess):
                    running.send_signal(ask)
                if waiting.wait_for(lambda: not _lives(running), deadline_s=grace_s, every_s=0.02):
                    break
            else:
                self._kill_all(running)
        self._forget()

    def kill(self) -> None:
        """SIGKILL to all its processes at once, as a crash would; returns when they are gone."""
        running = self._running()
        if running is not None:
            self._kill_all(running)
        self._forget()

    def last_words(self, lines: int = 6) -> str:
        """The end of its log, on one line, for an error message."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return f"It wrote no log ({self.log})."
        words = [line.strip() for line in text.splitlines() if line.strip()]
        telling = [line for line in words if not line.startswith("at ")][-lines:]
        return f"Its log {self.log} ends: {' | '.join(telling) or '(empty)'}"

    def _running(self) -> psutil.Process | None:
        """The server's process: our own child, or by its pid file, if it is that very process and not a zombie."""
        if self._popen is not None and self._popen.poll() is None:
            # Nobody else can have its pid before it is reaped. Its command line may be empty for a moment yet.
            with contextlib.suppress(psutil.NoSuchProcess):
                return psutil.Process(self._popen.pid)
        try:
            record = json.loads(self._pid_file.read_text())
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created"]) <= guard.SAME_PROCESS_S
            ours = any(self._marker in argument for argument in process.cmdline())
        except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return process if same and ours and _lives(process) else None

    def _created(self, pid: int) -> float:
        try:
            return float(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return 0.0  # it ended already; wait_until says so

    def _remember(self, pid: int, created: float) -> None:
        beside = self._pid_file.with_suffix(".new")
        beside.write_text(json.dumps({"pid": pid, "created": created}))
        beside.replace(self._pid_file)

    def _forget(self) -> None:
        if self._popen is not None:
            self._popen.poll()
            self._popen = None
        self._pid_file.unlink(missing_ok=True)
        if self._guard is not None:
            with contextlib.suppress(OSError):  # it may be gone
                self._guard.communicate(guard.DONE)
            self._guard = None

    def _watch(self, pid: int, created: float) -> None:
        ask, grace_s = self._ask[0]
        self._guard = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-I", guard.__file__, str(pid), str(created), str(int(ask)), str(grace_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _kill_all(self, server: psutil.Process) -> None:
        """The server first, so that it can't start children anew, then those it had and has."""
        family = {server, *_children(server)}
        for process in (server, *(family - {server})):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        if not waiting.wait_for(lambda: not any(map(_lives, family)), deadline_s=_KILL_DEADLINE_S, every_s=0.02):
            pids = ", ".join(str(process.pid) for process in family if _lives(process))
            raise LocalStackError(f"{self.name}: process {pids} is still there {_KILL_DEADLINE_S:.0f} s after SIGKILL")


def _lives(process: psutil.Process) -> bool:
    """A zombie is dead: in a container nobody may ever reap it."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def own_environment(**additions: str) -> dict[str, str]:
    """Environment for a server: ours without what would bend PostgreSQL's or Java's own settings."""
    bending = ("PG", "JAVA_", "JDK_", "CLASSPATH", "_JAVA", "LC_", "LANG", "KAFKA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(bending)}
    return {**kept, "LC_ALL": "C.UTF-8", "TZ": "UTC", **additions}
