"""The rows that a CHECK is known to refuse go apart from the others, and each ends as it would have without that."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from ingest import sifting
from ingest.local.postgres import query
from tests.integration.conftest import Seen, Table
from tests.support import messages
from tests.support.topics import EMAILS, PLAIN

MANY = 200
TABLE = "test_plain"
NO_EVEN = "ALTER TABLE test_plain ADD CONSTRAINT \"not's :even %\" CHECK (identity NOT LIKE '%even:s' ESCAPE '!')"
"""With everything in it that a driver might take for a parameter or a quote."""


class Side:
    """A table with a batch's worth of messages at a time."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.seen = Seen(table.engine)
        self.sent = 0

    async def write(self, *, refused: int = 0, **changes: Any) -> set[str]:
        """Writes a batch, the first ``refused`` of which the constraint refuses; returns how its rows went."""
        bodies = [messages.plain(f"{self.sent + n}{'even:s' if n < refused else ''}", **changes) for n in range(MANY)]
        self.sent += MANY
        self.seen.statements.clear()
        outcome = await self.table.write(*bodies)
        assert len(outcome.rejections) == refused
        return self.ways()

    def ways(self) -> set[str]:
        ways = set()
        if any("ingest_sent" in each for each in self.seen.statements):
            ways.add("asked")
        if any("INSERT INTO test_plain" in each for each in self.seen.statements):
            ways.add("staged")
        return ways


@pytest.fixture
async def side(table: Any, database_url: str) -> Side:
    query(database_url, NO_EVEN)
    return Side(await table(PLAIN))


async def test_only_the_refused_rows_of_a_batch_are_staged(side: Side) -> None:
    assert await side.write() == set()
    for _ in range(3):
        assert await side.write(refused=3) == {"asked", "staged"}
        # Of the temporary table only the three were moved, each by itself: what was copied is not among them.
        (block,) = [each for each in side.seen.statements if "DO $ingest$" in each]
        assert "ingest_step integer := 1;" in block
    assert await side.table.counts() == (4 * MANY - 9, 0, 9)
    letters = await side.table.rows("SELECT sqlstate, constraint_name, attempts FROM ingest_dead_letters")
    assert {(each["sqlstate"], each["constraint_name"]) for each in letters} == {("23514", "not's :even %")}
    # Those of the first batch were among the copied ones, too.
    assert sorted(each["attempts"] for each in letters) == [1, 1, 1, 1, 1, 1, 2, 2, 2]


async def test_a_constraint_is_forgotten_when_it_refuses_nothing_for_long(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sifting, "REMEMBERED_BATCHES", 2)
    await side.write(refused=1)
    assert [await side.write() for _ in range(4)] == [{"asked"}, {"asked"}, set(), set()]
    assert await side.write(refused=1) == {"asked", "staged"}
    assert await side.table.counts() == (6 * MANY - 2, 0, 2)


async def test_all_rows_of_a_batch_are_refused(side: Side) -> None:
    await side.write(refused=3)
    await side.write(refused=MANY)
    assert await side.table.counts() == (MANY - 3, 0, MANY + 3)


async def test_several_constraints_are_asked_about_together(side: Side, database_url: str) -> None:
    query(database_url, f"ALTER TABLE {TABLE} ADD CONSTRAINT late CHECK (\"timestamp\" >= '{messages.at(0)}')")
    bodies = [messages.plain(f"{n}", -60 if n % 50 == 0 else 0) for n in range(MANY)]
    bodies[7] = messages.plain("7 even:s")
    for _ in range(2):
        outcome = await side.table.write(*bodies)
        assert [each.constraint_name for each in outcome.rejections] == [
            "late",
            "not's :even %",
            "late",
            "late",
            "late",
        ]
    assert await side.table.counts() == (2 * (MANY - 5), 0, 10)
    assert "IS FALSE OR" in next(each for each in reversed(side.seen.statements) if "ingest_sent" in each)


async def test_a_constraint_that_is_dropped_meanwhile_costs_no_message(side: Side, database_url: str) -> None:
    await side.write(refused=3)
    query(database_url, f'ALTER TABLE {TABLE} DROP CONSTRAINT "not\'s :even %"')
    bodies = [messages.plain(f"{number} even:s") for number in range(MANY)]
    side.seen.statements.clear()
    outcome = await side.table.write(*bodies)
    assert outcome.rejections == []
    assert side.ways() == {"asked", "staged"}
    assert await side.table.counts() == (2 * MANY - 3, 0, 3)


async def test_a_trigger_that_mends_a_row_gets_it_written(side: Side, database_url: str) -> None:
    await side.write(refused=3)
    query(
        database_url,
        "CREATE FUNCTION mend() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN NEW.identity := replace(NEW.identity, 'even:s', ''); RETURN NEW; END$$",
    )
    query(database_url, f"CREATE TRIGGER mend BEFORE INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION mend()")
    side.seen.statements.clear()
    outcome = await side.table.write(*(messages.plain(f"{number}even:s") for number in range(MANY)))
    assert outcome.rejections == []
    assert side.ways() == {"asked", "staged"}
    assert await side.table.counts() == (2 * MANY - 3, 0, 3)


async def test_a_question_that_fails_is_not_asked_again(side: Side, database_url: str) -> None:
    """Here the condition's function is no more what it was: it raises. So does the constraint, for each row."""
    query(database_url, "CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE sql AS $$SELECT $1 NOT LIKE '%bad'$$")
    query(database_url, f"ALTER TABLE {TABLE} ADD CHECK (fine(identity))")
    outcome = await side.table.write(*(messages.plain(f"{n}{'bad' if n < 2 else ''}") for n in range(MANY)))
    assert len(outcome.rejections) == 2
    query(
        database_url,
        "CREATE OR REPLACE FUNCTION fine(text) RETURNS boolean LANGUAGE sql AS $$SELECT 1 / length($1) > 0$$",
    )
    side.seen.statements.clear()
    with capture_logs() as logs:
        outcome = await side.table.write(*(messages.plain(f"{'' if n == 5 else 'x'}") for n in range(MANY)))
    assert [(each.message.offset - MANY, each.sqlstate) for each in outcome.rejections] == [(5, "22012")]
    assert "asked" in side.ways()
    assert [each["event"] for each in logs] == ["a CHECK can't be asked about; what it refuses is searched for"]
    side.seen.statements.clear()
    outcome = await side.table.write(*(messages.plain(f"{'' if n == 5 else 'x'}") for n in range(MANY)))
    assert len(outcome.rejections) == 1
    assert "asked" not in side.ways()
    assert await side.table.counts() == (3 * MANY - 4, 0, 4)


async def test_batches_that_are_not_searched_learn_nothing(side: Side) -> None:
    """Here for a key that comes twice would decide; the same holds for messages of two tables."""
    side.table.writer._immediate = True
    for _ in range(2):
        assert "asked" not in await side.write(refused=1)
    assert not side.table.writer._tables[0]._sieve.asks


async def test_a_table_of_which_rows_are_updated_is_sifted_too(table: Any, database_url: str) -> None:
    query(database_url, f"ALTER TABLE {EMAILS.tables[0].name} ADD CHECK (subject NOT LIKE 'no%')")
    emails: Table = await table(EMAILS)
    seen = Seen(emails.engine)
    for batch in range(2):
        bodies = [messages.email(f"{batch}-{n}", subject="no" if n % 50 == 0 else "yes") for n in range(MANY)]
        outcome = await emails.write(*bodies)
        assert len(outcome.rejections) == 4
    assert any("ingest_sent" in each for each in seen.statements)
    assert await emails.counts() == (2 * MANY - 8, 0, 8)
