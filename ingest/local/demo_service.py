"""``ingest run`` as a process of the demo, and what its ``/metrics`` say."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from ingest.local.errors import LocalStackError
from ingest.local.ports import LOOPBACK
from ingest.local.process import ServerProcess
from ingest.local.waiting import wait_for

READY_DEADLINE_S = 60.0
SEEN_DEADLINE_S = 1.0
STOP_GRACE_S = 30.0
"""More than LOOM_SHUTDOWN_GRACE: the service is to end by itself."""

SCRAPE_TIMEOUT_S = 2.0
LOGGED = {"LOOM_HTTP_HOST": LOOPBACK, "LOOM_HTTP_PORT": "0", "LOOM_LOG_FORMAT": "json"}
"""A free port, which the service takes and logs."""


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy that the environment names is for the world outside."""


@dataclass(slots=True)
class Counters:
    """What the service itself counted of one topic."""

    read: int = 0
    written: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    dropped: int = 0


class DemoService:
    """One process of the service, whose log is below ``directory``."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        directory.mkdir(parents=True)
        self._program = Path(sys.executable).with_name("ingest")
        self._environment = {**environment, **LOGGED}
        self._process = ServerProcess(
            "Service",
            directory,
            marker=str(self._program),
            ask=((signal.SIGTERM, STOP_GRACE_S),),
            guarded=True,
        )
        self._url: str | None = None

    def launch(self) -> None:
        """Start it; returns at once. Not to be interrupted, or nobody would know of the process.

        Raises LocalStackError.
        """
        if not self._program.exists():
            raise LocalStackError(f"Service: {self._program} is missing; pip install 'loom-ingest[local]'")
        self._process.launch([str(self._program), "run"], environment=self._environment)
        # For an instant after its start a process has no command line yet, and would not be known as ours.
        wait_for(self._process.alive, deadline_s=SEEN_DEADLINE_S, every_s=0.005)

    def wait_until_ready(self) -> None:
        """Wait until it reads its topics. Raises LocalStackError with the end of its log."""
        self._process.wait_until(self._ready, deadline_s=READY_DEADLINE_S)

    def check_alive(self) -> None:
        """Raises LocalStackError with the end of its log if it has ended by itself."""
        if not self._process.alive():
            raise LocalStackError(f"Service: it ended by itself. {self._process.last_words(lines=3)}")

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        return self._process.last_words(lines=3)

    def counters(self) -> dict[str, Counters]:
        """The account as its ``/metrics`` tell it, by topic. Raises OSError when it doesn't answer."""
        found: dict[str, Counters] = {}
        for family in text_string_to_metric_families(self._get("/metrics")):
            name = family.name.removeprefix("ingest_messages_")
            if family.type != "counter" or name not in Counters.__slots__:
                continue
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    counters = found.setdefault(sample.labels["topic"], Counters())
                    setattr(counters, name, getattr(counters, name) + int(sample.value))
        return found

    def stop(self) -> bool:
        """SIGTERM, as Kubernetes would; whether it ended as it should. SIGKILL when its grace is over."""
        running = self._process.alive()
        self._process.stop()
        return running and any(line.get("event") == "stopped" for line in self._log())

    def _ready(self) -> bool:
        if self._url is None:
            ports = [line["port"] for line in self._log() if str(line.get("event")).startswith("serving")]
            if not ports:
                return False
            self._url = f"http://{LOOPBACK}:{ports[0]}"
        try:
            self._get("/readyz")
        except OSError:  # not listening, or not ready yet: 503 is an OSError, too
            return False
        return True

    def _get(self, path: str) -> str:
        with _direct.open(f"{self._url}{path}", timeout=SCRAPE_TIMEOUT_S) as answer:
            text: bytes = answer.read()
        return text.decode()

    def _log(self) -> list[dict[str, object]]:
        lines = []
        for line in self._process.log.read_text(errors="replace").splitlines():
            try:
                parsed = json.loads(line)
            except ValueError:
                continue  # half a line, or a library's
            if isinstance(parsed, dict):
                lines.append(parsed)
        return lines
