"""Messages for tests: valid ones of each topic, and what Kafka would make of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class FakeMessage:
    """What the decoder and the writer see of a Kafka record."""

    value: bytes | None
    offset: int = 0
    partition: int = 0
    topic: str = "topic"
    key: bytes | None = None
    timestamp: int = int(NOW.timestamp() * 1000)
    headers: tuple[tuple[str, bytes | None], ...] = ()


def encode(body: Any) -> bytes:
    return json.dumps(body).encode()


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def gps(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "device_id": f"device-{number % 7}",
        "message_id": f"m{number}",
        "timestamp": at(number / 1000),
        "latitude": 52.5,
        "longitude": 13.4,
    } | changes


def emotion(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "device_id": f"device-{number % 7}",
        "message_id": f"m{number}",
        "segment_id": f"s{number}",
        "timestamp": at(number / 1000),
        "predicted_emotion": "joy",
        "confidence_score": 0.75,
        "emotion_probabilities": {"joy": 0.75, "calm": 0.25},
    } | changes


def like(tweet: str, seconds: float = 0, **changes: Any) -> dict[str, Any]:
    return {
        "trace_id": f"trace-{tweet}",
        "tweet_id": tweet,
        "timestamp": at(seconds),
        "tweet_text": f"text at {seconds}",
        "embedding": [0.5] * 384,
        "embedding_model": "all-MiniLM-L6-v2",
    } | changes


def archived(tweet: str, seconds: float = 0, **changes: Any) -> dict[str, Any]:
    return {
        "trace_id": f"archive-{tweet}",
        "tweet_id": tweet,
        "timestamp": at(seconds),
        "url": f"https://example.org/{tweet}",
        "extraction_timestamp": at(seconds),
        "screenshot_path": f"/screens/{tweet}-{seconds}.png",
        "extracted_text": f"page at {seconds}",
        "extracted_links": ["https://example.org"],
        "extracted_media": [],
    } | changes


def plain(identity: str, seconds: float = 0) -> dict[str, Any]:
    return {"identity": identity, "timestamp": at(seconds)}
