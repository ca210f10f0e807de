"""What the commands beside ``ingest run`` share: one event loop, a connection of their own, failures as one line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest.database import Failure, classify, create_plain_engine, describe
from ingest.errors import FatalError, IngestError
from ingest.reaching import NoBrokerError
from ingest.settings import DatabaseSettings, load_section

Result = TypeVar("Result")


def run(work: Callable[[], Awaitable[Result]]) -> Result:
    """Does the work on an event loop. What the database raises becomes a FatalError."""

    async def inside() -> Result:
        return await work()

    try:
        return asyncio.run(inside())
    except IngestError:
        raise
    except Exception as error:
        hint = (
            "; does it have the schema? `alembic upgrade head`"
            if classify(error) is Failure.LANE
            else "; is LOOM_DATABASE_URL right?"
        )
        raise FatalError(f"database: {describe(error)}{hint}") from error


def with_engine(work: Callable[[AsyncEngine], Awaitable[Result]]) -> Result:
    """:func:`run` with an engine to the database of the settings."""
    url = load_section(DatabaseSettings).url.get_secret_value()

    async def inside() -> Result:
        engine = create_plain_engine(url, application_name="loom-ingest command")
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return run(inside)


def with_database(work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
    """:func:`run` in one transaction on the database of the settings."""

    async def inside(engine: AsyncEngine) -> Result:
        async with engine.begin() as connection:
            return await work(connection)

    return with_engine(inside)


@contextmanager
def asking_broker() -> Iterator[None]:
    """A broker that does not answer, or refuses, becomes a FatalError. The client's own log lines are left out."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it would say in several lines what the error says in one
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        if isinstance(error, NoBrokerError) and error.refused:
            raise FatalError(f"broker: {error}") from error
        what = str(error) or "no answer in time"
        raise FatalError(f"broker: {what}; is LOOM_KAFKA_BOOTSTRAP_SERVERS right, and LOOM_KAFKA_SASL_*?") from error
