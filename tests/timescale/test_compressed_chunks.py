"""Late and repeated messages meet compressed chunks: the rules hold there, and nothing sticks.

TimescaleDB decompresses what a row may collide with. A statement may decompress only so many rows
(``timescaledb.max_tuples_decompressed_per_dml_transaction``, 100,000 unless it is set): the tests set it low.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Table as SqlTable
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.fuse import FuseOpenError
from ingest.topics import Topic
from tests.integration.conftest import Table
from tests.integration.test_delivery import Lane
from tests.support import timescale_topics as topics
from tests.support.timescale_topics import APPEND, FIRST, LAST, ONE_KEY, TWO_KEYS, measurement, reading

pytestmark = pytest.mark.usefixtures("way")
"""The same promises on every way of the rows."""

DEVICES = 8
ROWS = 50
"""Of each device: one compressed batch."""


@pytest.fixture
def hypertables(migrated_timescale_url: str) -> str:
    topics.create_hypertables(migrated_timescale_url)
    return migrated_timescale_url


@pytest.fixture
def table(timescale_engine: AsyncEngine, hypertables: str) -> Callable[[Topic], Awaitable[Table]]:
    return lambda topic: Table(timescale_engine, topic).begin()


@pytest.fixture
def compress(hypertables: str) -> Callable[[SqlTable], int]:
    return lambda table: topics.compress(hypertables, table)


async def limit(engine: AsyncEngine, rows: int) -> None:
    """Holds for the pool's one connection."""
    async with engine.begin() as connection:
        await connection.execute(text(f"SET timescaledb.max_tuples_decompressed_per_dml_transaction = {rows}"))


def devices(count: int = DEVICES) -> list[str]:
    return [f"d{number}" for number in range(count)]


def inserts_into(name: str, engine: AsyncEngine) -> list[str]:
    """Collects the statements that are sent from now on."""
    statements: list[str] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(*call: Any) -> None:
        if f"INSERT INTO {name} " in call[2]:
            statements.append(call[2])

    return statements


async def test_first_wins_in_a_compressed_chunk(table: Any, compress: Any) -> None:
    written = await table(FIRST)
    await written.write(*(reading(device, minute, 1) for device in devices() for minute in range(0, ROWS, 2)))
    compress(topics.first)
    known = DEVICES * ROWS // 2
    late, repeated, both = reading("d0", 1, 2), reading("d1", 2, 2), reading("d2", 3, 2)
    await written.write(late, repeated, both, both | {"value": 3.0}, reading("new", 1, 2))
    assert await written.counts() == (known + 3, 2, 0)
    found = await written.rows("SELECT device, value FROM test_first WHERE value <> 1 ORDER BY device")
    assert [tuple(row.values()) for row in found] == [("d0", 2), ("d2", 2), ("new", 2)]
    compress(topics.first)
    await written.write(late, repeated, both)
    assert await written.counts() == (known + 3, 5, 0)
    (row,) = await written.rows("SELECT count(*) n FROM test_first")
    assert row["n"] == known + 3


async def test_the_newest_wins_in_a_compressed_chunk(table: Any, compress: Any) -> None:
    written = await table(LAST)
    await written.write(*(measurement(device, 5, 100) | {"unit": "first"} for device in devices()))
    for round_ in range(2):  # the second time in a chunk that was compressed again
        compress(topics.last)
        before = await written.counts()
        base = 100 + 100 * round_
        await written.write(
            measurement("d0", 5, base + 10),  # newer
            measurement("d1", 5, base - 10),  # older
            measurement("d2", 5, base),  # the same again
            measurement("d3", 5, base, value=-1.0 - round_),  # of the same moment, with another value
            measurement("d4", 5, base + 20),  # two newer ones, the newest first
            measurement("d4", 5, base + 10),
            measurement("late", 5 + round_, base),
        )
        written_now, duplicate_now, dead_now = (
            now - then for now, then in zip(await written.counts(), before, strict=True)
        )
        assert (written_now, duplicate_now, dead_now) == (4, 3, 0)
        found = await written.rows("SELECT device, value, unit FROM test_last WHERE device LIKE 'd%' ORDER BY device")
        assert [row["value"] for row in found][:6] == [base + 10, base, base, -1 - round_, base + 20, base]
        assert {row["unit"] for row in found} == {"first"}
        await written.write(*(measurement(device, 5, base + 100) for device in devices()))  # one state for all


async def test_a_table_without_key_takes_late_rows(table: Any, compress: Any) -> None:
    written = await table(APPEND)
    await written.write(*(reading(device, 1) for device in devices()))
    compress(topics.append)
    await written.write(*(reading(device, 1) for device in devices()))
    assert await written.counts() == (2 * DEVICES, 0, 0)
    (row,) = await written.rows("SELECT count(*) n FROM test_append")
    assert row["n"] == 2 * DEVICES


async def test_one_batch_reaches_compressed_uncompressed_and_new_chunks(table: Any, compress: Any) -> None:
    day = 24 * 60
    written = await table(FIRST)
    await written.write(*(reading("d0", number * day) for number in range(3)))
    assert compress(topics.first) == 3
    await written.write(reading("d0", 3 * day))
    outcome = await written.write(*(reading("d0", number * day, 2) for number in range(-1, 5)), reading("d0", 1, 2))
    assert outcome.rejections == []
    assert await written.counts() == (4 + 3, 4, 0)  # the days -1 and 4, and the minute


async def test_over_the_limit_a_batch_is_split_and_all_of_it_written(
    table: Any, compress: Any, timescale_engine: AsyncEngine, way: str
) -> None:
    written = await table(LAST)
    await written.write(*(measurement(device, minute, 100) for device in devices() for minute in range(ROWS)))
    compress(topics.last)
    await limit(timescale_engine, 2 * ROWS)
    statements = inserts_into("test_last", timescale_engine)
    outcome = await written.write(*(measurement(device, 7, 200) for device in devices()))
    assert outcome.rejections == []
    assert await written.counts() == (DEVICES * ROWS + DEVICES, 0, 0)
    # The whole, its halves, its quarters of two devices each; or the whole, and the search in the server.
    assert len(statements) == (1 + 2 + 4 if way == "values" else 2)
    found = await written.rows("SELECT device FROM test_last WHERE value = 200")
    assert len(found) == DEVICES


async def test_the_limit_counts_a_statement_not_the_transaction(
    table: Any, compress: Any, timescale_engine: AsyncEngine
) -> None:
    """Whatever its name says. So savepoints are enough to keep to it."""
    written = await table(LAST)
    await written.write(*(measurement(device, minute, 100) for device in devices() for minute in range(ROWS)))
    compress(topics.last)
    await limit(timescale_engine, ROWS)
    async with timescale_engine.begin() as connection:
        for device in devices():
            await connection.execute(
                text(
                    "INSERT INTO test_last VALUES (:device, :time, 0, 'm', now()) "
                    "ON CONFLICT (device, measured_at) DO UPDATE SET value = excluded.value"
                ),
                {"device": device, "time": topics.START},
            )
    assert len(await written.rows("SELECT 1 FROM test_last WHERE value = 0")) == DEVICES


async def test_what_is_over_the_limit_alone_becomes_a_dead_letter_and_the_lane_goes_on(
    table: Any, compress: Any, timescale_engine: AsyncEngine
) -> None:
    written = await table(LAST)
    small = [measurement(device, 1, 100) for device in devices()]
    await written.write(*small, *(measurement("large", minute, 100) for minute in range(ROWS)))
    compress(topics.last)
    await limit(timescale_engine, ROWS - 1)
    lane = Lane(timescale_engine, LAST)
    bodies = [measurement(device, 1, 200) for device in (*devices(4), "large", "new")]
    start = len(small) + ROWS
    await asyncio.wait_for(lane.start(written.work(bodies, start)), 60)
    assert lane.delivery.status.state == "running"
    assert await written.counts() == (start + 4 + 1, 0, 1)
    (letter,) = await written.rows("SELECT * FROM ingest_dead_letters")
    assert (letter["kafka_offset"], letter["stage"], letter["sqlstate"]) == (start + 4, "database", "53400")
    assert letter["error"] == "tuple decompression limit exceeded by operation (SQLSTATE 53400)"
    await asyncio.wait_for(lane.start(written.work([measurement("later", 1, 200)], start + len(bodies))), 60)
    assert await written.counts() == (start + 4 + 1 + 1, 0, 1)


async def test_repeated_messages_of_a_first_wins_topic_need_nothing_decompressed(
    table: Any, compress: Any, timescale_engine: AsyncEngine
) -> None:
    """So no limit turns a redelivery into a dead letter."""
    written = await table(FIRST)
    bodies = [reading(device, minute) for device in devices() for minute in range(ROWS)]
    await written.write(*bodies)
    compress(topics.first)
    await limit(timescale_engine, 1)
    statements = inserts_into("test_first", timescale_engine)
    await written.write(*bodies, reading("d0", ROWS))
    assert await written.counts() == (len(bodies) + 1, len(bodies), 0)
    assert len(statements) == 1


async def test_a_dead_letter_names_the_constraint_as_the_table_does(table: Any) -> None:
    """A chunk's copy of a key has a name of its own, which tells nobody anything."""
    refusing, checking = await table(TWO_KEYS), await table(FIRST)
    await refusing.write(reading("d0", 1, 1), reading("d0", 1, 2), reading("d1", 1, 1))
    await checking.write(reading("d0", 2, 1000))
    assert await refusing.counts() == (1, 0, 2)
    letters = await refusing.rows(
        "SELECT sqlstate, constraint_name FROM ingest_dead_letters ORDER BY topic DESC, kafka_offset"
    )
    assert [tuple(letter.values()) for letter in letters] == [
        ("23505", "test_two_keys_first"),
        ("23505", "test_two_keys_second"),
        ("23514", "test_first_value"),
    ]


async def test_what_a_compressed_chunk_refuses_becomes_a_dead_letter(table: Any, compress: Any) -> None:
    """TimescaleDB finds the collision before PostgreSQL does, and names the constraint only in the error's text."""
    refusing = await table(ONE_KEY)
    await refusing.write(*(reading(device, minute) for device in devices() for minute in range(ROWS)))
    compress(topics.one_key)
    outcome = await refusing.write(reading("d0", 1), reading("d1", ROWS), reading("d2", 2), reading("new", 2))
    assert await refusing.counts() == (DEVICES * ROWS + 2, 0, 2)
    assert [rejection.message.offset - DEVICES * ROWS for rejection in outcome.rejections] == [0, 2]
    for letter in await refusing.rows("SELECT * FROM ingest_dead_letters"):
        assert (letter["sqlstate"], letter["constraint_name"]) == ("23505", None)
        assert "test_one_key_only" in letter["error"]


async def test_violations_in_many_chunks_are_one_cause(table: Any) -> None:
    """Each chunk's constraint has another name; the fuse opens all the same."""
    days = [reading("d0", number * 24 * 60, number) for number in range(4)]
    refusing = await table(TWO_KEYS)
    await refusing.write(*days)
    await refusing.write(*days * 20)
    with pytest.raises(FuseOpenError, match="constraint test_two_keys_first"):
        await refusing.write(*days * 10)
