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

from ingest.records import Stage
from ingest.topics import analysis_audio_emotion_scores as emotions
from ingest.topics import analysis_text_embedded_twitter as likes
from ingest.topics import device_sensor_gps as gps
from ingest.topics import task_url_processed_twitter_archived as archived

GPS, EMOTIONS, LIKES, ARCHIVED = (module.TOPIC.name for module in (gps, emotions, likes, archived))
EVERY = frozenset({GPS, EMOTIONS, LIKES, ARCHIVED})
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
    if topic == LIKES:
        fields["embedding"][rng.randrange(384)] = float("nan")
    else:
        _values(fields)["longitude" if topic == GPS else "valence_score"] = float("nan")


def _unknown_version(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["schema_version"] = "v9"


def _nul_in_text(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["device_id" if topic in (GPS, EMOTIONS) else "trace_id"] += "\0"


def _wrong_length(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    fields["embedding"].append(0.5) if rng.random() < 0.5 else fields["embedding"].pop()


def _missing_field(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    del fields[{GPS: "device_id", EMOTIONS: "segment_id", LIKES: "tweet_id", ARCHIVED: "url"}[topic]]


def _text_for_number(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    values, name = {
        GPS: (_values(fields), "latitude"),
        EMOTIONS: (fields, "confidence_score"),
        ARCHIVED: (fields, "processing_duration_ms"),
    }[topic]
    values[name] = str(values[name])


def _not_indexable(fields: dict[str, Any], topic: str, rng: random.Random) -> None:
    text = "".join(rng.choices(string.ascii_letters + string.digits, k=NOT_INDEXABLE))
    fields[{GPS: "device_id", EMOTIONS: "predicted_emotion", LIKES: "tweet_id"}[topic]] = text


FAULTS: tuple[Fault, ...] = (
    Fault("cut_off", "decode", EVERY, _cut_off),
    Fault("not_utf8", "decode", EVERY, _not_utf8),
    Fault("naive_timestamp", "contract", EVERY, _with(_naive_timestamp)),
    Fault("far_future", "contract", EVERY, _with(_far_future)),
    Fault("out_of_range", "contract", frozenset({GPS, EMOTIONS}), _with(_out_of_range)),
    Fault("not_a_number", "contract", frozenset({GPS, EMOTIONS, LIKES}), _with(_not_a_number)),
    Fault("unknown_version", "contract", EVERY, _with(_unknown_version)),
    Fault("nul_in_text", "contract", EVERY, _with(_nul_in_text)),
    Fault("wrong_length", "contract", frozenset({LIKES}), _with(_wrong_length)),
    Fault("missing_field", "contract", EVERY, _with(_missing_field)),
    Fault("text_for_number", "contract", frozenset({GPS, EMOTIONS, ARCHIVED}), _with(_text_for_number)),
    Fault("not_indexable", "database", frozenset({GPS, EMOTIONS, LIKES}), _with(_not_indexable)),
)
