"""``analysis.image.face_emotions``: the emotion that a model read in a face. First one wins."""

from __future__ import annotations

from sqlalchemy import REAL, Column, Integer, Table, Text, UniqueConstraint

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, hours
from ingest.topics import contract
from ingest.topics.aggregates import aggregate
from ingest.topics.columns import between, by_time, created_at, jsonb, message_columns, metadata, newest_first, segments
from ingest.topics.topic import FirstWins, Topic, Version, Write


class FaceEmotion(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text
    face_id: contract.Text
    emotion_label: contract.Text
    confidence_score: contract.Fraction
    face_bounding_box: contract.JsonDocument | None = None
    facial_landmarks: contract.JsonDocument | None = None
    age_estimate: contract.Int32 | None = None
    gender_estimate: contract.Text | None = None
    emotion_intensities: contract.JsonDocument | None = None
    face_quality_score: contract.Float32 | None = None
    model_version: contract.Text | None = None


KEY = ("device_id", "timestamp", "message_id", "face_id")

face_emotions = Table(
    "analysis_image_face_emotions_raw",
    metadata,
    *message_columns(),
    Column("face_id", Text, nullable=False),
    Column("emotion_label", Text, nullable=False),
    Column("confidence_score", REAL, nullable=False),
    jsonb("face_bounding_box"),
    jsonb("facial_landmarks"),
    Column("age_estimate", Integer),
    Column("gender_estimate", Text),
    jsonb("emotion_intensities"),
    Column("face_quality_score", REAL),
    Column("model_version", Text),
    created_at(),
    UniqueConstraint(*KEY, name="analysis_image_face_emotions_raw_key"),
    between("confidence_score", 0, 1),
    *segments("device_id", "emotion_label"),
    Hypertable(
        "timestamp",
        chunk_interval=days(7),
        columnstore=Columnstore(after=days(7), segment_by=("device_id", "emotion_label"), order_by=("timestamp DESC",)),
        retention=days(30),
    ),
)
newest_first("analysis_image_face_emotions_raw_emotion_idx", face_emotions.c.emotion_label)
newest_first("analysis_image_face_emotions_raw_age_idx", face_emotions.c.age_estimate)
by_time(face_emotions)

per_hour = aggregate(
    "analysis_image_face_emotions_per_hour",
    face_emotions,
    bucket=hours(1),
    by=("device_id", "emotion_label"),
    averages=("confidence_score", "age_estimate", "face_quality_score"),
    refresh=RefreshPolicy(start_offset=days(22), end_offset=hours(1), schedule_interval=hours(1)),
    retention=days(365),
)

TOPIC = Topic(
    name="analysis.image.face_emotions",
    versions=(Version("v1", FaceEmotion),),
    writes=(Write(face_emotions, FirstWins(KEY)),),
)
