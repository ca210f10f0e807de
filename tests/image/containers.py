"""Containers, handled by the ``docker`` command as an operator would."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from ingest.local.waiting import wait_for
from tests.image.images import run

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
"""What a cluster's strictest policy allows: nothing to write to, and no capability."""


@dataclass(frozen=True)
class Container:
    """A container that runs, or ran."""

    id: str

    @property
    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.id], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def inspect(self, what: str) -> str:
        """One of its facts, by Docker's template, such as ``.State.Status``."""
        return run("docker", "inspect", "--format", "{{" + what + "}}", self.id).strip()

    def answers(self, *command: str) -> bool:
        """Whether a command in it succeeds."""
        done = subprocess.run(["docker", "exec", self.id, *command], capture_output=True, check=False)
        return done.returncode == 0

    def port(self, inside: int) -> int:
        """The port of this machine that leads to one of its own."""
        return int(run("docker", "port", self.id, str(inside)).splitlines()[0].rpartition(":")[2])

    def stop(self, grace_s: int) -> int:
        """SIGTERM, and SIGKILL when the grace is over; its exit code (137 by SIGKILL)."""
        run("docker", "stop", "--time", str(grace_s), self.id)
        return int(self.inspect(".State.ExitCode"))

    def wait_until(self, condition: Callable[[], object], *, what: str, within_s: float = 60) -> None:
        """Fails with its log if it ends, or if the condition doesn't come true in time."""

        def reached() -> bool:
            assert self.inspect(".State.Running") == "true", f"it ended while {what}:\n{self.log}"
            return bool(condition())

        assert wait_for(reached, deadline_s=within_s, every_s=0.3), f"not within {within_s} s: {what}\n{self.log}"


class Engine:
    """Starts containers in one network, and removes what it started."""

    def __init__(self, network: str) -> None:
        self.network = network
        self._started: list[str] = []
        run("docker", "network", "create", network)

    def start(self, image: str, *command: str, options: tuple[str, ...] = ()) -> Container:
        """Starts a container in the background."""
        identity = run("docker", "run", "--detach", "--network", self.network, *options, image, *command).strip()
        self._started.append(identity)
        return Container(identity)

    def finish(
        self, image: str, *command: str, options: tuple[str, ...] = (), timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Runs a container to its end and removes it."""
        return subprocess.run(
            ["docker", "run", "--rm", "--network", self.network, *options, image, *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def clean_up(self) -> None:
        if self._started:
            run("docker", "rm", "--force", "--volumes", *self._started)
        run("docker", "network", "rm", self.network)
