"""The demo's account of each topic: ``read = written + duplicate + dead-lettered``, counted where the truth is.

What arrived is counted at the broker, what became of it in the tables; what should have become of it is known from the
messages as they were produced. The service's own counters are only compared with that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.dead_letters import dead_letters
from ingest.ledger import offsets
from ingest.local.demo_service import Counters
from ingest.local.sample import SampleMessage
from ingest.topics import FirstWins, LastWins, Topic
from ingest.topics.topic import MESSAGE_TIMESTAMP


@dataclass(slots=True)
class Expected:
    """What the messages of one topic should end as."""

    produced: int = 0
    bad: int = 0
    rows: dict[tuple[str, ...], datetime] = field(default_factory=dict)
    """Key of a row → the newest timestamp of its messages."""

    def add(self, message: SampleMessage) -> None:
        """Counts a message that was produced."""
        self.produced += 1
        if message.fault is not None:
            self.bad += 1
        else:
            newest = max(message.timestamp, self.rows.get(message.row_key, message.timestamp))
            self.rows[message.row_key] = newest


@dataclass(frozen=True, slots=True)
class TopicAccount:
    """One line of the account, and what is wrong with it."""

    topic: str
    in_kafka: int
    written: int
    duplicate: int
    dead_lettered: int
    rows: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """How far the ledger says the service is."""

    next_offsets: Mapping[tuple[str, int], int]
    totals: Mapping[str, Counters]


async def read_ledger(connection: AsyncConnection, group: str) -> Written:
    """All partitions of the group, and their running totals by topic."""
    next_offsets: dict[tuple[str, int], int] = {}
    totals: dict[str, Counters] = {}
    for row in await connection.execute(select(offsets).where(offsets.c.consumer_group == group)):
        next_offsets[row.topic, row.partition] = row.next_offset
        total = totals.setdefault(row.topic, Counters())
        total.written += row.written
        total.duplicate += row.duplicate
        total.dead_lettered += row.dead_lettered
    return Written(next_offsets, totals)


async def settle(
    connection: AsyncConnection,
    group: str,
    topic: Topic,
    *,
    in_kafka: int,
    expected: Expected,
    counted: Counters,
) -> TopicAccount:
    """One topic's account. ``in_kafka`` is the broker's count, ``counted`` what the service says of itself."""
    ledger = (await read_ledger(connection, group)).totals.get(topic.name, Counters())
    letters = await connection.scalar(
        select(func.count()).where(dead_letters.c.consumer_group == group, dead_letters.c.topic == topic.name)
    )
    dead_lettered = int(letters or 0)
    rows = await _rows(connection, topic)
    first_wins = isinstance(topic.writes[0].rule, FirstWins)
    # Of a last-wins table the rows can't tell how many messages changed them: there the ledger's total stands.
    written = len(rows) if first_wins else ledger.written
    problems = [
        *_differs("messages in Kafka", in_kafka, "produced", expected.produced),
        *_differs("in Kafka", in_kafka, "written + duplicate + dead", written + ledger.duplicate + dead_lettered),
        *_differs("dead letters", dead_lettered, "bad messages", expected.bad),
        *_differs("written by the ledger", ledger.written, "by the table", written),
        *_differs("dead-lettered by the ledger", ledger.dead_lettered, "dead letters", dead_lettered),
        *_differs("read by /metrics", counted.read - counted.dropped, "in Kafka", in_kafka),
        *_differs("written by /metrics", counted.written, "by the ledger", ledger.written),
        *_differs("duplicate by /metrics", counted.duplicate, "by the ledger", ledger.duplicate),
        *_differs("dead-lettered by /metrics", counted.dead_lettered, "by the ledger", ledger.dead_lettered),
        *_rows_problems(rows, expected.rows, newest=not first_wins),
    ]
    return TopicAccount(
        topic.name, in_kafka, written, ledger.duplicate, dead_lettered, rows=len(rows), problems=tuple(problems)
    )


async def _rows(connection: AsyncConnection, topic: Topic) -> dict[tuple[str, ...], datetime | None]:
    """Key → the message's timestamp, for every row of the topic's first table."""
    write = topic.writes[0]
    assert isinstance(write.rule, FirstWins | LastWins)
    key = [write.table.c[name] for name in write.rule.key]
    stamp = write.table.c.get(MESSAGE_TIMESTAMP, write.table.c.timestamp)
    found = await connection.execute(select(stamp.label("stamp"), *key))
    return {tuple(map(_text, values)): stamp for stamp, *values in found}


def _text(value: Any) -> str:
    """As the sample writes it into a key."""
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else str(value)


def _differs(what: str, count: int, other: str, other_count: int) -> list[str]:
    return [] if count == other_count else [f"{what} {count:,}, {other} {other_count:,}"]


def _rows_problems(
    rows: Mapping[tuple[str, ...], datetime | None], expected: Mapping[tuple[str, ...], datetime], *, newest: bool
) -> list[str]:
    problems = []
    lost, strange = expected.keys() - rows.keys(), rows.keys() - expected.keys()
    if lost:
        problems.append(f"{len(lost):,} rows lost, such as {' '.join(min(lost))}")
    if strange:
        problems.append(f"{len(strange):,} rows that nobody sent, such as {' '.join(min(strange))}")
    if newest:
        older = [key for key in expected.keys() & rows.keys() if rows[key] != expected[key]]
        if older:
            problems.append(f"{len(older):,} rows are not their newest message, such as {' '.join(min(older))}")
    return problems


@dataclass(frozen=True, slots=True)
class Examples:
    """Three rows and three dead letters to look at."""

    gps: RowMapping | None
    emotion: RowMapping | None
    like: RowMapping | None
    letters: tuple[RowMapping, ...]


async def examples(connection: AsyncConnection, topics: Mapping[str, Topic], names: tuple[str, str, str]) -> Examples:
    """The newest GPS reading, emotion and enriched like (``names`` of their topics); a dead letter of each stage."""
    gps, emotion, like = (topics[name].writes[0].table for name in names)

    async def newest(query: Any) -> RowMapping | None:
        return (await connection.execute(query.limit(1))).mappings().first()

    found = await connection.execute(
        select(dead_letters.c.stage, dead_letters.c.topic, dead_letters.c.error)
        .distinct(dead_letters.c.stage, dead_letters.c.topic)
        .order_by(dead_letters.c.stage, dead_letters.c.topic, dead_letters.c.id.desc())
    )
    letters: list[RowMapping] = []
    candidates = found.mappings().all()
    for stage in ("decode", "contract", "database"):
        seen = {row["topic"] for row in letters}
        # Of a topic that isn't shown yet, where there is one.
        of_stage = sorted((row for row in candidates if row["stage"] == stage), key=lambda row: row["topic"] in seen)
        letters += of_stage[:1]
    return Examples(
        gps=await newest(select(gps).order_by(gps.c.timestamp.desc())),
        emotion=await newest(select(emotion).order_by(emotion.c.timestamp.desc())),
        like=await newest(
            # The vector itself is 384 numbers; that it has them is enough to show.
            select(like.c.author_username, like.c.tweet_text, like.c.screenshot_url, like.c.timestamp)
            .add_columns(func.vector_dims(like.c.embedding).label("dimensions"))
            .order_by(like.c.screenshot_url.is_(None), like.c.timestamp.desc())
        ),
        letters=tuple(letters),
    )
