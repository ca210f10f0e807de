"""The topics that tests run: Loom's, and one whose table has no unique key."""

from __future__ import annotations

import dataclasses

from sqlalchemy import BigInteger, Column, DateTime, Identity, MetaData, Table, Text, func
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from ingest.local.postgres import query
from ingest.topics import Append, Topic, Version, Write, contract, load_topics

metadata = MetaData()

plain = Table(
    "test_plain",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("identity", Text, nullable=False),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


class PlainMessage(contract.Contract):
    identity: contract.Text


def renamed(topic: Topic, suffix: str) -> Topic:
    """The same topic under a name of one test's own: the broker is shared."""
    return dataclasses.replace(topic, name=f"{topic.name}.{suffix}")


PLAIN = Topic(
    name="test.plain",
    versions=(Version("v1", PlainMessage),),
    writes=(Write(plain, Append()),),
    not_stored=frozenset({"schema_version"}),
)
"""No key tells a repeated row of this table: only the ledger does."""

LOOM = load_topics(["ingest.topics"])
VOICE = LOOM["media.audio.voice_segments"]
WORDS = LOOM["media.text.word_timestamps"]
VISION = LOOM["media.image.vision_annotations"]
EMOTIONS = LOOM["analysis.audio.emotion_scores"]
FACES = LOOM["analysis.image.face_emotions"]
REASONING = LOOM["analysis.context.reasoning_chains"]
CONTENT = LOOM["task.url.processed_content"]
EMAILS = LOOM["analysis.text.embedded.emails"]
LIKES = LOOM["analysis.text.embedded.twitter"]
ARCHIVED = LOOM["task.url.processed.twitter_archived"]
GPS = LOOM["device.sensor.gps.raw"]
ACCELEROMETER = LOOM["device.sensor.accelerometer.raw"]

SERVED = (EMOTIONS, GPS, LIKES, ARCHIVED, PLAIN)
"""What a service under test reads: each conflict rule, and two topics that fill one row. The demo has all twelve."""


def create_test_tables(url: str) -> None:
    for table in metadata.sorted_tables:
        query(url, str(CreateTable(table).compile(dialect=postgresql.dialect())))
