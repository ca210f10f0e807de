"""Somebody with a shell, who follows a page of the documentation."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.database import ROOT

BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(found["language"], found["title"], found["text"]) for found in BLOCK.finditer(page)]


class Reader:
    """Somebody with a shell, who follows the page in a directory of their own beside the checkout."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.directory = home / "acme-doors"
        self.directory.mkdir()
        (home / "loom-ingest").symlink_to(ROOT, target_is_directory=True)
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **environment,
        }
        self._exports = ""
        self._service: subprocess.Popen[bytes] | None = None
        self._log = home / "service.log"

    def run(self, commands: str) -> str:
        """Runs commands in the shell; what they export stays. Returns what they printed."""
        if commands.strip() == "ingest run":
            self._restart_service()
            return ""
        done = subprocess.run(
            ["bash", "-e", "-c", self._exports + commands],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{commands}{done.stdout}{done.stderr}\n{self.service_log}"
        self._exports += "".join(f"{line}\n" for line in commands.splitlines() if line.startswith("export "))
        return done.stdout

    @property
    def service_log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def _restart_service(self) -> None:
        self.stop_service()
        with self._log.open("ab") as log:
            self._service = subprocess.Popen(
                ["bash", "-c", self._exports + "exec ingest run"],
                cwd=self.directory,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def stop_service(self) -> None:
        """Ctrl-C."""
        if self._service is not None:
            self._service.send_signal(signal.SIGINT)
            try:
                assert self._service.wait(40) == 0, self.service_log
            finally:
                self._service.kill()
                self._service = None

    def clean_up(self) -> None:
        if self._service is not None:
            self._service.kill()
            self._service.wait(10)


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]


def shown(value: object) -> str:
    """A value as psql shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)
