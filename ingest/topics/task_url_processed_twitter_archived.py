"""``task.url.processed.twitter_archived``: the archived page of a tweet. The newest one wins.

One message, two tables: the result's own row, and what of it belongs to the like of the same tweet.
"""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Index, Integer, PrimaryKeyConstraint, Table, Text, func

from ingest.topics import contract
from ingest.topics.analysis_text_embedded_twitter import TWEETS, enrich_likes
from ingest.topics.columns import created_at, jsonb, metadata
from ingest.topics.topic import MESSAGE_TIMESTAMP, LastWins, Topic, Version, Write


class ArchivedTweet(contract.Contract):
    trace_id: contract.Text
    tweet_id: contract.Text
    url: contract.Text
    device_id: contract.Text | None = None
    message_id: contract.Text | None = None
    extraction_timestamp: contract.Timestamp | None = None
    screenshot_path: contract.Text | None = None
    screenshot_size_bytes: contract.Int32 | None = None
    screenshot_dimensions: contract.JsonDocument | None = None
    extracted_text: contract.Text | None = None
    extracted_links: contract.JsonDocument | None = None
    extracted_media: contract.JsonDocument | None = None
    extracted_metadata: contract.JsonDocument | None = None
    processor_version: contract.Text | None = None
    processing_duration_ms: contract.Int32 | None = None
    error_message: contract.Text | None = None


extraction_results = Table(
    "twitter_extraction_results",
    metadata,
    Column("trace_id", Text, nullable=False),
    Column("tweet_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("timestamp", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("screenshot_path", Text),
    Column("screenshot_size_bytes", Integer),
    jsonb("screenshot_dimensions"),
    Column("extracted_text", Text),
    jsonb("extracted_links"),
    jsonb("extracted_media"),
    jsonb("extracted_metadata"),
    Column("processor_version", Text),
    Column("processing_duration_ms", Integer),
    Column("error_message", Text),
    Column(MESSAGE_TIMESTAMP, DateTime(timezone=True), nullable=False),
    created_at(),
    PrimaryKeyConstraint("tweet_id"),
)
Index(None, extraction_results.c.timestamp.desc())

TOPIC = Topic(
    name="task.url.processed.twitter_archived",
    versions=(Version("v1", ArchivedTweet),),
    writes=(
        Write(
            extraction_results,
            LastWins(
                key=("tweet_id",),
                update=(
                    "screenshot_path",
                    "extracted_text",
                    "extracted_links",  # these two, so that a like gets text, links and media of one message
                    "extracted_media",
                    "extracted_metadata",
                    "timestamp",
                ),
            ),
            columns={"timestamp": "extraction_timestamp"},
        ),
    ),
    follow_ups=(enrich_likes,),
    exclusive=TWEETS,
    not_stored=frozenset({"device_id", "message_id", "schema_version"}),
)
