"""``ingest run`` as a process, handled as an operator or a kernel would: signals, pages, logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.local.stack import Stack
from ingest.local.waiting import wait_for
from tests.support.database import ROOT


@dataclass
class Service:
    """One process. Start it, signal it, read what it says."""

    environment: dict[str, str]
    log_path: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> Service:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ingest", "run", *self.options],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has buried it."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, within_s: float = 30) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log lines. A line that is no JSON (a traceback!) is under ``raw``."""
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) if line.startswith("{") else {"event": "", "raw": line} for line in lines]

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if event in line["event"]]

    def wait_until_said(self, event: str, within_s: float = 30) -> dict[str, Any]:
        assert wait_for(lambda: bool(self.said(event)), deadline_s=within_s), (
            f"{event!r} not said within {within_s} s:\n{self.log_path.read_text()}"
        )
        return self.said(event)[-1]

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages."""
        port = self.wait_until_said("serving")["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum over the samples of a metric that have these labels."""
        total = 0.0
        for line in self.page("/metrics")[1].splitlines():
            if line.startswith((name + "{", name + " ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total


def service_environment(stack: Stack, database_url: str, suffix: str, **changes: str) -> dict[str, str]:
    """The variables of a service that reads the topics of one test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOOM_")}
    return (
        inherited
        | {
            "LOOM_KAFKA_BOOTSTRAP_SERVERS": stack.kafka,
            "LOOM_DATABASE_URL": database_url,
            "LOOM_KAFKA_GROUP_ID": f"group-{suffix}",
            "LOOM_TOPICS": "tests.support.service_topics",
            "LOOM_TEST_SUFFIX": suffix,
            "LOOM_HTTP_HOST": "127.0.0.1",
            "LOOM_HTTP_PORT": "0",
            "LOOM_DB_MIN_POOL_SIZE": "2",
            "LOOM_DB_MAX_POOL_SIZE": "10",
            "PYTHONPATH": str(ROOT),
        }
        | changes
    )
