"""``analysis.text.embedded.twitter``: a liked tweet with the embedding of its text. The newest one wins.

A like and the archived page of its tweet (``task.url.processed.twitter_archived``) come in any order; whichever comes
second brings the archived result into the like's row.
"""

from __future__ import annotations

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    Column,
    DateTime,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    any_,
    bindparam,
    column,
    func,
    table,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from ingest.topics import contract
from ingest.topics.columns import created_at, jsonb, metadata
from ingest.topics.topic import MESSAGE_TIMESTAMP, FollowUp, LastWins, Topic, Version, Write


class TwitterLike(contract.Contract):
    trace_id: contract.Text
    tweet_id: contract.Text
    device_id: contract.Text | None = None
    message_id: contract.Text | None = None
    liked_at: contract.Timestamp | None = None
    received_at: contract.Timestamp | None = None
    tweet_url: contract.Text | None = None
    tweet_text: contract.Text | None = None
    author_username: contract.Text | None = None
    author_name: contract.Text | None = None
    author_profile_url: contract.Text | None = None
    embedding: contract.Embedding | None = None
    embedding_model: contract.Text | None = None
    embedding_timestamp: contract.Timestamp | None = None
    screenshot_url: contract.Text | None = None
    extracted_content: contract.JsonDocument | None = None
    extraction_timestamp: contract.Timestamp | None = None
    metadata: contract.JsonDocument | None = None


likes = Table(
    "twitter_likes_with_embeddings",
    metadata,
    Column("trace_id", Text, nullable=False),
    Column("tweet_id", Text, nullable=False),
    Column("device_id", Text),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("liked_at", DateTime(timezone=True)),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("tweet_url", Text),
    Column("tweet_text", Text),
    Column("author_username", Text),
    Column("author_name", Text),
    Column("author_profile_url", Text),
    Column("embedding", VECTOR(384)),
    Column("embedding_model", Text),
    Column("embedding_timestamp", DateTime(timezone=True)),
    Column("screenshot_url", Text),
    jsonb("extracted_content"),
    Column("extraction_timestamp", DateTime(timezone=True)),
    jsonb("metadata"),
    Column(MESSAGE_TIMESTAMP, DateTime(timezone=True), nullable=False),
    created_at(),
    PrimaryKeyConstraint("tweet_id"),
    UniqueConstraint("trace_id"),
)
Index(
    None,
    likes.c.embedding,
    postgresql_using="hnsw",
    postgresql_ops={"embedding": "vector_cosine_ops"},
)
Index(None, likes.c.author_username)
Index(None, likes.c.timestamp.desc())

_results = table(
    "twitter_extraction_results",
    *(column(name) for name in ("tweet_id", "screenshot_path", "extracted_text", "extracted_links", "extracted_media")),
    column("timestamp"),
)
_archived = (
    _results.c.screenshot_path,
    func.jsonb_build_object(
        "text",
        _results.c.extracted_text,
        "links",
        _results.c.extracted_links,
        "media",
        _results.c.extracted_media,
    ),
    _results.c.timestamp,
)
enrich_likes = FollowUp(
    key_column="tweet_id",
    statement=update(likes)
    .values(dict(zip(("screenshot_url", "extracted_content", "extraction_timestamp"), _archived, strict=True)))
    .where(
        likes.c.tweet_id == _results.c.tweet_id,
        likes.c.tweet_id == any_(bindparam("keys", type_=ARRAY(Text))),
        _results.c.screenshot_path.is_not(None),
        tuple_(likes.c.screenshot_url, likes.c.extracted_content, likes.c.extraction_timestamp).op(
            "IS DISTINCT FROM", is_comparison=True
        )(tuple_(*_archived)),
    )
    .returning(likes.c.tweet_id),
)
"""Brings the archived pages of tweets into the rows of their likes, whichever came first.

It reads the result's row rather than a message. So where the newest result has a screenshot, every order of arrival
brings the same into the like. One without leaves the like alone: as it is, or with what an older result brought before.
"""

TWEETS = "tweets"
"""Likes and archived pages write one transaction at a time: two that run at once would not see each other's rows."""

TOPIC = Topic(
    name="analysis.text.embedded.twitter",
    versions=(Version("v1", TwitterLike),),
    writes=(
        Write(
            likes,
            LastWins(
                key=("tweet_id",),
                update=("tweet_text", "embedding", "embedding_model", "embedding_timestamp"),
            ),
        ),
    ),
    follow_ups=(enrich_likes,),
    exclusive=TWEETS,
    not_stored=frozenset({"message_id", "schema_version"}),
)
