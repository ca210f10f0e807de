"""The demo's account closes only if everything is where it should be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.local.demo_account import Expected, TopicAccount, settle
from ingest.local.demo_screen import Progress
from ingest.local.demo_service import Counters
from ingest.local.sample import SampleMessage, stream
from ingest.local.sample_topics import GPS, LIKES
from ingest.statements import TableWriter
from ingest.topics import load_topics
from tests.demo.test_sample import decode

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
GROUP = "demo-test"


def good(topic: str, count: int) -> list[SampleMessage]:
    found = [message for message in stream(2_000, seed=2, now=NOW) if message.topic == topic and message.fault is None]
    return list({message.row_key: message for message in found}.values())[:count]


async def settled(engine: AsyncEngine, topic: str, expected: Expected, written: list[SampleMessage]) -> TopicAccount:
    """The account of a topic whose table holds ``written``; broker and service counted what was produced."""
    declared = load_topics(["ingest.topics"])[topic]
    async with engine.begin() as connection:
        if written:
            rows = [decode(message).rows[0] for message in written]  # type: ignore[union-attr] # they are good
            await TableWriter(declared, declared.writes[0]).write(connection, rows)
        return await settle(
            connection,
            GROUP,
            declared,
            in_kafka=expected.produced,
            expected=expected,
            counted=Counters(read=expected.produced, written=expected.produced),
        )


def expecting(messages: list[SampleMessage]) -> Expected:
    expected = Expected()
    for message in messages:
        expected.add(message)
    return expected


async def test_a_lost_row_is_named(engine: AsyncEngine) -> None:
    messages = good(GPS, 3)
    account = await settled(engine, GPS, expecting(messages), messages[1:])
    assert account.written == account.rows == 2
    assert "in Kafka 3, written + duplicate + dead 2" in account.problems
    assert f"1 rows lost, such as {' '.join(messages[0].row_key)}" in account.problems


async def test_a_row_that_nobody_sent_is_named(engine: AsyncEngine) -> None:
    messages = good(GPS, 3)
    account = await settled(engine, GPS, expecting(messages[:2]), messages)
    assert any("1 rows that nobody sent" in problem for problem in account.problems)


async def test_an_older_message_in_a_last_wins_row_is_named(engine: AsyncEngine) -> None:
    (message,) = good(LIKES, 1)
    newer = message._replace(timestamp=NOW)
    account = await settled(engine, LIKES, expecting([message, newer]), [message])
    assert any("1 rows are not their newest message" in problem for problem in account.problems)


async def test_a_ledger_that_disagrees_is_named(engine: AsyncEngine) -> None:
    messages = good(GPS, 3)
    account = await settled(engine, GPS, expecting(messages), messages)
    assert account.problems == ("written by the ledger 0, by the table 3", "written by /metrics 3, by the ledger 0")


def test_rates_are_of_the_last_seconds_and_at_the_end_of_all() -> None:
    progress = Progress(total=1_000)
    for second, written in enumerate((0, 100, 200, 300, 400, 800)):
        progress.observe(float(second), {GPS: Counters(written=written)}, {GPS: 0})
    assert progress.rate(GPS) == pytest.approx(200)
    assert progress.mean_rate(GPS) == pytest.approx(160)
    assert progress.accounted == 800
