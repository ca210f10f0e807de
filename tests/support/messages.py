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


def _head(number: int) -> dict[str, Any]:
    return {"device_id": f"device-{number % 7}", "message_id": f"m{number}", "timestamp": at(number / 1000)}


def gps(number: int, **changes: Any) -> dict[str, Any]:
    return _head(number) | {"latitude": 52.5, "longitude": 13.4} | changes


def acceleration(number: int, **changes: Any) -> dict[str, Any]:
    return _head(number) | {"x": 0.02, "y": -0.4, "z": 9.81} | changes


def voice(number: int, **changes: Any) -> dict[str, Any]:
    return (
        _head(number)
        | {
            "segment_start_time": at(number / 1000),
            "segment_end_time": at(number / 1000 + 2.5),
            "duration_ms": 2500,
            "confidence_score": 0.75,
            "segment_audio_data": "AAH/fw==",
        }
        | changes
    )


def word(number: int, **changes: Any) -> dict[str, Any]:
    return (
        _head(number)
        | {
            "word_sequence": number,
            "word_text": "hello",
            "start_time_ms": 100,
            "end_time_ms": 420,
            "confidence_score": 0.75,
            "word_boundaries": {"onset_ms": 104},
        }
        | changes
    )


def annotation(number: int, **changes: Any) -> dict[str, Any]:
    return (
        _head(number)
        | {
            "annotation_id": f"a{number}",
            "object_class": "bicycle",
            "confidence_score": 0.75,
            "bounding_box": {"x": 12, "y": 34.5, "width": 200, "height": 120},
            "object_attributes": {"colour": "red"},
            "ocr_text": "Do not lean bicycles",
        }
        | changes
    )


def face(number: int, **changes: Any) -> dict[str, Any]:
    return (
        _head(number)
        | {
            "face_id": f"f{number}",
            "emotion_label": "joy",
            "confidence_score": 0.75,
            "face_bounding_box": {"x": 1, "y": 2, "width": 30, "height": 40},
            "emotion_intensities": {"joy": 0.75},
        }
        | changes
    )


def reasoning(number: int, **changes: Any) -> dict[str, Any]:
    return (
        _head(number)
        | {
            "reasoning_id": f"r{number}",
            "context_type": "daily_routine",
            "reasoning_chain": {"steps": ["at the station at 8", "so on the way to work"]},
            "conclusion_text": "The meetings of today are at the office.",
            "confidence_score": 0.75,
            "key_topics": ["work", "commuting"],
        }
        | changes
    )


def content(number: int, **changes: Any) -> dict[str, Any]:
    return (
        _head(number)
        | {
            "url_id": f"u{number}",
            "original_url": f"https://example.org/{number}",
            "domain": "example.org",
            "content_type": "text/html",
            "content_text": "Bridges of Königsberg",
            "extracted_metadata": {"author": "Euler"},
            "tags": ["bridges", "graphs"],
        }
        | changes
    )


def emotion(number: int, **changes: Any) -> dict[str, Any]:
    return (
        _head(number)
        | {
            "segment_id": f"s{number}",
            "predicted_emotion": "joy",
            "confidence_score": 0.75,
            "emotion_probabilities": {"joy": 0.75, "calm": 0.25},
        }
        | changes
    )


def email(trace: str, seconds: float = 0, **changes: Any) -> dict[str, Any]:
    return {
        "trace_id": trace,
        "timestamp": at(seconds),
        "subject": f"subject at {seconds}",
        "sender_email": "ada@example.org",
        "headers": {"Reply-To": "ada@example.org"},
        "embedding": [0.5] * 384,
        "embedding_model": f"model at {seconds}",
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
