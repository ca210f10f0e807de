"""What is wrong with the bad messages of a sample stream: each way as a function that spoils a good one. Pure.

>>> {fault.name for fault in FAULTS if fault.stage == "database"}
{'not_indexable'}
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingest.local.sample_topics import (
    ACCELEROMETER,
    ARCHIVED,
    CONTENT,
    EMAILS,
    EMOTIONS,
    EVERY,
    FACES,
    GPS,
    LIKES,
    REASONING,
    SENSORS,
    VISION,
    VOICE,
    WORDS,
)
from ingest.records import Stage

EMBEDDED = frozenset({EMAILS, LIKES})
CONFIDENT = frozenset({VOICE, WORDS, VISION, EMOTIONS, FACES, REASONING})
"""Whose messages have a ``confidence_score``."""
NUMBERS = {
    ACCELEROMETER: "z",
    GPS: "latitude",
    VOICE: "duration_ms",
    WORDS: "start_time_ms",
    CONTENT: "content_length",
    ARCHIVED: "processing_duration_ms",
    **dict.fromkeys((VISION, EMOTIONS, FACES, REASONING), "confidence_score"),
}
# Of a table whose last one wins its key: an update of a row that is there would not touch another index.
INDEXED = {
    **dict.fromkeys(SENSORS, "device_id"),
    VOICE: "message_id",
    WORDS: "word_text",
    VISION: "object_class",
    EMOTIONS: "predicted_emotion",
    FACES: "emotion_label",
    REASONING: "context_type",
    CONTENT: "domain",
    EMAILS: "trace_id",
    LIKES: "tweet_id",
}
REQUIRED = {
    **dict.fromkeys(SENSORS, "device_id"),
    VOICE: "segment_end_time",
    WORDS: "word_sequence",
    VISION: "annotation_id",
    EMOTIONS: "segment_id",
    FACES: "face_id",
    REASONING: "reasoning_chain",
    CONTENT: "url_id",
    EMAILS: "trace_id",
    LIKES: "tweet_id",
    ARCHIVED: "url",
}
LISTS = {REASONING: "key_topics", CONTENT: "tags"}
NOT_INDEXABLE = 4_000
"""Characters of a random text that no B-tree takes: its limit is 2,704 bytes, after compression."""


@dataclass(frozen=True)
class Fault:
    """One way for a message to be bad."""

    name: str
    stage: Stage
    """Who has to refuse it."""
    topics: frozenset[str]
    """Where it can happen."""
    spoil: Callable[[bytes, str, random.Random], bytes]
    """From a good message's value, its topic and a source of chance to the bad value."""


def _cut_off(value: bytes, topic: str, rng: random.Random) -> bytes:
    return value[: rng.randint(len(value) // 3, len(value) - 2)]


def _not_utf8(value: bytes, topic: str, rng: random.Random) -> bytes:
    return value.replace(b'"device_id":"', b'"device_id":"\xff\xfe', 1)


def _with(change: Callable[[dict[str, Any], str, random.Random], None]) -> Callable[[bytes, str, random.Random], bytes]:
    """A spoiler that changes the parsed message: for GPS, also where its values are nested."""

    def spoil(value: bytes, topic: str, rng: random.Random) -> bytes:
        fields = json.loads(value)
        change(fields, topic, rng)
        return json.dumps(fields, separators=(",", ":")).encode()

    return spoil


def _values(fields: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = fields.get("data", fields)
    return values


def _naive_timestamp(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["timestamp"] = fields["timestamp"].removesuffix("+00:00")


def _far_future(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["timestamp"] = "2099" + fields["timestamp"][4:].replace("02-29", "02-28")


def _out_of_range(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    if topic == GPS:
        _values(fields)["latitude"] = round(rng.uniform(90.1, 400), 5)
    else:
        fields["confidence_score"] = round(rng.uniform(1.1, 99), 1)


def _not_a_number(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    if topic in EMBEDDED:
        fields["embedding"][rng.randrange(384)] = float("nan")
    else:
        _values(fields)[NUMBERS[topic]] = float("nan")


def _unknown_version(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["schema_version"] = "v9"


def _nul_in_text(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["trace_id" if "trace_id" in fields else "device_id"] += "\0"


def _wrong_length(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["embedding"].append(0.5) if rng.random() < 0.5 else fields["embedding"].pop()


def _missing_field(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    del fields[REQUIRED[topic]]


def _text_for_number(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    values = _values(fields)
    values[NUMBERS[topic]] = str(values[NUMBERS[topic]])


def _broken_base64(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["segment_audio_data"] = fields["segment_audio_data"][: rng.choice((-1, -2, -3))]


def _null_in_list(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields[LISTS[topic]].append(None)


def _half_a_box(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    del fields["bounding_box"][rng.choice(("x", "y", "width", "height"))]


def _not_indexable(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields[INDEXED[topic]] = "".join(rng.choices(string.ascii_letters + string.digits, k=NOT_INDEXABLE))


FAULTS: tuple[Fault, ...] = (
    Fault("cut_off", "decode", EVERY, _cut_off),
    Fault("not_utf8", "decode", EVERY, _not_utf8),
    Fault("naive_timestamp", "contract", EVERY, _with(_naive_timestamp)),
    Fault("far_future", "contract", EVERY, _with(_far_future)),
    Fault("out_of_range", "contract", CONFIDENT | {GPS}, _with(_out_of_range)),
    Fault("not_a_number", "contract", EMBEDDED | SENSORS | {EMOTIONS, FACES}, _with(_not_a_number)),
    Fault("unknown_version", "contract", EVERY, _with(_unknown_version)),
    Fault("nul_in_text", "contract", EVERY, _with(_nul_in_text)),
    Fault("wrong_length", "contract", EMBEDDED, _with(_wrong_length)),
    Fault("broken_base64", "contract", frozenset({VOICE}), _with(_broken_base64)),
    Fault("null_in_list", "contract", frozenset(LISTS), _with(_null_in_list)),
    Fault("half_a_box", "contract", frozenset({VISION}), _with(_half_a_box)),
    Fault("missing_field", "contract", EVERY, _with(_missing_field)),
    Fault("text_for_number", "contract", frozenset(NUMBERS), _with(_text_for_number)),
    Fault("not_indexable", "database", frozenset(INDEXED), _with(_not_indexable)),
)
