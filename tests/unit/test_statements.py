"""Statements keep their promises in SQL, and a batch ends as if its rows had been written one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Column, DateTime, Executable, Integer, MetaData, Table, Text
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.records import Row
from ingest.statements import TableWriter
from ingest.topics import Append, Contract, LastWins, Topic, Version, Write, contract
from tests.support.messages import NOW
from tests.support.topics import ARCHIVED, EMOTIONS, GPS, LIKES, PLAIN
from tests.unit.examples import ASYNCPG, POSTGRESQL

TABLE = dict[Any, Row]
LAST_WINS = (LIKES, ARCHIVED)
ARCHIVED_ROW: Row = {
    "tweet_id": "a",
    "trace_id": "x",
    "message_timestamp": NOW,
    **dict.fromkeys(
        ("screenshot_path", "extracted_text", "extracted_links", "extracted_media", "extracted_metadata"), None
    ),
}


def writer(topic: Topic) -> TableWriter:
    return TableWriter(topic, topic.writes[0])


def sql(topic: Topic, dialect: Any = None) -> str:
    statement: Any = writer(topic)._statement
    return " ".join(str(statement.compile(dialect=dialect or POSTGRESQL)).split())


def rule_of(topic: Topic) -> LastWins:
    return cast(LastWins, topic.writes[0].rule)


def write_one(topic: Topic, table: TABLE, row: Row) -> bool:
    """What ``INSERT … ON CONFLICT`` does with one row. Whether it changed the table."""
    key = tuple(row[name] for name in topic.writes[0].rule.key)  # type: ignore[union-attr]
    stored = table.get(key)
    if stored is None:
        table[key] = dict(row)
        return True
    if not isinstance(topic.writes[0].rule, LastWins):
        return False
    update = rule_of(topic).update
    if stored["message_timestamp"] > row["message_timestamp"]:
        return False
    columns = topic.writes[0].table.c
    told_apart = [name for name in update if columns[name].server_default is None]
    if stored["message_timestamp"] == row["message_timestamp"] and all(stored[n] == row[n] for n in told_apart):
        return False
    stored |= {name: row[name] for name in (*update, "message_timestamp")}
    return True


def rows_of(topic: Topic) -> st.SearchStrategy[list[Row]]:
    """Few keys and few values, so that they collide; every column that an update touches, and one that it does not."""
    update = rule_of(topic).update
    return st.lists(
        st.fixed_dictionaries(
            {
                "tweet_id": st.sampled_from("ab"),
                "trace_id": st.sampled_from("xyz"),
                "message_timestamp": st.integers(0, 2).map(lambda hours: NOW + timedelta(hours=hours)),
                **{name: st.sampled_from([None, "1"]) for name in update},
            }
        ),
        max_size=6,
    )


def check_batch(topic: Topic, before: list[Row], rows: list[Row]) -> None:
    """The same rows, one by one and resolved as a batch, on the same table."""
    table: TABLE = {}
    for row in before:
        write_one(topic, table, row)
    one_by_one = {key: dict(row) for key, row in table.items()}
    changed_keys = {row["tweet_id"] for row in rows if write_one(topic, one_by_one, row)}

    as_batch = {key: dict(row) for key, row in table.items()}
    prevailing = writer(topic)._resolve(rows)
    changed = {key for key, (_, row) in prevailing.items() if write_one(topic, as_batch, row)}

    everything = [*before, *rows]
    if len({(row["tweet_id"], row["message_timestamp"]) for row in everything}) < len(everything):
        # Of messages of one moment, only what tells them apart is decided; not a column that a default may fill.
        columns = topic.writes[0].table.c
        for row in (*table.values(), *as_batch.values(), *one_by_one.values()):
            for name in rule_of(topic).update:
                if columns[name].server_default is not None:
                    del row[name]
    assert as_batch == one_by_one
    assert prevailing.keys() == {row["tweet_id"] for row in rows}
    assert changed <= changed_keys
    assert changed >= {key for (key,) in one_by_one if one_by_one[key,] != table.get((key,))}
    for key, (position, row) in prevailing.items():
        assert rows[position]["tweet_id"] == key
        assert rows[position]["message_timestamp"] == row["message_timestamp"]


@given(before=rows_of(LIKES), rows=rows_of(LIKES))
def test_batch_of_likes_ends_as_if_written_one_by_one(before: list[Row], rows: list[Row]) -> None:
    check_batch(LIKES, before, rows)


@given(before=rows_of(ARCHIVED), rows=rows_of(ARCHIVED))
@example(before=[], rows=[ARCHIVED_ROW | {"timestamp": NOW}, ARCHIVED_ROW | {"timestamp": NOW + timedelta(hours=1)}])
def test_batch_of_archived_pages_ends_as_if_written_one_by_one(before: list[Row], rows: list[Row]) -> None:
    check_batch(ARCHIVED, before, rows)


@example(rows=[{"device_id": "a", "timestamp": 1, "n": 1}, {"device_id": "a", "timestamp": 1, "n": 2}])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"device_id": st.sampled_from("ab"), "timestamp": st.integers(0, 2), "n": st.integers(0, 9)}
        )
    )
)
def test_batch_of_the_first_wins_ends_as_if_written_one_by_one(rows: list[Row]) -> None:
    one_by_one: TABLE = {}
    changed = [write_one(GPS, one_by_one, row) for row in rows]
    prevailing = writer(GPS)._resolve(rows)
    assert {key: row for key, (_, row) in prevailing.items()} == one_by_one
    assert sorted(position for position, _ in prevailing.values()) == [n for n, each in enumerate(changed) if each]


class Recorder:
    """Stands for the connection: keeps what it is given, and answers with the keys of rows that are new to it."""

    def __init__(self, key: Sequence[str], *stored: Any) -> None:
        self.key = key
        self.stored = set(stored)
        self.rows: list[Row] = []

    async def execute(self, _: Executable, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        self.rows = list(rows)
        keys = [tuple(row[name] for name in self.key) for row in rows]
        return [key for key in keys if key not in self.stored]


def whole(topic: Topic, **values: Any) -> Row:
    """A row of the topic's first table with these values, and nothing else in it."""
    return dict.fromkeys(topic.columns_of(topic.writes[0])) | values


async def test_rows_go_in_key_order_and_answers_come_back_in_the_order_given() -> None:
    order = [("b", 2), ("a", 9), ("b", 1), ("a", 9), ("a", 1)]
    connection = Recorder(("device_id", "timestamp"), ("b", 1))
    rows = [whole(GPS, device_id=device, timestamp=second) for device, second in order]
    changed = await writer(GPS).write(cast(AsyncConnection, connection), rows)
    assert [(row["device_id"], row["timestamp"]) for row in connection.rows] == sorted(set(order))
    assert changed == [True, True, False, False, True]


async def test_key_of_one_column_is_found_again_in_the_answer() -> None:
    connection = Recorder(("tweet_id",), ("b",))
    rows = [whole(LIKES, tweet_id=tweet, message_timestamp=NOW) for tweet in ("c", "b", "a")]
    changed = await writer(LIKES).write(cast(AsyncConnection, connection), rows)
    assert [row["tweet_id"] for row in connection.rows] == ["a", "b", "c"]
    assert changed == [True, False, True]


async def test_table_without_a_key_takes_every_row_as_it_comes() -> None:
    connection = Recorder(())
    rows = [whole(PLAIN, identity=identity) for identity in ("b", "a", "b")]
    assert await writer(PLAIN).write(cast(AsyncConnection, connection), rows) == [True] * 3
    assert connection.rows == rows


@pytest.mark.parametrize("topic", [EMOTIONS, GPS], ids=lambda topic: topic.name)
def test_first_wins_does_nothing_on_conflict_and_returns_the_keys_it_inserted(topic: Topic) -> None:
    table, key = topic.writes[0].table.name, topic.writes[0].rule.key  # type: ignore[union-attr]
    returning = ", ".join(f"{table}.{name}" for name in key)
    assert sql(topic).endswith(f"ON CONFLICT ({', '.join(key)}) DO NOTHING RETURNING {returning}")


@pytest.mark.parametrize("topic", LAST_WINS, ids=lambda topic: topic.name)
def test_last_wins_updates_exactly_its_columns_and_only_by_a_message_that_is_not_older(topic: Topic) -> None:
    table = topic.writes[0].table.name
    _, _, conflict = sql(topic).partition(" ON CONFLICT (tweet_id) DO UPDATE SET ")
    sets, _, condition = conflict.partition(" WHERE ")
    expected = {f"{name} = excluded.{name}" for name in (*rule_of(topic).update, "message_timestamp")}
    assert set(sets.split(", ")) == expected
    newer, _, same = condition.partition(" OR ")
    assert newer == f"{table}.message_timestamp < excluded.message_timestamp"
    assert same.startswith(f"{table}.message_timestamp = excluded.message_timestamp AND (")
    for name in rule_of(topic).update:
        told_apart = f"{table}.{name} IS DISTINCT FROM excluded.{name}" in same
        assert told_apart is (topic.writes[0].table.c[name].server_default is None)
    assert condition.endswith(f" RETURNING {table}.tweet_id")


def test_table_without_a_key_has_a_plain_insert() -> None:
    assert sql(PLAIN).startswith("INSERT INTO test_plain (identity, timestamp) VALUES (")
    assert "CONFLICT" not in sql(PLAIN)


@pytest.mark.parametrize("topic", [EMOTIONS, GPS, *LAST_WINS, PLAIN], ids=lambda topic: topic.name)
def test_every_column_that_a_message_fills_has_a_parameter_and_no_other(topic: Topic) -> None:
    columns = topic.columns_of(topic.writes[0])
    names, _, values = sql(topic).partition(" (")[2].partition(") VALUES (")
    assert names.split(", ") == [*columns]
    for name in columns:
        assert f"%({name})s" in values
    assert "created_at" not in names


@pytest.mark.parametrize(
    ("topic", "default"),
    [
        (EMOTIONS, "coalesce(%(schema_version)s::VARCHAR, 'v1')"),
        (LIKES, "coalesce(%(received_at)s::TIMESTAMP WITH TIME ZONE, now())"),
        (ARCHIVED, "coalesce(%(timestamp)s::TIMESTAMP WITH TIME ZONE, now())"),
    ],
)
def test_absent_value_gets_the_columns_default(topic: Topic, default: str) -> None:
    assert default in sql(topic)


def test_default_that_is_written_as_a_text_has_the_columns_type() -> None:
    class Sound(Contract):
        channels: contract.Int32 | None = None

    table = Table(
        "sounds",
        MetaData(),
        Column("timestamp", DateTime(timezone=True)),
        Column("schema_version", Text, server_default="v1"),
        Column("channels", Integer, server_default="1"),
    )
    topic = Topic("acme.sounds", (Version("v1", Sound),), (Write(table, Append()),))
    default = re.search(r"coalesce\(\$\d::INTEGER, ([^)]*)\)", sql(topic, ASYNCPG))
    assert default is not None
    assert "VARCHAR" not in default[1], "PostgreSQL refuses coalesce(integer, text)"
