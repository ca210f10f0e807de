"""``media.audio.voice_segments``: a stretch of audio in which somebody speaks, and the audio itself. First one wins."""

from __future__ import annotations

from sqlalchemy import REAL, Column, DateTime, Integer, LargeBinary, Table, UniqueConstraint, text

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, hours, minutes
from ingest.topics import contract
from ingest.topics.aggregates import aggregate, coarser
from ingest.topics.columns import (
    at_least,
    between,
    by_time,
    created_at,
    message_columns,
    metadata,
    newest_first,
    segments,
)
from ingest.topics.topic import FirstWins, Topic, Version, Write


class VoiceSegment(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text
    segment_start_time: contract.Timestamp
    segment_end_time: contract.Timestamp
    duration_ms: contract.Count
    confidence_score: contract.Fraction
    audio_sample_rate: contract.Int32 | None = None
    audio_channels: contract.Int32 | None = None
    voice_activity_threshold: contract.Float32 | None = None
    segment_audio_data: contract.Base64 | None = None


KEY = ("device_id", "timestamp", "message_id")

voice_segments = Table(
    "media_audio_voice_segments_raw",
    metadata,
    *message_columns(),
    Column("segment_start_time", DateTime(timezone=True), nullable=False),
    Column("segment_end_time", DateTime(timezone=True), nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("confidence_score", REAL, nullable=False),
    Column("audio_sample_rate", Integer),
    Column("audio_channels", Integer, nullable=False, server_default=text("1")),
    Column("voice_activity_threshold", REAL),
    Column("segment_audio_data", LargeBinary),
    created_at(),
    UniqueConstraint(*KEY, name="media_audio_voice_segments_raw_key"),
    at_least("duration_ms", 0),
    between("confidence_score", 0, 1),
    *segments("device_id"),
    Hypertable(
        "timestamp",
        chunk_interval=days(1),
        columnstore=Columnstore(after=days(1), segment_by=("device_id",), order_by=("timestamp DESC",)),
        retention=days(7),
    ),
)
newest_first("media_audio_voice_segments_raw_confidence_idx", voice_segments.c.confidence_score)
newest_first("media_audio_voice_segments_raw_duration_idx", voice_segments.c.duration_ms)
by_time(voice_segments)

per_minute = aggregate(
    "media_audio_voice_segments_per_minute",
    voice_segments,
    bucket=minutes(1),
    by=("device_id",),
    averages=("confidence_score", "duration_ms"),
    refresh=RefreshPolicy(start_offset=days(5), end_offset=minutes(1), schedule_interval=minutes(1)),
    retention=days(30),
)
per_hour = coarser(
    "media_audio_voice_segments_per_hour",
    per_minute,
    bucket=hours(1),
    by=("device_id",),
    averages=("confidence_score", "duration_ms"),
    refresh=RefreshPolicy(start_offset=days(6), end_offset=hours(1), schedule_interval=hours(1)),
    retention=days(365),
)

TOPIC = Topic(
    name="media.audio.voice_segments",
    versions=(Version("v1", VoiceSegment),),
    writes=(Write(voice_segments, FirstWins(KEY)),),
)
