"""``analysis.text.embedded.emails``: an email with the embedding of its text. The newest one wins."""

from __future__ import annotations

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Column, DateTime, Index, PrimaryKeyConstraint, Table, Text, func

from ingest.topics import contract
from ingest.topics.columns import created_at, jsonb, metadata
from ingest.topics.topic import MESSAGE_TIMESTAMP, LastWins, Topic, Version, Write


class Email(contract.Contract):
    trace_id: contract.Text
    message_id: contract.Text | None = None
    device_id: contract.Text | None = None
    received_at: contract.Timestamp | None = None
    subject: contract.Text | None = None
    sender_name: contract.Text | None = None
    sender_email: contract.Text | None = None
    recipient_email: contract.Text | None = None
    body_text: contract.Text | None = None
    body_html: contract.Text | None = None
    headers: contract.JsonDocument | None = None
    attachments: contract.JsonDocument | None = None
    folder: contract.Text | None = None
    email_source: contract.Text | None = None
    embedding: contract.Embedding | None = None
    embedding_model: contract.Text | None = None
    embedding_timestamp: contract.Timestamp | None = None
    metadata: contract.JsonDocument | None = None


emails = Table(
    "emails_with_embeddings",
    metadata,
    Column("trace_id", Text, nullable=False),
    Column("message_id", Text),
    Column("device_id", Text),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("subject", Text),
    Column("sender_name", Text),
    Column("sender_email", Text),
    Column("recipient_email", Text),
    Column("body_text", Text),
    Column("body_html", Text),
    jsonb("headers"),
    jsonb("attachments"),
    Column("folder", Text),
    Column("email_source", Text),
    Column("embedding", VECTOR(384)),
    Column("embedding_model", Text),
    Column("embedding_timestamp", DateTime(timezone=True), nullable=False, server_default=func.now()),
    jsonb("metadata"),
    Column(MESSAGE_TIMESTAMP, DateTime(timezone=True), nullable=False),
    created_at(),
    PrimaryKeyConstraint("trace_id"),
)
Index(
    None,
    emails.c.embedding,
    postgresql_using="hnsw",
    postgresql_ops={"embedding": "vector_cosine_ops"},
)
Index(None, emails.c.sender_email)
Index(None, emails.c.timestamp.desc())

TOPIC = Topic(
    name="analysis.text.embedded.emails",
    versions=(Version("v1", Email),),
    writes=(
        Write(
            emails,
            LastWins(key=("trace_id",), update=("embedding", "embedding_model", "embedding_timestamp")),
        ),
    ),
    not_stored=frozenset({"schema_version"}),
)
