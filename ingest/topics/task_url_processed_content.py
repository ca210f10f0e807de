"""``task.url.processed_content``: a web page as it was read for its text. First one wins."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, Index, Integer, Table, Text, UniqueConstraint

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, hours
from ingest.topics import contract
from ingest.topics.aggregates import aggregate
from ingest.topics.columns import (
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


class ProcessedContent(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text
    url_id: contract.Text
    original_url: contract.Text
    final_url: contract.Text | None = None
    domain: contract.Text
    content_type: contract.Text
    title: contract.Text | None = None
    content_text: contract.Text | None = None
    content_summary: contract.Text | None = None
    extracted_metadata: contract.JsonDocument | None = None
    content_length: contract.Int32 | None = None
    language_detected: contract.Text | None = None
    category: contract.Text | None = None
    tags: contract.Texts | None = None
    processing_duration_ms: contract.Int32 | None = None
    processor_version: contract.Text | None = None


KEY = ("device_id", "timestamp", "message_id", "url_id")

processed_content = Table(
    "task_url_processed_content_raw",
    metadata,
    *message_columns(),
    Column("url_id", Text, nullable=False),
    Column("original_url", Text, nullable=False),
    Column("final_url", Text),
    Column("domain", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("title", Text),
    Column("content_text", Text),
    Column("content_summary", Text),
    jsonb("extracted_metadata"),
    Column("content_length", Integer),
    Column("language_detected", Text),
    Column("category", Text),
    Column("tags", ARRAY(Text)),
    Column("processing_duration_ms", Integer),
    Column("processor_version", Text),
    created_at(),
    UniqueConstraint(*KEY, name="task_url_processed_content_raw_key"),
    *segments("device_id", "content_type"),
    Hypertable(
        "timestamp",
        chunk_interval=days(7),
        columnstore=Columnstore(after=days(30), segment_by=("device_id", "content_type"), order_by=("timestamp DESC",)),
        retention=days(180),
    ),
)
newest_first("task_url_processed_content_raw_domain_idx", processed_content.c.domain)
newest_first("task_url_processed_content_raw_content_type_idx", processed_content.c.content_type)
newest_first("task_url_processed_content_raw_category_idx", processed_content.c.category)
Index(
    "task_url_processed_content_raw_content_text_idx",
    # Pages of any language: English stems would mangle the others, and drop their words that look like its stop words.
    full_text("simple", processed_content.c.content_text),
    postgresql_using="gin",
)
by_time(processed_content)

per_day = aggregate(
    "task_url_processed_content_per_day",
    processed_content,
    bucket=days(1),
    by=("device_id", "content_type"),
    averages=("content_length", "processing_duration_ms"),
    refresh=RefreshPolicy(start_offset=days(172), end_offset=days(1), schedule_interval=hours(6)),
    retention=days(730),
)

TOPIC = Topic(
    name="task.url.processed_content",
    versions=(Version("v1", ProcessedContent),),
    writes=(Write(processed_content, FirstWins(KEY)),),
)
