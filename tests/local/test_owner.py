"""Whatever happens to the process that owns a stack, its servers end, and the next run is not blocked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ingest.local.errors import LocalStackError
from ingest.local.postgres import PostgresServer, answers, query
from ingest.local.stack import KAFKA_VARIABLE, running_stack
from ingest.local.waiting import wait_for

ONLY_DATABASE = {KAFKA_VARIABLE: "unused:9092"}


def quiet(_: str) -> None:
    """Nobody listens."""


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@contextmanager
def owner(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that owns a stack in ``directory``, in its own process group; and its server's process id."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.local.owner", str(directory)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("{"), line + process.stdout.read()
            yield process, json.loads(line)["pid"]
        finally:
            process.kill()


def test_servers_end_with_a_killed_owner(tmp_path: Path) -> None:
    with owner(tmp_path / "stack") as (process, server):
        process.kill()
        process.wait()
        assert wait_for(lambda: gone(server), deadline_s=20)
    PostgresServer(tmp_path / "stack" / "postgres").remove()  # as the next run would


def test_a_killed_owner_blocks_nothing(tmp_path: Path) -> None:
    """Not even one whose guard was killed too: the next run in the directory stops what is left there."""
    directory = tmp_path / "stack"
    with owner(directory) as (process, server):
        for child in psutil.Process(process.pid).children():
            if child.pid != server:
                child.kill()
        process.kill()
        process.wait()
        assert not gone(server)
        with running_stack(directory, say=quiet, environ=ONLY_DATABASE) as stack:
            assert gone(server)
            assert answers(stack.database_url)
    assert list(directory.iterdir()) == []


def test_ctrl_c_stops_cleanly_and_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "stack"
    with owner(directory) as (process, server):
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert (said, process.returncode) == ("stopped\n", 0)
        assert gone(server)
    assert not directory.exists()


def test_a_directory_in_use_is_refused_and_its_stack_goes_on(tmp_path: Path) -> None:
    with running_stack(tmp_path, say=quiet, environ=ONLY_DATABASE) as stack:
        with (
            pytest.raises(LocalStackError, match="another process runs one in"),
            running_stack(tmp_path, say=quiet, environ=ONLY_DATABASE),
        ):
            pass
        assert answers(stack.database_url)


def test_an_innocent_process_is_never_stopped(tmp_path: Path) -> None:
    """A pid file whose number now belongs to another program, even one as old as the server was."""
    with subprocess.Popen(["sleep", "60"]) as innocent:
        try:
            created = psutil.Process(innocent.pid).create_time()
            (tmp_path / "server.pid.json").write_text(json.dumps({"pid": innocent.pid, "created": created}))
            PostgresServer(tmp_path).remove()
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_path_of_any_length_serves(tmp_path: Path) -> None:
    """A socket file's path may have 107 bytes."""
    directory = tmp_path.joinpath(*["a-long-name-for-a-directory"] * 6)
    directory.mkdir(parents=True)
    with running_stack(directory, say=quiet, environ=ONLY_DATABASE) as stack:
        assert query(stack.database_url, "SELECT 1")


def test_a_failed_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(LocalStackError, match="shared_buffers"),
        running_stack(
            tmp_path / "stack",
            say=quiet,
            environ=ONLY_DATABASE,
            database_settings={"shared_buffers": "a lot"},
        ),
    ):
        pass
    assert not (tmp_path / "stack").exists()
