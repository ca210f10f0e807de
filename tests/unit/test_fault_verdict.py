"""The fault matrix sees what it is there to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.acceptance.faults import topics
from tests.acceptance.faults.traffic import Sent
from tests.acceptance.faults.verdict import Verdict, judge

PLAIN, PAIR, FIRST, NEWEST = (each.name for each in topics.ALL)
SENT = [
    Sent(PLAIN, "a", "row", partition=0, offset=0),
    Sent(PLAIN, "bad", "letter", partition=0, offset=1),
    Sent(PAIR, "b", "row", partition=1, offset=0),
    Sent(FIRST, "c", "row", "device", partition=0, offset=0),
    Sent(FIRST, "d", "row", "device", partition=0, offset=1),
    Sent(NEWEST, "e", "row", "trace", 7, partition=0, offset=0),
    Sent(NEWEST, "f", "row", "trace", 3, partition=0, offset=1),
]
ROWS = [(PAIR, 1, 1, 0), (FIRST, 0, 2, 0), (NEWEST, 0, 2, 0)]
Tables = dict[str, list[Any]]


def whole() -> Tables:
    """What stands in the database when all is right."""
    return {
        "test_plain": ["a"],
        "fault_heads": ["b"],
        "fault_tails": ["b"],
        "device_sensor_gps_raw": ["c"],
        "emails_with_embeddings": ["e"],
        "ingest_dead_letters": [(PLAIN, 1)],
        "ingest_offsets": [(PLAIN, 0, 2, 2), *ROWS],
    }


async def judged(tables: Tables) -> Verdict:
    async def sql(statement: str) -> list[dict[str, Any]]:
        (name,) = [each for each in tables if statement.endswith(f"FROM {each}")]
        if name == "ingest_dead_letters":
            return [{"topic": f"{topic}.x", "partition": 0, "kafka_offset": offset} for topic, offset in tables[name]]
        if name == "ingest_offsets":
            return [
                {"topic": f"{topic}.x", "partition": partition, "ended": ended, "passed": passed, "off": sum(off)}
                for topic, partition, ended, passed, *off in tables[name]
            ]
        return [{"found": each} for each in tables[name]]

    return await judge(sql, SENT, "x", missed=set(), extra={}, passed={PLAIN: 2})


async def test_nothing_lost_and_nothing_twice_is_seen() -> None:
    verdict = await judged(whole())
    assert (verdict.clean, verdict.messages, verdict.letters) == (True, 7, 1), verdict.examples


def change(table: str, to: Iterable[Any]) -> Callable[[Tables], None]:
    return lambda tables: tables.update({table: list(to)})


@pytest.mark.parametrize(
    ("broken", "lost", "twice"),
    [
        (change("test_plain", []), 1, 0),
        (change("test_plain", "aa"), 0, 1),
        (change("test_plain", ["a", "stranger"]), 0, 1),
        (change("fault_tails", []), 1, 0),
        (change("fault_heads", "bb"), 0, 1),
        (change("device_sensor_gps_raw", "d"), 1, 1),
        (change("emails_with_embeddings", "f"), 1, 1),
        (change("ingest_dead_letters", []), 1, 0),
        (change("ingest_dead_letters", [(PLAIN, 1), (PLAIN, 1)]), 0, 1),
        (change("ingest_dead_letters", [(PLAIN, 1), (PLAIN, 0)]), 1, 0),
        (change("ingest_offsets", [(PLAIN, 0, 3, 2), *ROWS]), 0, 0),
        (change("ingest_offsets", ROWS), 0, 0),
        (change("ingest_offsets", [(PLAIN, 0, 2, 2, -1), *ROWS]), 0, 0),
        (change("ingest_offsets", [(PLAIN, 0, 2, 3), *ROWS]), 0, 0),
        (change("ingest_offsets", [(PLAIN, 0, 2, 2), (PAIR, 1, 1, 1), *ROWS[1:]]), 0, 0),
    ],
    ids=[
        "lost", "twice", "row of nobody", "one table of two", "one table twice", "later one of a key", "older one wins",
        "no dead letter", "two dead letters", "good one dead-lettered", "account too high", "account missing",
        "row elsewhere", "too much passed", "passed where nothing is to be",
    ],
)  # fmt: skip
async def test_what_is_wrong_is_seen(broken: Callable[[Tables], None], lost: int, twice: int) -> None:
    tables = whole()
    broken(tables)
    verdict = await judged(tables)
    assert (verdict.clean, verdict.lost, verdict.twice) == (False, lost, twice), verdict.examples
