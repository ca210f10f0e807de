"""One broker and one database server for the session; a database of its own, cloned from a template, for each test."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import statements
from ingest.database import create_engine
from ingest.local.postgres import query
from ingest.local.stack import Stack, running_stack
from ingest.settings import DatabaseSettings
from tests.support.database import create_template, with_database

# In CI a run tries the same examples each time; elsewhere each run looks for new ones.
hypothesis.settings.register_profile("ci", derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

FAST = {"fsync": "off", "full_page_writes": "off", "max_connections": "300"}
"""For tests that crash no machine."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real Kafka and a real PostgreSQL."""

    def say(line: str) -> None:
        sys.__stderr__.write(f"{line}\n")  # which server served is told, captured or not

    with running_stack(tmp_path_factory.mktemp("stack"), say=say, database_settings=FAST) as running:
        yield running


@pytest.fixture(scope="session")
def template(stack: Stack) -> str:
    """The name of a database with the schema and the tests' own tables, to be cloned."""
    return create_template(stack)


@pytest.fixture
def empty_database_url(stack: Stack) -> Iterator[str]:
    """A database without anything in it."""
    yield from _database(stack, "template1")


@pytest.fixture
def database_url(stack: Stack, template: str) -> Iterator[str]:
    """A database with the schema."""
    yield from _database(stack, template)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The service's own engine on the test's database."""
    settings = DatabaseSettings(url=database_url, min_pool_size=2, max_pool_size=10)
    engine = create_engine(settings, application_name="loom-ingest-kafka-test")
    yield engine
    await engine.dispose()


@pytest.fixture(params=["values", "copy", "staged"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way on which rows get into their tables, however few they are. What can't be copied straight is staged."""
    way: str = request.param
    for name in ("COPY_FROM_ROWS", "STAGE_FROM_ROWS"):
        monkeypatch.setattr(statements, name, 1_000_000 if way == "values" else 1)
    if way == "staged":

        async def never(*_: Any) -> bool:
            return False

        monkeypatch.setattr(statements.TableWriter, "_copy", never)
    return way


@pytest.fixture
def suffix() -> str:
    """Makes this test's topics and group its own on the shared broker."""
    return uuid4().hex[:8]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has exported must not change what a test sees. The session's stack has been chosen before."""
    for name in list(os.environ):
        if name.startswith("LOOM_"):
            monkeypatch.delenv(name)


def _database(stack: Stack, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    query(stack.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield with_database(stack.database_url, name)
    query(stack.database_url, f"DROP DATABASE {name} WITH (FORCE)")
