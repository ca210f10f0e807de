"""Loom's aggregates on a real TimescaleDB say what the raw rows say, at every width of their buckets."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import DateTime, cast, func, insert, literal, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.hypertables import ContinuousAggregate, aggregates_of
from ingest.topics import Topic
from ingest.topics.columns import metadata
from tests.support.topics import LOOM
from tests.unit.examples import EXAMPLES, accepted

AGGREGATES = aggregates_of(metadata)

BEGIN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=3)
"""Three days ago: no table's retention, and no start_offset, is shorter."""
SPAN_S = 2 * 86_400
COUNT = 400
SIGNED = ("valence_score", "arousal_score", "dominance_score")


def topic_of(aggregate: ContinuousAggregate) -> Topic:
    source: Any = aggregate.source
    while isinstance(source, ContinuousAggregate):
        source = source.source
    (topic,) = [topic for topic in LOOM.values() if topic.tables[0] is source]
    return topic


def rows_of(topic: Topic, rng: random.Random, averaged: list[str]) -> list[dict[str, Any]]:
    """Rows of two devices, bunched: some buckets hold many, some one, and some values are NULL."""
    (valid,) = [each.valid for each in EXAMPLES if each.topic is topic]
    template = accepted(topic, valid).rows[0]
    rows = []
    for number in range(COUNT):
        seconds = rng.choice((rng.uniform(0, SPAN_S), rng.uniform(0, 90)))
        moment = BEGIN + timedelta(seconds=seconds, microseconds=number)
        row = {name: value for name, value in template.items() if value is not None}
        row |= {"device_id": f"device-{number % 2}", "timestamp": moment, "message_id": f"m{number}"}
        for name in averaged:
            column = topic.tables[0].c[name]
            value = rng.uniform(-1 if name in SIGNED else 0, 1)
            row[name] = rng.randint(0, 2**31 - 1) if "INT" in str(column.type).upper() else value
            if column.nullable and rng.random() < 0.3:
                row[name] = None
        rows.append(row)
    return rows


def averaged_by(aggregate: ContinuousAggregate) -> list[str]:
    return [column.name.removesuffix("_avg") for column in aggregate.c if column.name.endswith("_avg")]


def grouped_by(aggregate: ContinuousAggregate) -> list[str]:
    table = topic_of(aggregate).tables[0]
    return [column.name for column in aggregate.c if column.name in table.c]


async def from_raw(engine: AsyncEngine, aggregate: ContinuousAggregate) -> dict[Any, dict[str, Any]]:
    """What the aggregate should say, by PostgreSQL's own averages over the raw rows."""
    table = topic_of(aggregate).tables[0]
    width = literal(aggregate.bucket_width)
    origin = cast(literal("2000-01-03T00:00:00Z"), DateTime(timezone=True))
    bucket = func.date_bin(width, table.c.timestamp, origin).label("bucket")
    by = grouped_by(aggregate)
    query = select(
        bucket,
        *(table.c[name] for name in by),
        func.count().label("messages"),
        func.min(table.c.timestamp).label("first_timestamp"),
        func.max(table.c.timestamp).label("last_timestamp"),
        *(func.avg(table.c[name]).label(f"{name}_avg") for name in averaged_by(aggregate)),
        *(func.count(table.c[name]).label(f"{name}_count") for name in averaged_by(aggregate)),
    ).group_by(bucket, *(table.c[name] for name in by))
    async with engine.connect() as connection:
        found = (await connection.execute(query)).mappings().all()
    return {tuple(row[name] for name in ("bucket", *by)): dict(row) for row in found}


async def from_aggregate(engine: AsyncEngine, aggregate: ContinuousAggregate, keys: set[str]) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        found = await connection.execute(select(*(column for column in aggregate.c if column.name in keys)))
        return [dict(row) for row in found.mappings()]


async def test_every_aggregate_says_what_the_raw_rows_say(timescale_engine: AsyncEngine) -> None:
    """One database for all of them: each takes seconds to be made."""
    rng = random.Random(5)
    for topic in dict.fromkeys(map(topic_of, AGGREGATES)):
        averaged = {name for each in AGGREGATES if topic_of(each) is topic for name in averaged_by(each)}
        async with timescale_engine.begin() as connection:
            await connection.execute(insert(topic.tables[0]).values(rows_of(topic, rng, sorted(averaged))))
    async with timescale_engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for aggregate in AGGREGATES:  # a finer one before the one that is built on it
            await connection.execute(text(f"CALL refresh_continuous_aggregate('{aggregate.name}', NULL, NULL)"))
    for aggregate in AGGREGATES:
        await check(timescale_engine, aggregate)


async def check(engine: AsyncEngine, aggregate: ContinuousAggregate) -> None:
    expected = await from_raw(engine, aggregate)
    by = [column.name for column in aggregate.c if column.name == "bucket" or column.name in grouped_by(aggregate)]
    found = await from_aggregate(engine, aggregate, set(next(iter(expected.values()))))
    assert len(found) == len(expected) > 1, aggregate
    assert sum(row["messages"] for row in found) == COUNT, aggregate
    assert max(row["messages"] for row in found) > COUNT / 10, aggregate
    for row in found:
        raw = expected[tuple(row[name] for name in by)]
        assert row.keys() == raw.keys()
        for name, value in row.items():
            if name.endswith("_avg") and value is not None:
                assert float(value) == pytest.approx(float(raw[name]), rel=1e-6), (aggregate, name)
            else:
                assert value == raw[name], (aggregate, name)


async def test_numbers_at_the_end_of_their_type_do_not_stop_the_refreshing(timescale_engine: AsyncEngine) -> None:
    (aggregate,) = [each for each in AGGREGATES if each.name == "device_sensor_accelerometer_per_minute"]
    template = {"device_id": "d", "y": 0.0, "z": 5e-324}
    rows = [template | {"timestamp": BEGIN + timedelta(seconds=number), "x": 1.7e308} for number in range(3)]
    async with timescale_engine.begin() as connection:
        await connection.execute(insert(topic_of(aggregate).tables[0]).values(rows))
    async with timescale_engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text(f"CALL refresh_continuous_aggregate('{aggregate.name}', NULL, NULL)"))
        (row,) = (await connection.execute(select(*aggregate.c))).mappings().all()
    assert (row["x_sum"], row["x_avg"], row["x_max"]) == (3 * Decimal(17) * 10**307, Decimal(17) * 10**307, 1.7e308)
    assert (row["y_avg"], row["z_min"]) == (0, 5e-324)
