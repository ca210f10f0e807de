"""``docs/timescale.md``, executed on a real TimescaleDB: each block in its order, as a reader would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.local.postgres import query
from tests.docs.reader import Block, Reader, blocks, cells, shown
from tests.support.database import ROOT

PAGE = ROOT / "docs" / "timescale.md"


@pytest.fixture
def reader(timescale_url: str, tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path, {"LOOM_DATABASE_URL": timescale_url})
    yield reader
    reader.clean_up()


def test_the_page_does_what_it_says(reader: Reader, timescale_url: str) -> None:
    answered: str | list[list[str]] = ""
    for block in blocks(PAGE.read_text()):
        if block.title is not None:
            path = reader.directory / block.title
            assert path.parent.is_dir(), f"the page has not made {path.parent}"
            path.write_text(block.text)
        elif block.language == "sh":
            answered = reader.run(block.text)
        elif block.language == "sql":
            answered = _table(timescale_url, block.text)
        else:
            assert answered == _expected(block, answered), f"before\n{block.text}"
    reader.run("alembic downgrade base && alembic upgrade head && alembic check")


def test_every_block_of_the_page_is_a_file_a_command_a_query_or_an_answer() -> None:
    found = blocks(PAGE.read_text())
    assert len(found) == PAGE.read_text().count("\n```") // 2
    assert {block.language for block in found if block.title is None} == {"sh", "sql", "text"}


def _table(url: str, sql: str) -> list[list[str]]:
    rows = query(url, sql)
    return [list(rows[0].keys()), *([shown(value) for value in row.values()] for row in rows)] if rows else []


def _expected(block: Block, answered: str | list[list[str]]) -> str | list[list[str]]:
    """As the answer before it is: a query's table, or the end of what a command printed."""
    if isinstance(answered, list):
        return cells(block.text)
    return answered if answered.endswith(block.text) else block.text
