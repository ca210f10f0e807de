"""What AI services publish, in a sample stream: the fields of a result beside those that every message has. Pure."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ingest.local.sample_topics import CONTENT, EMOTIONS, FACES, REASONING, VISION, VOICE


@dataclass(frozen=True)
class Result:
    """One service's results."""

    identity: str | None
    """The field that tells several results of one message apart."""
    make: Callable[[random.Random, datetime], dict[str, Any]]


def _voice(rng: random.Random, time: datetime) -> dict[str, Any]:
    duration_ms = rng.randint(300, 8_000)
    return {
        "segment_start_time": (time - timedelta(milliseconds=duration_ms)).isoformat(timespec="milliseconds"),
        "segment_end_time": time.isoformat(timespec="milliseconds"),
        "duration_ms": duration_ms,
        "confidence_score": round(rng.uniform(0.5, 1), 3),
        "audio_sample_rate": 16_000,
        "voice_activity_threshold": 0.5,
        "segment_audio_data": base64.b64encode(rng.randbytes(240)).decode(),
    }


def _annotation(rng: random.Random, time: datetime) -> dict[str, Any]:
    width, height = rng.randint(20, 400), rng.randint(20, 400)
    name = rng.choice(OBJECTS)
    fields: dict[str, Any] = {
        "annotation_id": f"ann-{rng.getrandbits(32):08x}",
        "object_class": name,
        "confidence_score": round(rng.uniform(0.4, 1), 3),
        "bounding_box": {"x": rng.randint(0, 1500), "y": rng.randint(0, 700), "width": width, "height": height},
        "image_width": 1920,
        "image_height": 1080,
        "model_version": "vision-base-4",
    }
    return fields | ({"ocr_text": rng.choice(SIGNS)} if name == "sign" else {})


def _emotion(rng: random.Random, time: datetime) -> dict[str, Any]:
    chances = _chances(rng)
    return {
        "segment_id": f"seg-{rng.getrandbits(32):08x}",
        "predicted_emotion": max(chances, key=lambda name: chances[name]),
        "confidence_score": max(chances.values()),
        "valence_score": round(rng.uniform(-1, 1), 3),
        "arousal_score": round(rng.uniform(-1, 1), 3),
        "dominance_score": round(rng.uniform(-1, 1), 3),
        "emotion_probabilities": chances,
        "audio_features": {"pitch_hz": round(rng.gauss(180, 40), 1), "energy_db": round(rng.gauss(-22, 5), 1)},
        "model_version": "emotion-large-2",
    }


def _face(rng: random.Random, time: datetime) -> dict[str, Any]:
    chances = _chances(rng)
    return {
        "face_id": f"face-{rng.getrandbits(32):08x}",
        "emotion_label": max(chances, key=lambda name: chances[name]),
        "confidence_score": max(chances.values()),
        "face_bounding_box": {"x": rng.randint(0, 1500), "y": rng.randint(0, 700), "width": 180, "height": 220},
        "age_estimate": rng.randint(4, 90),
        "emotion_intensities": chances,
        "face_quality_score": round(rng.uniform(0.3, 1), 3),
        "model_version": "faces-3",
    }


def _reasoning(rng: random.Random, time: datetime) -> dict[str, Any]:
    topics = rng.sample(SUBJECTS, k=rng.randint(1, 3))
    return {
        "reasoning_id": f"rc-{rng.getrandbits(32):08x}",
        "context_type": rng.choice(CONTEXTS),
        "reasoning_chain": [{"step": 1, "observation": "moving along a street"}, {"step": 2, "inference": "commuting"}],
        "conclusion_text": f"This is about {' and '.join(topics)}.",
        "confidence_score": round(rng.uniform(0.3, 1), 3),
        "input_sources": ["device.sensor.gps.raw", "media.text.word_timestamps"],
        "key_topics": topics,
        "model_version": "reasoner-1.3",
    }


def _content(rng: random.Random, time: datetime) -> dict[str, Any]:
    domain, subject = rng.choice(DOMAINS), rng.choice(SUBJECTS)
    text = f"All there is to know of {subject}. " * rng.randint(1, 12)
    return {
        "url_id": f"url-{rng.getrandbits(32):08x}",
        "original_url": f"https://{domain}/{subject}",
        "domain": domain,
        "content_type": "text/html",
        "title": subject.capitalize(),
        "content_text": text,
        "content_length": len(text),
        "language_detected": "en",
        "category": subject,
        "tags": [subject, "sample"],
        "processing_duration_ms": rng.randint(200, 4_000),
        "processor_version": "reader-2.2",
    }


def _chances(rng: random.Random) -> dict[str, float]:
    weights = [rng.expovariate(1) for _ in EMOTION_NAMES]
    return {name: round(weight / sum(weights), 4) for name, weight in zip(EMOTION_NAMES, weights, strict=True)}


RESULTS = {
    VOICE: Result(None, _voice),
    VISION: Result("annotation_id", _annotation),
    EMOTIONS: Result("segment_id", _emotion),
    FACES: Result("face_id", _face),
    REASONING: Result("reasoning_id", _reasoning),
    CONTENT: Result("url_id", _content),
}
EMOTION_NAMES = ("calm", "joy", "surprise", "sadness", "anger", "fear")
OBJECTS = ("bicycle", "tram", "sign", "dog", "cup", "bridge")
SIGNS = ("Königstraße 7", "No parking", "Ausgang → Gleis 3", "OPEN 7–19")
SUBJECTS = ("bridges", "sourdough", "maps", "jellyfish", "typefaces", "work")
CONTEXTS = ("daily_routine", "conversation", "travel")
DOMAINS = ("example.org", "example.com", "example.net")
