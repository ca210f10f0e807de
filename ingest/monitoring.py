"""What the service tells of itself in the database: samples of lag and throughput.

Each pod adds one lag row for each of its partitions and one metrics row for each of its lanes every
``LOOM_MONITOR_EVERY`` seconds (see ``ingest.sampling``). Times are the database's, so samples of several pods compare.
A row stands for itself: sums and averages over a longer time are made from counts, never from averages alone.

The views that read them are in ``ingest.monitoring_views``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    Table,
    Text,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.hypertables import Hypertable, days
from ingest.ledger import offsets
from ingest.tables import service_metadata

lag_history = Table(
    "consumer_lag_history",
    service_metadata,
    Column("consumer_group", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("current_offset", BigInteger, comment="the ledger's next offset; null: the partition is not in the ledger"),
    Column("log_end_offset", BigInteger, nullable=False, comment="the offset that the broker gives away next"),
    Column("lag", BigInteger, comment="offsets between the two; null: not known"),
    Column("timestamp", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Hypertable("timestamp", chunk_interval=days(1), retention=days(7)),
    comment="how far each partition was behind, by the pod that owned it",
)
# Leads from partition to partition and to the newest sample of each, without reading what lies between.
Index(
    "consumer_lag_history_partition_idx",
    *(lag_history.c[name] for name in ("consumer_group", "topic", "partition", "timestamp")),
)

processing_metrics = Table(
    "consumer_processing_metrics",
    service_metadata,
    Column("service", Text, nullable=False, comment="the process: its client id, which holds the pod's name"),
    Column("consumer_group", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("interval_ms", Integer, nullable=False, comment="the time before timestamp that the row tells of"),
    Column("batches", Integer, nullable=False, comment="transactions that were committed"),
    Column("batch_size", Double, comment="messages of a transaction, on average; null: there was none"),
    Column("duration_ms", Double, comment="ms of a transaction, on average; null: there was none"),
    Column("messages_processed", BigInteger, nullable=False, comment="written, or there already"),
    Column("messages_failed", BigInteger, nullable=False, comment="became dead letters"),
    Column("write_failures", Integer, nullable=False, comment="transactions that failed and are tried again"),
    Column("lane_state", Text, nullable=False, comment="running, retrying, stopped, fuse_open or paused, at timestamp"),
    Column("problem", Text, comment="why the lane is not running"),
    Column("timestamp", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Hypertable("timestamp", chunk_interval=days(7), retention=days(30)),
    comment="what each lane of each pod did",
)
Index(None, processing_metrics.c.timestamp)


@dataclass(frozen=True, slots=True)
class LaneSample:
    """What one lane did within an interval, and how it stands at its end."""

    topic: str
    interval_ms: int
    batches: int
    batch_size: float | None
    """Messages of a committed transaction, on average; None when there was none."""
    duration_ms: float | None
    messages_processed: int
    messages_failed: int
    write_failures: int
    lane_state: str
    problem: str | None


_LIMITS = text(
    "SELECT set_config('lock_timeout', :lock_timeout, true), set_config('statement_timeout', :statement_timeout, true)"
)
_sampled = (
    func.unnest(
        bindparam("b_topics", type_=ARRAY(Text)),
        bindparam("b_partitions", type_=ARRAY(Integer)),
        bindparam("b_ends", type_=ARRAY(BigInteger)),
    )
    .table_valued("topic", "partition", "log_end_offset", name="sampled")
    .render_derived()
)
_INSERT_LAG = insert(lag_history).from_select(
    ["consumer_group", "topic", "partition", "current_offset", "log_end_offset", "lag"],
    select(
        bindparam("b_group", type_=Text),
        _sampled.c.topic,
        _sampled.c.partition,
        offsets.c.next_offset,
        _sampled.c.log_end_offset,
        # greatest() alone would make 0 of an unknown lag.
        case(
            (
                offsets.c.next_offset.is_not(None),
                func.greatest(_sampled.c.log_end_offset - offsets.c.next_offset, literal(0, BigInteger)),
            )
        ),
    ).select_from(
        _sampled.outerjoin(
            offsets,
            and_(
                offsets.c.consumer_group == bindparam("b_group", type_=Text),
                offsets.c.topic == _sampled.c.topic,
                offsets.c.partition == _sampled.c.partition,
            ),
        )
    ),
)
_INSERT_METRICS = insert(processing_metrics)


async def limit(connection: AsyncConnection, *, lock_timeout_ms: int, statement_timeout_ms: int) -> None:
    """Bounds what this transaction may wait for somebody's lock, and what a statement of it may take."""
    await connection.execute(
        _LIMITS, {"lock_timeout": str(lock_timeout_ms), "statement_timeout": str(statement_timeout_ms)}
    )


async def add_lag(connection: AsyncConnection, group: str, ends: dict[tuple[str, int], int]) -> None:
    """Adds a row for each (topic, partition) → end of its log, against the ledger as it stands. Locks no row of it."""
    await connection.execute(
        _INSERT_LAG,
        {
            "b_group": group,
            "b_topics": [topic for topic, _ in ends],
            "b_partitions": [partition for _, partition in ends],
            "b_ends": list(ends.values()),
        },
    )


async def add_metrics(connection: AsyncConnection, service: str, group: str, samples: Sequence[LaneSample]) -> None:
    """Adds a row for each lane."""
    rows: list[dict[str, Any]] = [
        {"service": service, "consumer_group": group}
        | {name: getattr(sample, name) for name in LaneSample.__dataclass_fields__}
        for sample in samples
    ]
    await connection.execute(_INSERT_METRICS, rows)
