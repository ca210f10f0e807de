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
from tests.support import messages
from tests.support.messages import FakeMessage, encode
from tests.support.topics import (
    ACCELEROMETER,
    ARCHIVED,
    CONTENT,
    EMAILS,
    EMOTIONS,
    FACES,
    GPS,
    LIKES,
    REASONING,
    VISION,
    VOICE,
    WORDS,
)

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
    """A field for a jsonb column that takes an object; empty where there is none."""

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
    Example(EMOTIONS, messages.emotion(1), "EmotionScore v1", "segment_id", "confidence_score", "audio_features"),
    Example(GPS, messages.gps(1), "GpsReading v1", "device_id", "latitude", "metadata"),
    Example(LIKES, messages.like("1"), "TwitterLike v1", "tweet_id", "embedding[7]", "extracted_content"),
    Example(ARCHIVED, messages.archived("1"), "ArchivedTweet v1", "url", "screenshot_size_bytes", "extracted_metadata"),
    Example(VOICE, messages.voice(1), "VoiceSegment v1", "message_id", "confidence_score", ""),
    Example(WORDS, messages.word(1), "WordTimestamp v1", "word_text", "confidence_score", "word_boundaries"),
    Example(
        VISION, messages.annotation(1), "VisionAnnotation v1", "object_class", "confidence_score", "object_attributes"
    ),
    Example(FACES, messages.face(1), "FaceEmotion v1", "face_id", "face_quality_score", "emotion_intensities"),
    Example(
        REASONING, messages.reasoning(1), "ReasoningChain v1", "conclusion_text", "confidence_score", "reasoning_chain"
    ),
    Example(CONTENT, messages.content(1), "ProcessedContent v1", "domain", "content_length", "extracted_metadata"),
    Example(EMAILS, messages.email("1"), "Email v1", "trace_id", "embedding[7]", "headers"),
    Example(ACCELEROMETER, messages.acceleration(1), "AccelerometerReading v1", "device_id", "z", "metadata"),
)
EMOTION, POSITION, LIKE, ARCHIVE, SEGMENT, WORD, ANNOTATION, FACE, CHAIN, PAGE, MAIL, MOTION = EXAMPLES
WITH_JSONB = tuple(example for example in EXAMPLES if example.jsonb)
WITH_FLOAT = tuple(example for example in EXAMPLES if example not in (ARCHIVE, PAGE))
"""Those whose number is no integer."""


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
