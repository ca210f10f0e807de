"""What the unit tests share: a valid message of each of Loom's topics, the fields to spoil, and their decoding."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from ingest.decode import Decoder, TimestampLimits
from ingest.records import Item, Record, Rejection
from ingest.topics import Topic
from tests.support.messages import FakeMessage, archived, emotion, encode, gps, like
from tests.support.topics import ARCHIVED, EMOTIONS, GPS, LIKES

LIMITS = TimestampLimits(max_skew_s=86_400, oldest=datetime(2000, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Example:
    """One topic, a valid message of it, and a field of each kind."""

    topic: Topic
    valid: dict[str, Any]
    contract: str
    """How a rejection names the contract."""
    text: str
    """A required text."""
    number: str
    """A number, as the path to it: ``embedding[7]``."""
    jsonb: str
    """A field for a jsonb column that takes an object."""

    def __str__(self) -> str:
        return self.topic.name

    def with_number(self, literal: str) -> bytes:
        """The message with a JSON literal, which Python might not write, in place of the number."""
        name, _, index = self.number.rstrip("]").partition("[")
        value: Any = "@@"
        if index:
            value = [*self.valid[name][: int(index)], "@@", *self.valid[name][int(index) + 1 :]]
        return encode(self.valid | {name: value}).replace(b'"@@"', literal.encode())

    def with_jsonb(self, literal: str) -> bytes:
        """The message with a JSON literal inside its jsonb."""
        return encode(self.valid | {self.jsonb: {"a": [1, {"b": "@@"}]}}).replace(b'"@@"', literal.encode())


# SQLAlchemy's dialects have no types.
POSTGRESQL: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
ASYNCPG: Any = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

EXAMPLES = (
    Example(EMOTIONS, emotion(1), "EmotionScore v1", "segment_id", "confidence_score", "audio_features"),
    Example(GPS, gps(1), "GpsReading v1", "device_id", "latitude", "metadata"),
    Example(LIKES, like("1"), "TwitterLike v1", "tweet_id", "embedding[7]", "extracted_content"),
    Example(ARCHIVED, archived("1"), "ArchivedTweet v1", "url", "screenshot_size_bytes", "extracted_metadata"),
)
EMOTION, POSITION, LIKE, ARCHIVE = EXAMPLES


def decode(topic: Topic, value: Any, *, limits: TimestampLimits = LIMITS) -> Item:
    """Bytes as they are; anything else as JSON."""
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Decoder(topic, limits)(FakeMessage(raw, topic=topic.name))


def rejected(topic: Topic, value: Any) -> Rejection:
    item = decode(topic, value)
    assert isinstance(item, Rejection), item
    return item


def accepted(topic: Topic, value: Any) -> Record:
    item = decode(topic, value)
    assert isinstance(item, Record), item
    return item
