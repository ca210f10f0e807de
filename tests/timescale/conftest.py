"""A real TimescaleDB, and for each test a database of its own in it.

Unless a native server is given, one backend serves all connections: while a transaction is open, every other
connection waits for its end. A test that holds one open and asks on another hangs until its time is over. So
``timescale_engine`` has a pool of one connection, and a second one asked for meanwhile fails after 30 s.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.database import create_engine
from ingest.ledger import database_identity
from ingest.schema import SERVICE_TABLES
from ingest.settings import DatabaseSettings
from ingest.topics.columns import metadata
from tests.support.database import alembic
from tests.support.timescale import Timescale, running_timescale

_ENVIRONMENT = dict(os.environ)
"""As it was before the tests: each test has what begins with LOOM_ taken away."""


@pytest.fixture(scope="session")
def timescale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Timescale]:
    """Where the databases come from."""

    def say(line: str) -> None:
        sys.__stderr__.write(f"{line}\n")  # which one served is told, captured or not

    with running_timescale(tmp_path_factory.mktemp("timescale"), say=say, environ=_ENVIRONMENT) as running:
        yield running


@pytest.fixture(scope="session")
def migrated_template(timescale: Timescale) -> str:
    """The name of a template with the schema."""
    timescale.add_template("migrated", lambda url: alembic(url, "upgrade", "head"))
    return "migrated"


@pytest.fixture
def timescale_url(timescale: Timescale) -> Iterator[str]:
    """A database with the extension and nothing else."""
    with timescale.database("empty") as url:
        yield url


@pytest.fixture
def migrated_timescale_url(timescale: Timescale, migrated_template: str) -> Iterator[str]:
    """A database with the schema."""
    with timescale.database(migrated_template) as url:
        yield url


@pytest.fixture
async def timescale_engine(migrated_timescale_url: str) -> AsyncIterator[AsyncEngine]:
    """The service's own engine on the test's database with the schema, with a pool of one connection."""
    settings = DatabaseSettings(url=migrated_timescale_url, min_pool_size=1, max_pool_size=1)
    engine = create_engine(settings, application_name="loom-ingest-kafka-test")
    yield engine
    await engine.dispose()


@pytest.fixture(scope="module")
def shared_timescale_url(timescale: Timescale, migrated_template: str) -> Iterator[str]:
    """One database with the schema for a module whose tests leave nothing in it: a server of its own for each of many
    small tests would take most of their time."""
    with timescale.database(migrated_template) as url:
        yield url


@pytest.fixture
async def shared_timescale_engine(shared_timescale_url: str) -> AsyncIterator[AsyncEngine]:
    """The service's own engine on the module's database, with a pool of one connection. What it wrote is removed."""
    settings = DatabaseSettings(url=shared_timescale_url, min_pool_size=1, max_pool_size=1)
    engine = create_engine(settings, application_name="loom-ingest-kafka-test")
    yield engine
    async with engine.begin() as connection:
        tables = [each.name for each in (*metadata.tables.values(), *SERVICE_TABLES) if each is not database_identity]
        await connection.execute(text(f"TRUNCATE {', '.join(tables)}"))
    await engine.dispose()
