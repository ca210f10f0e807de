"""Delivery on a real database: what is transient waits, what is at fault is found, and doubt condemns nobody."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.delivery import FAILURES_BEFORE_HALVING, Delivery, Interrupted
from ingest.local.postgres import query
from ingest.metrics import Metrics
from ingest.topics import Topic
from ingest.writer import Outcome, Work
from tests.integration.conftest import GROUP, Table
from tests.support import messages
from tests.support.topics import ARCHIVED, GPS, LIKES, PLAIN
from tests.support.waiting import eventually


class Lane:
    """A delivery with its outcomes and its count of failures."""

    def __init__(self, engine: AsyncEngine, topic: Topic) -> None:
        self.outcomes: list[Outcome] = []
        self.metrics = Metrics()
        self.topic = topic
        self.delivery = Delivery(engine, GROUP, topic, metrics=self.metrics, on_outcome=self.outcomes.append)

    async def failures(self) -> float:
        value = self.metrics.registry.get_sample_value(
            "ingest_write_failures_total", {"topic": self.topic.name, "failure": "transient"}
        )
        return value or 0

    def start(self, work: Work) -> asyncio.Task[None]:
        return asyncio.create_task(self.delivery.deliver(work, lambda work: work))


@pytest.fixture
def impatient(database_url: str) -> str:
    """The database ends statements after 300 ms."""
    name = database_url.rpartition("/")[2]
    query(database_url, f"ALTER DATABASE {name} SET statement_timeout = '300ms'")
    return database_url


SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(TG_ARGV[0]::float); RETURN NEW; END $$;
"""


async def slow_down(
    url: str, *, table: str = "test_plain", rows: str = "NEW.identity = 'slow'", seconds: float = 5
) -> None:
    """Each of these rows takes so long."""
    connection = await asyncpg.connect(url)
    await connection.execute(SLOW)
    await connection.execute(
        f"CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW WHEN ({rows}) EXECUTE FUNCTION slow('{seconds}')"
    )
    await connection.close()


async def test_a_message_that_fails_while_its_neighbours_can_be_written_is_found_and_given_up(
    impatient: str, engine: AsyncEngine, table: Any
) -> None:
    await slow_down(impatient)
    plain: Table = await table(PLAIN)
    lane = Lane(engine, PLAIN)
    bodies = [messages.plain("slow" if number == 9 else f"m{number}") for number in range(10)]
    await asyncio.wait_for(lane.start(plain.work(bodies)), 60)
    assert await plain.counts() == (9, 0, 1)
    (letter,) = await plain.rows("SELECT kafka_offset, sqlstate, attempts FROM ingest_dead_letters")
    assert (letter["kafka_offset"], letter["sqlstate"]) == (9, "57014")
    assert letter["attempts"] >= 6
    assert lane.delivery.status.state == "running"


async def test_a_batch_that_is_too_slow_as_a_whole_is_halved_until_all_of_it_is_written(
    impatient: str, engine: AsyncEngine, table: Any
) -> None:
    """No message is at fault; as one statement they take longer than it may."""
    await slow_down(impatient, table="device_sensor_gps_raw", rows="true", seconds=0.02)
    gps: Table = await table(GPS)
    lane = Lane(engine, GPS)
    await asyncio.wait_for(lane.start(gps.work([messages.gps(number) for number in range(24)])), 60)
    assert await gps.counts() == (24, 0, 0)
    assert [outcome.steps[0].written for outcome in lane.outcomes] != [24]
    assert [outcome.steps[0].next_offset for outcome in lane.outcomes][-1] == 24
    assert await lane.failures() >= FAILURES_BEFORE_HALVING


async def test_a_lone_message_that_times_out_is_never_given_up(impatient: str, engine: AsyncEngine, table: Any) -> None:
    await slow_down(impatient)
    plain: Table = await table(PLAIN)
    lane = Lane(engine, PLAIN)
    delivering = lane.start(plain.work([messages.plain("slow")]))
    await eventually(lane.failures, until=lambda failures: failures >= 8, within_s=60)
    assert await plain.rows("SELECT * FROM ingest_dead_letters") == []
    query(impatient, "DROP TRIGGER slow ON test_plain")
    await asyncio.wait_for(delivering, 30)
    assert await plain.counts() == (1, 0, 0)


async def test_a_lock_on_the_table_never_makes_dead_letters(impatient: str, engine: AsyncEngine, table: Any) -> None:
    plain: Table = await table(PLAIN)
    lane = Lane(engine, PLAIN)
    migration = await asyncpg.connect(impatient)
    async with migration.transaction():
        await migration.execute("LOCK TABLE test_plain IN ACCESS EXCLUSIVE MODE")
        delivering = lane.start(plain.work([messages.plain(f"m{number}") for number in range(4)]))
        await eventually(lane.failures, until=lambda failures: failures >= 10, within_s=90)
        assert lane.delivery.status.state == "retrying"
    await migration.close()
    await asyncio.wait_for(delivering, 30)
    assert await plain.counts() == (4, 0, 0)


async def test_a_lock_on_one_row_never_makes_a_dead_letter(impatient: str, engine: AsyncEngine, table: Any) -> None:
    """Its neighbours have other keys and can be written all the while."""
    likes: Table = await table(LIKES)
    await likes.write(messages.like("held", 1))
    lane = Lane(engine, LIKES)
    other = await asyncpg.connect(impatient)
    async with other.transaction():
        await other.execute("SELECT * FROM twitter_likes_with_embeddings FOR UPDATE")
        delivering = lane.start(
            likes.work([messages.like("free", 2), messages.like("held", 2), messages.like("open", 2)])
        )
        await eventually(lane.failures, until=lambda failures: failures >= 14, within_s=90)
    await other.close()
    await asyncio.wait_for(delivering, 30)
    assert await likes.counts() == (4, 0, 0)


async def test_a_deadlock_never_becomes_a_dead_letter(database_url: str, engine: AsyncEngine, table: Any) -> None:
    """A message that fills two rows, and somebody else who takes them in the other order."""
    likes: Table = await table(LIKES)
    archived: Table = await table(ARCHIVED)
    await likes.write(messages.like("w", 1))
    await archived.write(messages.archived("w", 1))
    lane = Lane(engine, ARCHIVED)
    other = await asyncpg.connect(database_url)

    async def waiting() -> bool:
        found = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(await likes.rows(found))

    async with other.transaction():
        await other.execute("SET LOCAL deadlock_timeout = '10min'")  # never the one that is sacrificed
        await other.execute("SELECT 1 FROM twitter_likes_with_embeddings FOR UPDATE")
        delivering = lane.start(archived.work([messages.archived("w", 2)]))
        await eventually(waiting)
        await asyncio.wait_for(other.execute("SELECT 1 FROM twitter_extraction_results FOR UPDATE"), 30)
    await other.close()
    await asyncio.wait_for(delivering, 30)
    assert await archived.rows("SELECT sqlstate FROM ingest_dead_letters") == []
    assert await archived.counts() == (2, 0, 0)
    assert await lane.failures() >= 1  # it was a deadlock


async def test_another_pod_that_writes_the_same_tweets_is_waited_for(
    impatient: str, engine: AsyncEngine, table: Any
) -> None:
    """A group of topics takes turns: waiting for one's turn condemns no message, however long it takes."""
    archived: Table = await table(ARCHIVED)
    await table(LIKES)
    lane = Lane(engine, ARCHIVED)
    other = await asyncpg.connect(impatient)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('loom-ingest tweets', 0))")
        delivering = lane.start(archived.work([messages.archived(f"w{number}") for number in range(4)]))
        await eventually(lane.failures, until=lambda failures: failures >= 10, within_s=90)
    await other.close()
    await asyncio.wait_for(delivering, 30)
    assert await archived.counts() == (4, 0, 0)


async def test_a_constraint_that_is_checked_at_commit_finds_its_message(engine: AsyncEngine, table: Any) -> None:
    plain: Table = await table(PLAIN)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "ALTER TABLE test_plain ADD CONSTRAINT once UNIQUE (identity) DEFERRABLE INITIALLY DEFERRED"
        )
    lane = Lane(engine, PLAIN)
    await asyncio.wait_for(lane.start(plain.work([messages.plain(name) for name in "abcab"])), 30)
    assert await plain.counts() == (3, 0, 2)
    letters = await plain.rows("SELECT kafka_offset, constraint_name FROM ingest_dead_letters ORDER BY 1")
    assert [(each["kafka_offset"], each["constraint_name"]) for each in letters] == [(3, "once"), (4, "once")]


async def test_a_trigger_that_refuses_a_message_makes_one_dead_letter(engine: AsyncEngine, table: Any) -> None:
    plain: Table = await table(PLAIN)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.identity = 'b' THEN RAISE 'no b'; END IF; RETURN NEW; END $$"
        )
        await connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON test_plain FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    await plain.write(*(messages.plain(name) for name in "abc"))
    assert await plain.counts() == (2, 0, 1)


async def test_a_lane_that_is_stopped_does_not_wait_for_a_retry(
    impatient: str, engine: AsyncEngine, table: Any
) -> None:
    plain: Table = await table(PLAIN)
    lane = Lane(engine, PLAIN)
    migration = await asyncpg.connect(impatient)
    async with migration.transaction():
        await migration.execute("LOCK TABLE test_plain IN ACCESS EXCLUSIVE MODE")
        delivering = lane.start(plain.work([messages.plain("a")]))
        await eventually(lane.failures, until=lambda failures: failures >= 1)
        lane.delivery.stop()
        with pytest.raises(Interrupted):
            await asyncio.wait_for(delivering, 5)
    await migration.close()
    assert await plain.counts() == (0, 0, 0)


async def test_a_written_batch_is_freed_at_once(engine: AsyncEngine, table: Any) -> None:
    """Without waiting for the garbage collector, which looks seldom (see ``ingest.app``)."""
    plain: Table = await table(PLAIN)
    lane = Lane(engine, PLAIN)
    await lane.start(plain.work([messages.plain("warm")]))
    gc.collect()
    gc.disable()
    try:
        work = plain.work([messages.plain(f"m{number}") for number in range(200)])
        freed = weakref.ref(work.items[0].message)
        await lane.start(work)
        del work
        lane.outcomes.clear()  # they keep the last message of a partition
        assert freed() is None
    finally:
        gc.enable()
