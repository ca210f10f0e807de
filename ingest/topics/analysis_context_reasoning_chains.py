"""``analysis.context.reasoning_chains``: what a model concluded from several sources, step by step. First one wins."""

from __future__ import annotations

from sqlalchemy import ARRAY, REAL, Column, Index, Table, Text, UniqueConstraint

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, hours
from ingest.topics import contract
from ingest.topics.aggregates import aggregate
from ingest.topics.columns import (
    between,
    by_time,
    created_at,
    full_text,
    jsonb,
    message_columns,
    metadata,
    newest_first,
    segments,
)
from ingest.topics.topic import FirstWins, Topic, Version, Write


class ReasoningChain(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text
    reasoning_id: contract.Text
    context_type: contract.Text
    reasoning_chain: contract.JsonDocument
    conclusion_text: contract.Text
    confidence_score: contract.Fraction
    input_sources: contract.JsonDocument | None = None
    key_topics: contract.Texts | None = None
    entities_mentioned: contract.JsonDocument | None = None
    temporal_context: contract.JsonDocument | None = None
    spatial_context: contract.JsonDocument | None = None
    model_version: contract.Text | None = None


KEY = ("device_id", "timestamp", "message_id", "reasoning_id")

reasoning_chains = Table(
    "analysis_context_reasoning_chains_raw",
    metadata,
    *message_columns(),
    Column("reasoning_id", Text, nullable=False),
    Column("context_type", Text, nullable=False),
    jsonb("reasoning_chain", nullable=False),
    Column("conclusion_text", Text, nullable=False),
    Column("confidence_score", REAL, nullable=False),
    jsonb("input_sources"),
    Column("key_topics", ARRAY(Text)),
    jsonb("entities_mentioned"),
    jsonb("temporal_context"),
    jsonb("spatial_context"),
    Column("model_version", Text),
    created_at(),
    UniqueConstraint(*KEY, name="analysis_context_reasoning_chains_raw_key"),
    between("confidence_score", 0, 1),
    *segments("device_id", "context_type"),
    Hypertable(
        "timestamp",
        chunk_interval=days(7),
        columnstore=Columnstore(after=days(14), segment_by=("device_id", "context_type"), order_by=("timestamp DESC",)),
        retention=days(90),
    ),
)
newest_first("analysis_context_reasoning_chains_raw_context_idx", reasoning_chains.c.context_type)
Index("analysis_context_reasoning_chains_raw_topics_idx", reasoning_chains.c.key_topics, postgresql_using="gin")
Index(
    "analysis_context_reasoning_chains_raw_conclusion_idx",
    # Sentences that a model writes in English: "meeting" finds "meetings", too.
    full_text("english", reasoning_chains.c.conclusion_text),
    postgresql_using="gin",
)
by_time(reasoning_chains)

per_day = aggregate(
    "analysis_context_reasoning_chains_per_day",
    reasoning_chains,
    bucket=days(1),
    by=("device_id", "context_type"),
    averages=("confidence_score",),
    refresh=RefreshPolicy(start_offset=days(82), end_offset=days(1), schedule_interval=hours(6)),
    retention=days(730),
)

TOPIC = Topic(
    name="analysis.context.reasoning_chains",
    versions=(Version("v1", ReasoningChain),),
    writes=(Write(reasoning_chains, FirstWins(KEY)),),
)
