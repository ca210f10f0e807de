"""What each topic's table is to be, written down once more: the tests compare the code with it.

It is what the platform says, but for what this project decided: the order of a key's columns, device and time first
(decision 29; the platform has the same columns with the time last), the links and media of an archived page
(decision 5), and what is marked as more than the platform's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ingest.topics import FirstWins, LastWins, Topic
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

T, TS, JB, INT, R, D, TA = "TEXT", "TIMESTAMP WITH TIME ZONE", "JSONB", "INTEGER", "REAL", "DOUBLE PRECISION", "TEXT[]"
REQUIRED, NOW = " NOT NULL", " DEFAULT now() NOT NULL"
HEAD = {
    "device_id": T + REQUIRED,
    "message_id": T + REQUIRED,
    "timestamp": TS + REQUIRED,
    "schema_version": T + " DEFAULT 'v1'" + REQUIRED,
}
LAST = {"created_at": TS + NOW}
COLUMNS: dict[Topic, dict[str, str]] = {
    VOICE: {
        **HEAD,
        "segment_start_time": TS + REQUIRED,
        "segment_end_time": TS + REQUIRED,
        "duration_ms": INT + REQUIRED,
        "confidence_score": R + REQUIRED,
        "audio_sample_rate": INT,
        "audio_channels": INT + " DEFAULT 1" + REQUIRED,
        "voice_activity_threshold": R,
        "segment_audio_data": "BYTEA",
        **LAST,
    },
    WORDS: {
        **HEAD,
        "word_sequence": INT + REQUIRED,
        "word_text": T + REQUIRED,
        "start_time_ms": INT + REQUIRED,
        "end_time_ms": INT + REQUIRED,
        "confidence_score": R + REQUIRED,
        "speaker_id": T,
        "language_code": T + " DEFAULT 'en'" + REQUIRED,
        "phonetic_transcription": T,
        "word_boundaries": JB,
        **LAST,
    },
    VISION: {
        **HEAD,
        "annotation_id": T + REQUIRED,
        "object_class": T + REQUIRED,
        "confidence_score": R + REQUIRED,
        "bounding_box": JB,
        "object_attributes": JB,
        "ocr_text": T,
        "scene_description": T,
        "image_width": INT,
        "image_height": INT,
        "model_version": T,
        **LAST,
    },
    EMOTIONS: {
        **HEAD,
        "segment_id": T + REQUIRED,
        "predicted_emotion": T + REQUIRED,
        "confidence_score": R + REQUIRED,
        **dict.fromkeys(("valence_score", "arousal_score", "dominance_score"), R),
        "emotion_probabilities": JB,
        "audio_features": JB,
        "model_version": T,
        **LAST,
    },
    FACES: {
        **HEAD,
        "face_id": T + REQUIRED,
        "emotion_label": T + REQUIRED,
        "confidence_score": R + REQUIRED,
        "face_bounding_box": JB,
        "facial_landmarks": JB,
        "age_estimate": INT,
        "gender_estimate": T,
        "emotion_intensities": JB,
        "face_quality_score": R,
        "model_version": T,
        **LAST,
    },
    REASONING: {
        **HEAD,
        "reasoning_id": T + REQUIRED,
        "context_type": T + REQUIRED,
        "reasoning_chain": JB + REQUIRED,
        "conclusion_text": T + REQUIRED,
        "confidence_score": R + REQUIRED,
        "input_sources": JB,
        "key_topics": TA,
        **dict.fromkeys(("entities_mentioned", "temporal_context", "spatial_context"), JB),
        "model_version": T,
        **LAST,
    },
    CONTENT: {
        **HEAD,
        "url_id": T + REQUIRED,
        "original_url": T + REQUIRED,
        "final_url": T,
        "domain": T + REQUIRED,
        "content_type": T + REQUIRED,
        **dict.fromkeys(("title", "content_text", "content_summary"), T),
        "extracted_metadata": JB,
        "content_length": INT,
        "language_detected": T,
        "category": T,
        "tags": TA,
        "processing_duration_ms": INT,
        "processor_version": T,
        **LAST,
    },
    EMAILS: {
        "trace_id": T + REQUIRED,
        "message_id": T,
        "device_id": T,
        "timestamp": TS + REQUIRED,
        "received_at": TS + NOW,
        **dict.fromkeys(("subject", "sender_name", "sender_email", "recipient_email", "body_text", "body_html"), T),
        "headers": JB,
        "attachments": JB,
        "folder": T,
        "email_source": T,
        "embedding": "VECTOR(384)",
        "embedding_model": T,
        "embedding_timestamp": TS + NOW,
        "metadata": JB,
        "message_timestamp": TS + REQUIRED,
        **LAST,
    },
    LIKES: {
        "trace_id": T + REQUIRED,
        "tweet_id": T + REQUIRED,
        "device_id": T,
        "timestamp": TS + REQUIRED,
        "liked_at": TS,
        "received_at": TS + NOW,
        **dict.fromkeys(("tweet_url", "tweet_text", "author_username", "author_name", "author_profile_url"), T),
        "embedding": "VECTOR(384)",
        "embedding_model": T,
        "embedding_timestamp": TS,
        "screenshot_url": T,
        "extracted_content": JB,
        "extraction_timestamp": TS,
        "metadata": JB,
        "message_timestamp": TS + REQUIRED,
        **LAST,
    },
    ARCHIVED: {
        "trace_id": T + REQUIRED,
        "tweet_id": T + REQUIRED,
        "url": T + REQUIRED,
        "timestamp": TS + NOW,
        "screenshot_path": T,
        "screenshot_size_bytes": INT,
        "screenshot_dimensions": JB,
        "extracted_text": T,
        **dict.fromkeys(("extracted_links", "extracted_media", "extracted_metadata"), JB),
        "processor_version": T,
        "processing_duration_ms": INT,
        "error_message": T,
        "message_timestamp": TS + REQUIRED,
        **LAST,
    },
    GPS: {
        **HEAD,
        "message_id": T,
        "latitude": D + REQUIRED,
        "longitude": D + REQUIRED,
        **dict.fromkeys(("altitude", "accuracy", "speed", "bearing"), D),
        "metadata": JB,
        **LAST,
    },
    ACCELEROMETER: {
        **HEAD,
        "message_id": T,
        **dict.fromkeys(("x", "y", "z"), D + REQUIRED),
        "unit": T + " DEFAULT 'm/s²'" + REQUIRED,
        "metadata": JB,
        **LAST,
    },
}
# The platform's keys, their columns in the order of decision 29.
RULES: dict[Topic, FirstWins | LastWins] = {
    VOICE: FirstWins(("device_id", "timestamp", "message_id")),
    WORDS: FirstWins(("device_id", "timestamp", "message_id", "word_sequence")),
    VISION: FirstWins(("device_id", "timestamp", "message_id", "annotation_id")),
    EMOTIONS: FirstWins(("device_id", "timestamp", "message_id", "segment_id")),
    FACES: FirstWins(("device_id", "timestamp", "message_id", "face_id")),
    REASONING: FirstWins(("device_id", "timestamp", "message_id", "reasoning_id")),
    CONTENT: FirstWins(("device_id", "timestamp", "message_id", "url_id")),
    EMAILS: LastWins(("trace_id",), ("embedding", "embedding_model", "embedding_timestamp")),
    LIKES: LastWins(("tweet_id",), ("tweet_text", "embedding", "embedding_model", "embedding_timestamp")),
    ARCHIVED: LastWins(
        ("tweet_id",),
        # Links and media are more than the platform updates (decision 5).
        (
            "screenshot_path",
            "extracted_text",
            "extracted_links",
            "extracted_media",
            "extracted_metadata",
            "timestamp",
        ),
    ),
    GPS: FirstWins(("device_id", "timestamp")),
    ACCELEROMETER: FirstWins(("device_id", "timestamp")),
}
UNIQUE: dict[Topic, set[tuple[str, ...]]] = {topic: {rule.key} for topic, rule in RULES.items()}
UNIQUE[LIKES] |= {("trace_id",)}
CONFIDENCE = "confidence_score BETWEEN 0 AND 1"
CHECKS: dict[Topic, set[str]] = {
    VOICE: {CONFIDENCE, "duration_ms >= 0"},
    WORDS: {CONFIDENCE, "word_sequence >= 0"},
    **{topic: {CONFIDENCE} for topic in (VISION, FACES, REASONING)},
    EMOTIONS: {
        CONFIDENCE,
        "valence_score BETWEEN -1 AND 1",
        "arousal_score BETWEEN -1 AND 1",
        "dominance_score BETWEEN -1 AND 1",
    },
    **{topic: set() for topic in (CONTENT, EMAILS, LIKES, ARCHIVED, ACCELEROMETER)},
    GPS: {"latitude BETWEEN -90 AND 90", "longitude BETWEEN -180 AND 180"},
}
HNSW = "USING hnsw (embedding vector_cosine_ops)"
BRIN = "USING brin (timestamp)"
"""The one index more than the platform's queries use: the refreshing of aggregates uses it."""
INDEXES: dict[Topic, set[str]] = {
    VOICE: {"(confidence_score, timestamp DESC)", "(duration_ms, timestamp DESC)", BRIN},
    WORDS: {"(word_text, timestamp DESC)", "(speaker_id, timestamp DESC)", BRIN},
    VISION: {
        "(object_class, timestamp DESC)",
        "USING gin (to_tsvector('simple', left(ocr_text, 50000)))",
        BRIN,
    },
    EMOTIONS: {"(predicted_emotion, timestamp DESC)", "(valence_score, timestamp DESC)", BRIN},
    FACES: {"(emotion_label, timestamp DESC)", "(age_estimate, timestamp DESC)", BRIN},
    REASONING: {
        "(context_type, timestamp DESC)",
        "USING gin (key_topics)",
        "USING gin (to_tsvector('english', left(conclusion_text, 50000)))",
        BRIN,
    },
    CONTENT: {
        "(domain, timestamp DESC)",
        "(content_type, timestamp DESC)",
        "(category, timestamp DESC)",
        "USING gin (to_tsvector('simple', left(content_text, 50000)))",
        BRIN,
    },
    EMAILS: {HNSW, "(sender_email)", "(timestamp DESC)"},
    LIKES: {HNSW, "(author_username)", "(timestamp DESC)"},
    ARCHIVED: {"(timestamp DESC)"},
    GPS: {BRIN},
    ACCELEROMETER: {BRIN},
}


@dataclass(frozen=True)
class Life:
    """What becomes of a hypertable's rows, in days."""

    columnstore_after: float
    segment_by: tuple[str, ...]
    kept: float
    aggregates: dict[timedelta, float]
    """Width of the buckets → how long they are kept."""


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIFE: dict[Topic, Life] = {
    VOICE: Life(1, ("device_id",), 7, {MINUTE: 30, HOUR: 365}),
    WORDS: Life(3, ("device_id",), 15, {5 * MINUTE: 90, HOUR: 365}),
    VISION: Life(3, ("device_id", "object_class"), 15, {10 * MINUTE: 90, HOUR: 365}),
    EMOTIONS: Life(7, ("device_id", "predicted_emotion"), 30, {HOUR: 365}),
    FACES: Life(7, ("device_id", "emotion_label"), 30, {HOUR: 365}),
    REASONING: Life(14, ("device_id", "context_type"), 90, {DAY: 730}),
    CONTENT: Life(30, ("device_id", "content_type"), 180, {DAY: 730}),
    GPS: Life(1, ("device_id",), 30, {MINUTE: 365}),
    ACCELEROMETER: Life(1, ("device_id",), 30, {MINUTE: 365}),
}
for _topic, _life in LIFE.items():
    # More than the platform says: a longer text would keep a chunk from being converted.
    CHECKS[_topic] = CHECKS[_topic] | {f"octet_length({name}) <= 1000" for name in _life.segment_by}
