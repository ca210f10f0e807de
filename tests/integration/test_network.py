"""What a network that fails does to the service's connections to the database."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from ingest import database
from ingest.database import Failure, classify, create_engine
from ingest.delivery import FAILURES_BEFORE_HALVING, Delivery
from ingest.metrics import Metrics
from ingest.retry import MAX_WAIT_S
from ingest.settings import DatabaseSettings
from ingest.writer import Outcome, UnansweredCommit
from tests.integration.conftest import GROUP, Table
from tests.support import messages, proxy
from tests.support.topics import PLAIN
from tests.support.waiting import eventually


@pytest.fixture
def to_database(database_url: str) -> Iterator[proxy.Proxy]:
    with proxy.to(database_url) as between:
        yield between


@pytest.fixture
async def remote(
    database_url: str, to_database: proxy.Proxy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncEngine]:
    """The service's engine on the other side of a network, with shorter patience."""
    monkeypatch.setattr(database, "CONTROL_TIMEOUT_S", 1.0)
    monkeypatch.setitem(database.SERVER_SETTINGS, "idle_in_transaction_session_timeout", "2000")
    settings = DatabaseSettings(url=proxy.through(database_url, to_database), min_pool_size=3, max_pool_size=6)
    engine = create_engine(settings, application_name="loom-ingest-kafka-test")
    yield engine
    to_database.reset()  # what hangs must not hold up the end
    await engine.dispose()


async def backends(engine: AsyncEngine, count: int) -> list[int]:
    """Opens so many connections of the pool at once; returns the backends' process ids."""
    connections = [await engine.connect() for _ in range(count)]
    found = [await each.scalar(text("SELECT pg_backend_pid()")) for each in connections]
    for each in connections:
        await each.close()
    return found


@pytest.mark.parametrize("at", ["swallow", "mute", "reset"])
async def test_a_commit_that_nobody_answers_is_given_up_and_looked_up(
    remote: AsyncEngine, to_database: proxy.Proxy, at: proxy.At
) -> None:
    """Also while the old backend still hangs, with the ledger's rows locked."""
    plain = await Table(remote, PLAIN).begin()
    work = plain.work([messages.plain("a"), messages.plain("b"), b"bad"])
    idle = await backends(remote, 3)
    to_database.once(b"COMMIT;", at)
    began = time.monotonic()
    with pytest.raises(UnansweredCommit) as unanswered:
        await plain.writer.write(work, plain.fuse)
    assert to_database.sprung
    outcome = await plain.writer.write(work, plain.fuse, unanswered=unanswered.value.outcome)
    assert time.monotonic() - began < 30  # of command_timeout's 60 s
    assert (outcome.fenced, outcome.steps[0].written, outcome.steps[0].dead_lettered) == (set(), 2, 1)
    assert await plain.counts() == (2, 0, 1)
    assert len(await plain.rows("SELECT * FROM test_plain")) == 2
    assert await plain.rows("SELECT kafka_offset FROM ingest_dead_letters") == [{"kafka_offset": 2}]
    # The others of the pool went the same way: they are not tried in turn.
    assert not set(idle) & set(await backends(remote, 3))


async def test_an_outage_that_has_just_ended_halves_no_batch(remote: AsyncEngine, to_database: proxy.Proxy) -> None:
    plain = await Table(remote, PLAIN).begin()
    outcomes: list[Outcome] = []
    metrics = Metrics()
    delivery = Delivery(remote, GROUP, PLAIN, metrics=metrics, on_outcome=outcomes.append)
    failed = {"topic": PLAIN.name, "failure": "transient"}

    async def failures() -> float:
        return metrics.registry.get_sample_value("ingest_write_failures_total", failed) or 0

    to_database.cut()
    delivering = asyncio.create_task(
        delivery.deliver(plain.work([messages.plain(f"m{number}") for number in range(8)]), lambda work: work)
    )
    await eventually(failures, until=lambda count: count >= FAILURES_BEFORE_HALVING, within_s=60)
    to_database.heal()
    await asyncio.wait_for(delivering, 60)
    assert [outcome.steps[0].written for outcome in outcomes] == [8]


async def test_an_outage_is_said_once_and_its_end_once_however_many_attempts(
    remote: AsyncEngine, to_database: proxy.Proxy
) -> None:
    plain = await Table(remote, PLAIN).begin()
    metrics = Metrics()
    delivery = Delivery(remote, GROUP, PLAIN, metrics=metrics, on_outcome=lambda outcome: None)
    failed = {"topic": PLAIN.name, "failure": "transient"}

    async def failures() -> float:
        return metrics.registry.get_sample_value("ingest_write_failures_total", failed) or 0

    to_database.cut()
    with capture_logs() as log:
        delivering = asyncio.create_task(delivery.deliver(plain.work([messages.plain("a")]), lambda work: work))
        await eventually(failures, until=lambda count: count >= 4, within_s=30)
        to_database.heal()
        await asyncio.wait_for(delivering, 60)
    assert [line["event"] for line in log] == ["can't write; trying again until it succeeds", "writing again"]
    assert await plain.counts() == (1, 0, 0)


@pytest.mark.parametrize("statement", [b"BEGIN", b"ROLLBACK;"])
async def test_a_begin_or_rollback_that_nobody_answers_is_given_up(
    remote: AsyncEngine, to_database: proxy.Proxy, statement: bytes
) -> None:
    await backends(remote, 1)
    to_database.once(statement, "swallow")
    began = time.monotonic()
    with pytest.raises(TimeoutError) as raised:
        async with remote.connect() as connection:
            await connection.execute(text("SELECT 1"))
            await connection.rollback()
    assert classify(raised.value) is Failure.TRANSIENT
    await backends(remote, 1)
    assert time.monotonic() - began < 30


async def test_a_connection_that_ends_while_it_is_made_is_an_outage(database_url: str) -> None:
    """At whatever byte of its beginning the server goes away."""

    async def answer_in_part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(replies.pop())
        await writer.drain()
        writer.close()

    def say(kind: bytes, body: bytes) -> bytes:
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    welcome = say(b"R", bytes(4)) + say(b"K", bytes(8))
    farewell = say(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")
    parameters = say(b"S", b"server_version\0" + b"18.0\0") + say(b"S", b"client_encoding\0UTF8\0")
    ready = welcome + parameters + say(b"Z", b"I")
    replies = [b"", b"R", farewell, welcome, welcome + farewell, ready, ready + farewell]
    server = await asyncio.start_server(answer_in_part, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = create_engine(
        DatabaseSettings(url=f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable"), application_name="kafka"
    )
    while replies:
        with pytest.raises(Exception) as raised:
            await asyncio.wait_for(backends(engine, 1), 20)
        assert classify(raised.value) is Failure.TRANSIENT, repr(raised.value)
    server.close()
    await engine.dispose()


async def test_a_vanished_database_is_noticed_by_our_own_kernel(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        raw: Any = await connection.get_raw_connection()
        ours = raw.driver_connection._transport.get_extra_info("socket")
        found = {
            name: ours.getsockopt(level, getattr(socket, name))
            for level, name in (
                (socket.SOL_SOCKET, "SO_KEEPALIVE"),
                (socket.IPPROTO_TCP, "TCP_KEEPIDLE"),
                (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
                (socket.IPPROTO_TCP, "TCP_KEEPCNT"),
                (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"),
            )
        }
    assert bool(found.pop("SO_KEEPALIVE"))
    assert found == {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}


def test_an_outcome_that_is_unknown_is_read_from_the_ledger_within_a_minute() -> None:
    """By the limits as they are; the test of an unanswered commit is less patient."""
    idle_s = int(database.SERVER_SETTINGS["idle_in_transaction_session_timeout"]) / 1000
    assert idle_s < database.CONTROL_TIMEOUT_S  # a backend that COMMIT never reached is gone when it is given up
    assert "'20000'" in database._SET_LOCK_TIMEOUT  # else the next attempt waits so long for its locks
    assert database.CONTROL_TIMEOUT_S + MAX_WAIT_S + 20 < 60
