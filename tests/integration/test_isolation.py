"""What bad messages cost, counted in statements; and what is theirs alone, whoever finds it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateTable

from ingest.database import Failure, classify
from tests.acceptance.faults import topics
from tests.integration.conftest import Table
from tests.support import messages
from tests.support.topics import PLAIN

N = 256


@pytest.fixture
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """Every statement that goes to the database, savepoints included."""
    found: list[str] = []

    def note(*call: Any) -> None:
        found.append(call[2])

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield found
    event.remove(engine.sync_engine, "before_cursor_execute", note)


async def one_table(table: Callable[..., Any]) -> Table:
    side: Table = await table(PLAIN)
    async with side.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE test_plain ADD CONSTRAINT refuses CHECK (identity <> 'bad')")
    return side


async def two_tables(table: Callable[..., Any]) -> Table:
    """Only the second one refuses, when the message's row is in the first."""
    async with (await table(topics.PAIR)).engine.begin() as connection:
        for each in (topics.heads, topics.tails):
            await connection.exec_driver_sql(str(CreateTable(each).compile(dialect=postgresql.dialect())))
        await connection.exec_driver_sql("ALTER TABLE fault_tails ADD CONSTRAINT refuses CHECK (identity <> 'bad')")
    side: Table = await table(topics.PAIR)
    return side


def bodies(bad: Sequence[int]) -> list[dict[str, Any]]:
    return [messages.plain("bad" if n in bad else f"m{n}") | {"amount": 1} for n in range(N)]


SPREAD = [[N // k * n for n in range(k)] for k in (1, 2, 8, 32)]


@pytest.mark.parametrize("bad", [*SPREAD, list(range(100, 108))], ids=["1", "2", "8", "32", "8 side by side"])
@pytest.mark.parametrize("side", [one_table, two_tables])
@pytest.mark.parametrize("way", ["values"], indirect=True)
@pytest.mark.usefixtures("way")
async def test_k_bad_messages_cost_k_log_n_statements_also_where_a_message_fills_two_tables(
    table: Any, statements: list[str], side: Callable[..., Any], bad: list[int]
) -> None:
    topic: Table = await side(table)
    tables = [write.table.name for write in topic.topic.writes]
    body = [{key: each[key] for key in each if len(tables) == 2 or key != "amount"} for each in bodies(bad)]
    statements.clear()
    await topic.write(*body)
    made = list(statements)
    assert await topic.counts() == (N - len(bad), 0, len(bad))
    letters = await topic.rows("SELECT kafka_offset, constraint_name AS name FROM ingest_dead_letters ORDER BY 1")
    assert [(each["kafka_offset"], each["name"]) for each in letters] == [(offset, "refuses") for offset in bad]
    for name in tables:
        assert len(await topic.rows(f"SELECT 1 FROM {name}")) == N - len(bad)  # noqa: S608 - ours
    # At each depth of the bisection at most two parts for each bad message, and at most all that there are.
    k = len(bad)
    parts = sum(min(2**depth, 2 * k) for depth in range(int(math.log2(N)) + 1))
    tried = sum(each.startswith(f"INSERT INTO {tables[0]} ") for each in made)
    assert (parts if bad in SPREAD else k) <= tried <= parts
    # Each part: its rows, a savepoint and its end. Beside them: the lock, the dead letters, the ledger.
    assert len(made) <= parts * (len(tables) + 2) + 3


@pytest.mark.parametrize("bad", [*SPREAD, list(range(100, 108))], ids=["1", "2", "8", "32", "8 side by side"])
@pytest.mark.parametrize("way", ["staged"], indirect=True)
@pytest.mark.usefixtures("way")
async def test_k_bad_messages_among_staged_rows_cost_a_few_statements_and_k_log_n_within_the_server(
    table: Any, statements: list[str], bad: list[int]
) -> None:
    topic = await one_table(table)
    async with topic.engine.begin() as connection:  # what a sequence counted is not rolled back
        await connection.exec_driver_sql("CREATE SEQUENCE tried")
        await connection.exec_driver_sql(
            "CREATE FUNCTION try() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM nextval('tried'); RETURN NULL; END $$"
        )
        await connection.exec_driver_sql(
            "CREATE TRIGGER tries BEFORE INSERT ON test_plain FOR EACH STATEMENT EXECUTE FUNCTION try()"
        )
    body = [{key: each[key] for key in each if key != "amount"} for each in bodies(bad)]
    statements.clear()
    await topic.write(*body)
    made = list(statements)
    assert await topic.counts() == (N - len(bad), 0, len(bad))
    letters = await topic.rows("SELECT kafka_offset, constraint_name AS name FROM ingest_dead_letters ORDER BY 1")
    assert [(each["kafka_offset"], each["name"]) for each in letters] == [(offset, "refuses") for offset in bad]
    assert len(made) <= 20, made
    ((tried,),) = [tuple(row.values()) for row in await topic.rows("SELECT last_value FROM tried")]
    parts = sum(min(2**depth, 2 * len(bad)) for depth in range(int(math.log2(N)) + 1))
    # The whole, its parts of 64, and each bad one: what comes before it, itself, what comes after it.
    assert len(bad) < tried <= parts + 1 + N // 64


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("smallint", 40_000),
        ("integer", 2**31),
        ("bigint", 2**63),
        ("real", 1e300),
        ("text", 5),
        ("text", "\ud800"),
        ("bytea", "text"),
        ("timestamptz", "yesterday"),
        ("uuid", "no uuid"),
    ],
)
async def test_what_the_driver_refuses_before_it_sends_is_a_record_failure(
    engine: AsyncEngine, kind: str, value: Any
) -> None:
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError) as raised:
            await connection.execute(text(f"SELECT CAST(:value AS {kind})"), {"value": value})
        assert classify(raised.value) is Failure.RECORD
        # The server has not heard of it: its transaction is not aborted.
        assert await connection.scalar(text("SELECT 1")) == 1
