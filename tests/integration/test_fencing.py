"""The ledger's row is the judge of who may write: whoever does not find it where expected writes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest import ledger
from ingest.errors import TransientError
from ingest.writer import Span, UnansweredCommit, Work
from tests.integration.conftest import GROUP
from tests.support import messages
from tests.support.topics import GPS, PLAIN
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("way")
"""The same promises on every way of the rows."""


async def test_two_writers_of_one_partition_cannot_both_write_it(table: Any) -> None:
    plain = await table(PLAIN)
    work = plain.work([messages.plain("a"), messages.plain("b")])

    async def waiting() -> int:
        found = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return len(await plain.rows(found))

    async with plain.engine.connect() as gate:
        await gate.execute(text("SELECT 1 FROM ingest_offsets FOR UPDATE"))
        writing = asyncio.gather(plain.writer.write(work, plain.fuse), plain.writer.write(work, plain.fuse))
        await eventually(waiting, until=lambda count: count == 2)  # both have begun before either can go on
        await gate.rollback()
        outcomes = await writing
    assert sorted(len(outcome.fenced) for outcome in outcomes) == [0, 1]
    assert len(await plain.rows("SELECT * FROM test_plain")) == 2
    assert await plain.counts() == (2, 0, 0)


async def test_a_ledger_that_moved_back_is_noticed_before_anything_is_written(table: Any) -> None:
    plain = await table(PLAIN)
    await plain.write(messages.plain("a"), messages.plain("b"))
    async with plain.engine.begin() as connection:
        await connection.execute(text("UPDATE ingest_offsets SET next_offset = 1"))
    outcome = await plain.write(messages.plain("c"))
    assert (outcome.fenced, outcome.steps) == ({0}, {})
    assert len(await plain.rows("SELECT * FROM test_plain")) == 2


async def test_a_partition_without_ledger_row_is_fenced(table: Any) -> None:
    plain = await table(PLAIN)
    async with plain.engine.begin() as connection:
        await connection.execute(text("DELETE FROM ingest_offsets"))
    outcome = await plain.write(messages.plain("a"))
    assert outcome.fenced == {0}
    assert await plain.rows("SELECT * FROM test_plain") == []


async def test_a_fenced_partition_does_not_hold_back_the_others(table: Any) -> None:
    plain = await table(PLAIN)
    items = plain.items([messages.plain("zero")])
    mine = messages.FakeMessage(messages.encode(messages.plain("one")), partition=1, topic=PLAIN.name)
    items += [plain._decode(mine)]
    outcome = await plain.writer.write(Work(items, {0: Span(5, 6), 1: Span(0, 1)}), plain.fuse)
    assert outcome.fenced == {0}
    assert await plain.rows("SELECT identity FROM test_plain") == [{"identity": "one"}]


async def test_offsets_of_control_records_are_passed_without_messages(table: Any) -> None:
    plain = await table(PLAIN)
    await plain.write(messages.plain("a"))
    await plain.writer.write(Work([], {0: Span(1, 4)}), plain.fuse)
    (row,) = await plain.rows(
        "SELECT first_offset, next_offset, last_offset, written, passed FROM ingest_offsets WHERE partition = 0"
    )
    assert row == {"first_offset": 0, "next_offset": 4, "last_offset": 0, "written": 1, "passed": 3}


@pytest.mark.parametrize("to_offset", [9, 1], ids=["forward", "back"])
async def test_a_move_keeps_the_account_closed_and_is_made_once(table: Any, to_offset: int) -> None:
    plain = await table(PLAIN)
    await plain.write(messages.plain("a"), messages.plain("b"), b"bad")

    async def move() -> bool:
        async with plain.engine.begin() as connection:
            return await ledger.move(connection, GROUP, PLAIN.name, 0, 3, to_offset, "a test")

    assert sorted(await asyncio.gather(move(), move())) == [False, True]
    account = "SELECT next_offset - first_offset - written - duplicate - dead_lettered - passed - moved AS off"
    assert await plain.rows(f"{account} FROM ingest_offsets WHERE partition = 0") == [{"off": 0}]
    gaps = await plain.rows("SELECT from_offset, to_offset, reason FROM ingest_offset_gaps")
    assert gaps == [{"from_offset": 3, "to_offset": to_offset, "reason": "a test"}]


@pytest.fixture
def answerless(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the next COMMIT's answer get lost: after the server did it, or instead of it."""

    def lose(*, committed: bool) -> None:
        from sqlalchemy.ext.asyncio import AsyncTransaction

        real = AsyncTransaction.commit

        async def commit(self: AsyncTransaction) -> None:
            monkeypatch.setattr(AsyncTransaction, "commit", real)
            if committed:
                await real(self)
            raise ConnectionResetError("connection reset by peer")

        monkeypatch.setattr(AsyncTransaction, "commit", commit)

    return lose


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_without_answer_is_looked_up_and_written_once(
    table: Any, answerless: Any, committed: bool
) -> None:
    plain = await table(PLAIN)
    work = plain.work([messages.plain("a"), messages.plain("b"), b"bad"])
    answerless(committed=committed)
    with pytest.raises(UnansweredCommit) as unanswered:
        await plain.writer.write(work, plain.fuse)
    assert isinstance(unanswered.value, TransientError)
    outcome = await plain.writer.write(work, plain.fuse, unanswered=unanswered.value.outcome)
    assert (outcome.fenced, outcome.steps[0].written, outcome.steps[0].dead_lettered) == (set(), 2, 1)
    assert await plain.counts() == (2, 0, 1)
    assert len(await plain.rows("SELECT * FROM test_plain")) == 2
    assert await plain.rows("SELECT kafka_offset FROM ingest_dead_letters") == [{"kafka_offset": 2}]


async def test_two_that_start_on_an_empty_ledger_begin_at_one_offset(engine: Any) -> None:
    async def begin(offset: int) -> int:
        async with engine.begin() as connection:
            await ledger.create(connection, GROUP, GPS.name, {0: offset})
        async with engine.begin() as connection:
            row = await ledger.read(connection, GROUP, GPS.name, 0)
            assert row is not None
            return row.next_offset

    first, second = await asyncio.gather(begin(3), begin(7))
    assert first == second
    assert first in (3, 7)


async def test_one_that_looked_at_the_empty_ledger_and_comes_late_leaves_the_row_as_it_is(table: Any) -> None:
    """The other has written meanwhile."""
    plain = await table(PLAIN)
    await plain.write(messages.plain("a"), messages.plain("b"))
    async with plain.engine.begin() as connection:
        await ledger.create(connection, GROUP, PLAIN.name, {0: 0, 1: 7, 2: 5})
        found = await ledger.read_all(connection, GROUP, [PLAIN.name])
    assert found == {(PLAIN.name, 0): 2, (PLAIN.name, 1): 0, (PLAIN.name, 2): 5}
    (row,) = await plain.rows("SELECT written, last_offset FROM ingest_offsets WHERE partition = 0")
    assert row == {"written": 2, "last_offset": 1}


async def test_reading_a_row_waits_for_whoever_is_moving_it(table: Any) -> None:
    plain = await table(PLAIN)
    async with plain.engine.connect() as mover:
        await ledger.lock(mover, GROUP, PLAIN.name, [0])
        await ledger.advance(mover, GROUP, PLAIN.name, {0: ledger.Advance(9)})

        async def read(connection: AsyncConnection) -> int:
            row = await ledger.read(connection, GROUP, PLAIN.name, 0)
            assert row is not None
            return row.next_offset

        async with plain.engine.begin() as reader:
            reading = asyncio.create_task(read(reader))
            await asyncio.wait([reading], timeout=0.2)
            assert not reading.done()
            await mover.commit()
            assert await reading == 9
