"""``docs/add-a-topic.md``, executed: each block in its order, as a reader would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ingest.local.ports import free_port
from ingest.local.stack import Stack
from tests.docs.reader import Block, Reader, blocks, cells, shown
from tests.support.database import ROOT
from tests.support.waiting import eventually

PAGE = ROOT / "docs" / "add-a-topic.md"


@pytest.fixture
def reader(stack: Stack, empty_database_url: str, suffix: str, tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(
        tmp_path,
        {
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
            await _answers(empty_database_url, previous.text, cells(block.text), reader)
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
        return [list(rows[0].keys()), *([shown(value) for value in row.values()] for row in rows)] if rows else []

    try:
        await eventually(ask, until=lambda answer: answer == expected)
    except AssertionError as error:
        raise AssertionError(f"{sql}{error}\nexpected {expected}\n{reader.service_log}") from None
