"""The demo as a process, not on a terminal: it closes its account, and ends cleanly when it is asked to."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ingest.local.demo_screen import SHORT
from ingest.local.waiting import wait_for

COMMAND = (str(Path(sys.executable).with_name("ingest")), "demo")
DEADLINE_S = 120.0
"""For a machine that others keep busy; on two idle cores each takes about 10 s."""


class Run:
    """A demo that runs, with a directory for temporary files of its own."""

    def __init__(self, directory: Path, output: Path, *options: str) -> None:
        self.temporary = directory
        self._output = output
        environment = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",  # the wheels serve, everywhere alike
        }
        with output.open("wb") as file:
            self.process = psutil.Popen(
                [*COMMAND, *options], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def wait_until(self, condition: Callable[[], object]) -> None:
        def or_ended() -> bool:
            return bool(condition()) or not running(self.process)

        assert wait_for(or_ended, deadline_s=DEADLINE_S), self.said
        assert condition(), self.said

    def exit_code(self) -> int:
        assert wait_for(lambda: not running(self.process), deadline_s=DEADLINE_S), self.said
        return int(self.process.wait())


@contextmanager
def running_demo(directory: Path, *options: str) -> Iterator[Run]:
    # Not below pytest's directory, which only its owner may enter: run by root, PostgreSQL runs as nobody.
    temporary = Path(tempfile.mkdtemp(prefix="demo-test-"))
    temporary.chmod(0o755)
    run = Run(temporary, directory / "output", *options)
    try:
        yield run
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if running(run.process):
            run.process.kill()
            run.process.wait()


def running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_account_of_every_topic_closes(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    with running_demo(tmp_path, "--messages", "2000", "--seed", "4", "--svg", str(picture)) as run:
        assert run.exit_code() == 0, run.said
        assert list(run.temporary.iterdir()) == []
    lines = re.findall(r"✓ (\S+) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+)", run.said)
    assert [line[0] for line in lines] == list(SHORT.values())
    total = 0
    for _, *numbers in lines:
        in_kafka, written, duplicate, dead_lettered, rows = (int(number.replace(",", "")) for number in numbers)
        assert in_kafka == written + duplicate + dead_lettered
        assert 0 < rows <= written
        total += in_kafka
    assert total == 2_000
    assert "of 2,000:" in run.said  # where it is, as plain lines
    assert "\x1b" not in run.said
    assert "Three rows" in run.said
    assert "Three dead letters" in run.said
    assert "ingest dead-letters list" in run.said
    assert "✗" not in run.said
    assert "Traceback" not in run.said
    assert max(map(len, run.said.splitlines())) <= 100
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Kafka +starting", signal.SIGTERM),
        (r"[1-9][\d,]* of 30,000:", signal.SIGINT),
    ],
    ids=["stack starts", "stream runs"],
)
def test_stops_cleanly_at_any_moment(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    with running_demo(tmp_path, "--messages", "30000") as run:
        run.wait_until(lambda: re.search(moment, run.said))
        started = run.process.children(recursive=True)
        run.process.send_signal(number)
        run.process.send_signal(number)  # impatience changes nothing
        assert run.exit_code() == 130, run.said
        assert list(run.temporary.iterdir()) == []
    assert run.said.endswith("\nstopped\n"), run.said
    assert "Traceback" not in run.said
    assert [process for process in started if running(process)] == []
    assert [each for each in psutil.process_iter() if str(run.temporary) in " ".join(cmdline(each))] == []


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return []
