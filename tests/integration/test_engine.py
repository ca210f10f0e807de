"""The engine is tuned as documented: every setting is read back from the server."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from sqlalchemy import text

from ingest.database import SERVER_SETTINGS, Failure, classify, create_engine
from ingest.settings import DatabaseSettings


@pytest.mark.parametrize(("name", "value"), SERVER_SETTINGS.items())
async def test_server_setting_is_in_force(engine: Any, name: str, value: str) -> None:
    async with engine.connect() as connection:
        setting, unit = (
            await connection.execute(text("SELECT setting, unit FROM pg_settings WHERE name = :name"), {"name": name})
        ).one()
    assert setting == value, unit


async def test_operators_find_the_pool_by_its_application_name(engine: Any) -> None:
    async with engine.connect() as connection:
        found = await connection.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%kafka%' AND pid = pg_backend_pid()"
            )
        )
    assert found == 1


async def test_connections_are_opened_as_needed_up_to_the_maximum(database_url: str) -> None:
    settings = DatabaseSettings(url=database_url, min_pool_size=2, max_pool_size=4)
    engine = create_engine(settings, application_name="loom-ingest-kafka-pool")
    count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'loom-ingest-kafka-pool'")
    try:
        async with engine.connect() as first:
            assert await first.scalar(count) == 1
            await first.rollback()  # a transaction sees one snapshot of pg_stat_activity
            others = [await engine.connect() for _ in range(3)]
            for connection in others:
                await connection.scalar(text("SELECT 1"))
            assert await first.scalar(count) == 4
            waiting = asyncio.create_task(_connect(engine))
            await asyncio.wait([waiting], timeout=0.2)
            assert not waiting.done()  # the fifth waits for one of the four
            for connection in others:
                await connection.close()
            await (await waiting).close()
    finally:
        await engine.dispose()


async def _connect(engine: Any) -> Any:
    return await engine.connect()


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        (lambda url: url.rsplit("/", 1)[0] + "/nowhere", Failure.FATAL),
        (lambda url: url.replace("loom:", "loom:wrong", 1), Failure.FATAL),
        (lambda url: "postgresql://127.0.0.1:1/none", Failure.TRANSIENT),
        (lambda url: url + "?sslmode=require", Failure.TRANSIENT),
    ],
    ids=["no such database", "wrong password", "nobody listens", "TLS wanted, none offered"],
)
async def test_what_a_failed_connection_means(database_url: str, change: Any, failure: Failure) -> None:
    engine = create_engine(DatabaseSettings(url=change(database_url)), application_name="kafka")
    with pytest.raises(Exception) as raised:
        async with engine.connect():
            pass
    await engine.dispose()
    assert classify(raised.value) is failure


async def test_several_hosts_are_tried_in_turn(database_url: str) -> None:
    credentials, _, rest = database_url.removeprefix("postgresql://").rpartition("@")
    host, _, database = rest.partition("/")
    url = f"postgresql://{credentials}@127.0.0.1:1,{host}/{database}?target_session_attrs=read-write"
    engine = create_engine(DatabaseSettings(url=url), application_name="kafka")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await engine.dispose()


async def test_sslmode_prefer_goes_on_without_tls(database_url: str) -> None:
    engine = create_engine(DatabaseSettings(url=f"{database_url}?sslmode=prefer"), application_name="kafka")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")) is False
    await engine.dispose()
    assert "sslmode" not in os.environ
