"""Topics whose tables are hypertables with a columnstore: one for each conflict rule.

Chunks are a day long, and the rows of a device lie together in compressed batches of at most 1,000.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import CheckConstraint, Column, DateTime, Float, Index, MetaData, Table, Text, UniqueConstraint, func
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from ingest.local.postgres import query
from ingest.topics import Append, FirstWins, LastWins, Topic, Version, Write, contract
from ingest.topics.topic import MESSAGE_TIMESTAMP

metadata = MetaData()


class Reading(contract.Contract):
    device: contract.Text
    value: float


class Measurement(contract.Contract):
    """Its ``timestamp`` says which version of the measurement is the newest."""

    device: contract.Text
    measured_at: contract.Timestamp
    value: float
    unit: contract.Text = "m"


def _time(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=False)


first = Table(
    "test_first",
    metadata,
    Column("device", Text, nullable=False),
    _time("timestamp"),
    Column("value", Float, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("device", "timestamp", name="test_first_key"),
    CheckConstraint("value < 1000", name="test_first_value"),
)
last = Table(
    "test_last",
    metadata,
    Column("device", Text, nullable=False),
    _time("measured_at"),
    Column("value", Float, nullable=False),
    Column("unit", Text, nullable=False),
    _time(MESSAGE_TIMESTAMP),
    UniqueConstraint("device", "measured_at", name="test_last_key"),
)
append = Table(
    "test_append", metadata, Column("device", Text, nullable=False), _time("timestamp"), Column("value", Float)
)
one_key = Table(
    "test_one_key",
    metadata,
    Column("device", Text, nullable=False),
    _time("timestamp"),
    Column("value", Float),
    UniqueConstraint("device", "timestamp", name="test_one_key_only"),
)
two_keys = Table(
    "test_two_keys",
    metadata,
    Column("device", Text, nullable=False),
    _time("timestamp"),
    Column("value", Float),
    UniqueConstraint("device", "timestamp", name="test_two_keys_first"),
)
Index("test_two_keys_second", two_keys.c.value, two_keys.c.timestamp, unique=True)
Index("test_first_time", first.c.timestamp.desc())

_UNSTORED = frozenset({"schema_version"})
FIRST = Topic(
    "test.first", (Version("v1", Reading),), (Write(first, FirstWins(("device", "timestamp"))),), not_stored=_UNSTORED
)
LAST = Topic(
    "test.last",
    (Version("v1", Measurement),),
    (Write(last, LastWins(("device", "measured_at"), update=("value",))),),
    not_stored=_UNSTORED,
)
APPEND = Topic("test.append", (Version("v1", Reading),), (Write(append, Append()),), not_stored=_UNSTORED)
ONE_KEY = Topic("test.one-key", (Version("v1", Reading),), (Write(one_key, Append()),), not_stored=_UNSTORED)
TWO_KEYS = Topic("test.two-keys", (Version("v1", Reading),), (Write(two_keys, Append()),), not_stored=_UNSTORED)
"""The rule of both knows nothing of their tables' keys, so the database refuses what repeats."""

START = datetime(2026, 1, 10, tzinfo=UTC)


def moment(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


def reading(device: str, minutes: float, value: float = 1.0) -> dict[str, Any]:
    return {"device": device, "timestamp": moment(minutes), "value": value}


def measurement(device: str, minutes: float, version: float, value: float | None = None) -> dict[str, Any]:
    """``version`` in minutes, too; the value tells it."""
    body = {"device": device, "measured_at": moment(minutes), "timestamp": moment(version)}
    return body | {"value": version if value is None else value}


def create_hypertables(url: str) -> None:
    for table in metadata.sorted_tables:
        query(url, str(CreateTable(table).compile(dialect=postgresql.dialect())))
        for index in table.indexes:
            query(url, str(CreateIndex(index).compile(dialect=postgresql.dialect())))
        time = "measured_at" if table is last else "timestamp"
        query(
            url,
            f"SELECT create_hypertable('{table.name}', by_range('{time}', interval '1 day'), "
            "create_default_indexes => false)",
        )
        query(
            url,
            f"ALTER TABLE {table.name} SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'device', "
            f"timescaledb.orderby = '{time} DESC')",
        )


def compress(url: str, table: Table) -> int:
    """Compresses all that is in the table; returns the number of its chunks, of which none is left uncompressed."""
    chunks = query(url, f"SELECT show_chunks('{table.name}')::text AS name")
    for chunk in chunks:
        query(url, f"CALL convert_to_columnstore('{chunk['name']}')")
    (count,) = query(
        url,
        "SELECT count(*) FILTER (WHERE is_compressed) AS compressed FROM timescaledb_information.chunks "
        "WHERE hypertable_name = $1",
        table.name,
    )
    assert count["compressed"] == len(chunks) > 0
    return len(chunks)
