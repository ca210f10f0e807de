"""``analysis.audio.emotion_scores``: the emotion that a model heard in a segment of audio. First one wins."""

from __future__ import annotations

from sqlalchemy import REAL, Column, Table, Text, UniqueConstraint

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, hours
from ingest.topics import contract
from ingest.topics.aggregates import aggregate
from ingest.topics.columns import between, by_time, created_at, jsonb, message_columns, metadata, newest_first, segments
from ingest.topics.topic import FirstWins, Topic, Version, Write


class EmotionScore(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text
    segment_id: contract.Text
    predicted_emotion: contract.Text
    confidence_score: contract.Fraction
    valence_score: contract.Signed | None = None
    arousal_score: contract.Signed | None = None
    dominance_score: contract.Signed | None = None
    emotion_probabilities: contract.JsonDocument | None = None
    audio_features: contract.JsonDocument | None = None
    model_version: contract.Text | None = None


KEY = ("device_id", "timestamp", "message_id", "segment_id")

emotion_scores = Table(
    "analysis_audio_emotion_scores_raw",
    metadata,
    *message_columns(),
    Column("segment_id", Text, nullable=False),
    Column("predicted_emotion", Text, nullable=False),
    Column("confidence_score", REAL, nullable=False),
    Column("valence_score", REAL),
    Column("arousal_score", REAL),
    Column("dominance_score", REAL),
    jsonb("emotion_probabilities"),
    jsonb("audio_features"),
    Column("model_version", Text),
    created_at(),
    UniqueConstraint(*KEY, name="analysis_audio_emotion_scores_raw_key"),
    between("confidence_score", 0, 1),
    between("valence_score", -1, 1),
    between("arousal_score", -1, 1),
    between("dominance_score", -1, 1),
    *segments("device_id", "predicted_emotion"),
    Hypertable(
        "timestamp",
        chunk_interval=days(7),
        columnstore=Columnstore(
            after=days(7), segment_by=("device_id", "predicted_emotion"), order_by=("timestamp DESC",)
        ),
        retention=days(30),
    ),
)
newest_first("analysis_audio_emotion_scores_raw_emotion_idx", emotion_scores.c.predicted_emotion)
newest_first("analysis_audio_emotion_scores_raw_valence_idx", emotion_scores.c.valence_score)
by_time(emotion_scores)

per_hour = aggregate(
    "analysis_audio_emotion_scores_per_hour",
    emotion_scores,
    bucket=hours(1),
    by=("device_id", "predicted_emotion"),
    averages=("confidence_score", "valence_score", "arousal_score", "dominance_score"),
    refresh=RefreshPolicy(start_offset=days(22), end_offset=hours(1), schedule_interval=hours(1)),
    retention=days(365),
)

TOPIC = Topic(
    name="analysis.audio.emotion_scores",
    versions=(Version("v1", EmotionScore),),
    writes=(Write(emotion_scores, FirstWins(KEY)),),
)
