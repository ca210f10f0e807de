"""What is sent: five loads, made from a seed, each message ready as bytes. Pure.

The emotion scores are the main one: 13 columns, two of them jsonb, a key of four columns, about 420 bytes.
"""

from __future__ import annotations

import base64
import json
import math
import random
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from ingest.local.sample import stream
from ingest.local.sample_topics import EMAILS, EMOTIONS, EVERY, GPS, VOICE

Fields: TypeAlias = dict[str, Any]

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(milliseconds=37)
"""Between two messages: a message's time follows its number, so tables are appended to in the order of time."""
DEVICES = 100
EMOTIONS_HEARD = ("happy", "sad", "angry", "neutral", "fear")
AUDIO_BYTES = 8192
DIMENSIONS = 384


@dataclass(frozen=True)
class Sent:
    """One message."""

    topic: str
    """As Loom names it; in the broker it has another name (see ``tests.benchmarks.bed``)."""
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Workload:
    """A load that can be made in any size."""

    name: str
    what: str
    """For the page."""
    topics: frozenset[str]
    make: Callable[[int, int], Iterator[Sent]]
    """(count, seed) → the messages."""
    share: float = 1.0
    """Of the rows that a trial of the emotion scores has: heavier messages come in smaller numbers."""

    def count(self, rows: int) -> int:
        return max(1000, int(rows * self.share))


def emotion(number: int, rng: random.Random, *, refused: bool = False) -> Fields:
    """An emotion score. A *refused* one keeps the contract; the benchmark's own constraint refuses its row."""
    heard = [round(rng.random(), 2) for _ in EMOTIONS_HEARD]
    return {
        "device_id": f"device-{rng.randrange(DEVICES):03d}",
        "timestamp": _at(number),
        "message_id": _identity(rng),
        "schema_version": "v1",
        "segment_id": f"{'bad' if refused else 'seg'}-{number:08d}",
        "predicted_emotion": EMOTIONS_HEARD[heard.index(max(heard))],
        "confidence_score": max(heard),
        "valence_score": round(rng.uniform(-1, 1), 3),
        "arousal_score": round(rng.uniform(-1, 1), 3),
        "dominance_score": round(rng.uniform(-1, 1), 3),
        "emotion_probabilities": dict(zip(EMOTIONS_HEARD, heard, strict=True)),
        "audio_features": {"rms": round(rng.random(), 3), "zcr": round(rng.random(), 3)},
        "model_version": "emotion-recogniser-2.0",
    }


REFUSED_SEGMENTS = "bad-%"
"""A LIKE pattern: the segment ids whose rows P4's constraint refuses."""


def emotions(count: int, seed: int, *, begin: int = 0, again: float = 0.0, refused: float = 0.0) -> Iterator[Sent]:
    """Emotion scores.

    Args:
        begin: number of the first one, for a stream that goes on where another ended.
        again: share of messages that are a redelivery of one of the last thousand; they come on top of ``count``.
        refused: share of rows that the database refuses, spread evenly.
    """
    rng = random.Random(seed)
    every = round(1 / refused) if refused else 0
    recent: deque[Sent] = deque(maxlen=1000)
    for number in range(begin, begin + count):
        fields = emotion(number, rng, refused=bool(every) and number % every == every // 2)
        message = _sent(EMOTIONS, fields)
        yield message
        if again:
            recent.append(message)
            if rng.random() < again:
                yield rng.choice(recent)


class Templates:
    """Emotion scores that are made in 2 µs: all but their time and identity is made before, a thousand times."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._parts: list[tuple[bytes, str, str, str]] = []
        for number in range(1000):
            fields = emotion(number, self._rng)
            value = _sent(EMOTIONS, fields).value.decode()
            before, rest = value.split(fields["timestamp"])
            between, after = rest.split(fields["message_id"])
            self._parts.append((fields["device_id"].encode(), before, between, after))

    def make(self, number: int, time: datetime) -> Sent:
        """The next message, of that time. No two have one identity."""
        key, before, between, after = self._parts[number % len(self._parts)]
        identity = f"{self._rng.getrandbits(128):032x}"
        return Sent(EMOTIONS, key, f"{before}{time.isoformat()}{between}{identity}{after}".encode())


def many_emotions(count: int, seed: int) -> Iterator[Sent]:
    """The same for backlogs: a million and more."""
    templates = Templates(seed)
    for number in range(count):
        yield templates.make(number, BEGIN + number * STEP)


def emotions_with_text(count: int, seed: int) -> Iterator[Sent]:
    """The same, with the nested objects as JSON text: the only form in which Debezium's sink fills jsonb columns."""
    rng = random.Random(seed)
    for number in range(count):
        fields = emotion(number, rng)
        for name in ("emotion_probabilities", "audio_features"):
            fields[name] = json.dumps(fields[name], separators=(",", ":"))
        yield _sent(EMOTIONS, fields)


def positions(count: int, seed: int) -> Iterator[Sent]:
    rng = random.Random(seed)
    for number in range(count):
        fields = {
            "device_id": f"device-{number % DEVICES:03d}",
            "timestamp": _at(number),
            "message_id": _identity(rng),
            "schema_version": "v1",
            "latitude": round(rng.uniform(52.4, 52.6), 7),
            "longitude": round(rng.uniform(13.2, 13.6), 7),
            "altitude": round(rng.gauss(34, 2), 1),
            "accuracy": round(rng.uniform(1, 9), 1),
            "speed": round(abs(rng.gauss(1.4, 0.4)), 2),
            "bearing": round(rng.uniform(0, 360), 1),
        }
        yield _sent(GPS, fields)


def segments(count: int, seed: int) -> Iterator[Sent]:
    rng = random.Random(seed)
    for number in range(count):
        fields = {
            "device_id": f"device-{rng.randrange(DEVICES):03d}",
            "timestamp": _at(number),
            "message_id": _identity(rng),
            "schema_version": "v1",
            "segment_start_time": _at(number),
            "segment_end_time": _at(number + 30),
            "duration_ms": 1110,
            "confidence_score": round(rng.uniform(0.5, 1), 3),
            "audio_sample_rate": 16000,
            "audio_channels": 1,
            "voice_activity_threshold": 0.5,
            "segment_audio_data": base64.b64encode(rng.randbytes(AUDIO_BYTES)).decode(),
        }
        yield _sent(VOICE, fields)


def embeddings(count: int, seed: int) -> Iterator[Sent]:
    rng = random.Random(seed)
    for number in range(count):
        vector = [rng.gauss(0, 1) for _ in range(DIMENSIONS)]
        length = math.sqrt(sum(each * each for each in vector))
        fields = {
            "trace_id": _identity(rng),
            "timestamp": _at(number),
            "message_id": _identity(rng),
            "device_id": f"device-{rng.randrange(DEVICES):03d}",
            "subject": f"Message {number}",
            "sender_email": f"person{rng.randrange(1000)}@example.org",
            "body_text": "I keep coming back to the bridges of Königsberg " * 4,
            "folder": "INBOX",
            "embedding": [round(each / length, 6) for each in vector],
            "embedding_model": "all-MiniLM-L6-v2",
            "embedding_timestamp": _at(number),
        }
        yield _sent(EMAILS, fields)


def mixed(count: int, seed: int) -> Iterator[Sent]:
    """Loom's own mixture, with its bad, late and redelivered messages."""
    end = BEGIN + timedelta(days=20)
    for message in stream(count, seed=seed, now=end):
        yield Sent(message.topic, message.key, message.value)


def _sent(topic: str, fields: Fields) -> Sent:
    key = str(fields["device_id"]).encode()
    return Sent(topic, key, json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode())


def _at(number: int) -> str:
    return (BEGIN + number * STEP).isoformat(timespec="milliseconds")


def _identity(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


EMOTION_SCORES = Workload(
    "emotion scores", "13 columns, two jsonb, key of four columns", frozenset({EMOTIONS}), emotions
)
WORKLOADS = (
    EMOTION_SCORES,
    Workload("GPS", "12 columns, narrow", frozenset({GPS}), positions),
    Workload("voice segments", "8 KB of audio each", frozenset({VOICE}), segments, share=0.05),
    Workload("embeddings", "vector(384) with an HNSW index", frozenset({EMAILS}), embeddings, share=0.02),
    Workload("all twelve, mixed", "Loom's mixture, 1 % bad", EVERY, mixed, share=0.3),
)
