"""``docs/add-a-topic.md``, executed: each block in its order, as a reader would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from ingest.local.ports import free_port
from ingest.local.stack import Stack
from tests.support.database import ROOT
from tests.support.waiting import eventually

PAGE = ROOT / "docs" / "add-a-topic.md"
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
        self._environment = environment
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


@pytest.fixture
def reader(stack: Stack, empty_database_url: str, suffix: str, tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(
        tmp_path,
        {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LOOM_KAFKA_BOOTSTRAP_SERVERS": stack.kafka,
            "LOOM_KAFKA_GROUP_ID": f"group-{suffix}",
            "LOOM_DATABASE_URL": empty_database_url,
            "LOOM_TIMESCALE": "auto",
            "LOOM_HTTP_HOST": "127.0.0.1",
            "LOOM_DB_MIN_POOL_SIZE": "2",
            "LOOM_DB_MAX_POOL_SIZE": "10",
        },
    )
    yield reader
    reader.clean_up()


async def test_the_page_does_what_it_says(reader: Reader, empty_database_url: str, suffix: str) -> None:
    port = free_port()
    page = PAGE.read_text().replace("acme.door.events", f"acme.door.events.{suffix}").replace(":8080/", f":{port}/")
    reader.run(f"export LOOM_HTTP_PORT={port}")
    answered = ""
    previous: Block | None = None
    for block in blocks(page):
        if block.title is not None:
            path = reader.directory / block.title
            assert path.parent.is_dir(), f"the page has not made {path.parent}"
            path.write_text(block.text)
        elif block.language == "sh":
            answered = reader.run(block.text)
        elif block.language == "text" and previous is not None and previous.language == "sql":
            await _answers(empty_database_url, previous.text, _cells(block.text), reader)
        elif block.language == "text":
            assert answered.strip() == block.text.strip()
        else:
            assert block.language == "sql", f"what is a block of {block.language}?"
        previous = block
    reader.stop_service()
    # Both sets of migrations are complete, each by itself, and what Alembic makes of the template can be read.
    assert "No new upgrade operations detected" in reader.run("alembic check")
    assert "No new upgrade operations detected" in reader.run("alembic -c ../loom-ingest/alembic.ini check")
    assert reader.run("alembic -c ../loom-ingest/alembic.ini heads").count("(head)") == 1
    assert reader.run("alembic heads").split() == ["8d25e6b1f07c", "(head)"]
    reader.run("alembic revision --autogenerate --rev-id ffff -m nothing && python acme/migrations/versions/ffff_*.py")
    reader.run("rm acme/migrations/versions/ffff_*.py && alembic downgrade base && alembic upgrade head")


def test_every_file_of_the_page_says_its_name() -> None:
    found = blocks(PAGE.read_text())
    assert len(found) == PAGE.read_text().count("\n```") // 2
    assert {block.language for block in found if block.title is None} == {"sh", "sql", "text"}


async def _answers(url: str, sql: str, expected: list[list[str]], reader: Reader) -> None:
    """The service needs a moment: the query is asked until it answers what the page says."""

    async def ask() -> list[list[str]]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(sql)
        finally:
            await connection.close()
        return [list(rows[0].keys()), *([_shown(value) for value in row.values()] for row in rows)] if rows else []

    try:
        await eventually(ask, until=lambda answer: answer == expected)
    except AssertionError as error:
        raise AssertionError(f"{sql}{error}\nexpected {expected}\n{reader.service_log}") from None


def _cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]


def _shown(value: object) -> str:
    """A value as psql shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)
