"""``media.text.word_timestamps``: the words of a transcript, each with its place in the audio. First one wins."""

from __future__ import annotations

from sqlalchemy import REAL, Column, Integer, Table, Text, UniqueConstraint, text

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, hours, minutes
from ingest.topics import contract
from ingest.topics.aggregates import aggregate, coarser
from ingest.topics.columns import (
    at_least,
    between,
    by_time,
    created_at,
    jsonb,
    message_columns,
    metadata,
    newest_first,
    segments,
)
from ingest.topics.topic import FirstWins, Topic, Version, Write


class WordTimestamp(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text
    word_sequence: contract.Count
    word_text: contract.Text
    start_time_ms: contract.Int32
    end_time_ms: contract.Int32
    confidence_score: contract.Fraction
    speaker_id: contract.Text | None = None
    language_code: contract.Text | None = None
    phonetic_transcription: contract.Text | None = None
    word_boundaries: contract.JsonDocument | None = None


KEY = ("device_id", "timestamp", "message_id", "word_sequence")

word_timestamps = Table(
    "media_text_word_timestamps_raw",
    metadata,
    *message_columns(),
    Column("word_sequence", Integer, nullable=False),
    Column("word_text", Text, nullable=False),
    Column("start_time_ms", Integer, nullable=False),
    Column("end_time_ms", Integer, nullable=False),
    Column("confidence_score", REAL, nullable=False),
    Column("speaker_id", Text),
    Column("language_code", Text, nullable=False, server_default=text("'en'")),
    Column("phonetic_transcription", Text),
    jsonb("word_boundaries"),
    created_at(),
    UniqueConstraint(*KEY, name="media_text_word_timestamps_raw_key"),
    at_least("word_sequence", 0),
    between("confidence_score", 0, 1),
    *segments("device_id"),
    Hypertable(
        "timestamp",
        chunk_interval=days(3),
        columnstore=Columnstore(after=days(3), segment_by=("device_id",), order_by=("timestamp DESC",)),
        retention=days(15),
    ),
)
newest_first("media_text_word_timestamps_raw_word_idx", word_timestamps.c.word_text)
newest_first("media_text_word_timestamps_raw_speaker_idx", word_timestamps.c.speaker_id)
by_time(word_timestamps)

per_5_minutes = aggregate(
    "media_text_word_timestamps_per_5_minutes",
    word_timestamps,
    bucket=minutes(5),
    by=("device_id",),
    averages=("confidence_score",),
    refresh=RefreshPolicy(start_offset=days(11), end_offset=minutes(5), schedule_interval=minutes(5)),
    retention=days(90),
)
per_hour = coarser(
    "media_text_word_timestamps_per_hour",
    per_5_minutes,
    bucket=hours(1),
    by=("device_id",),
    averages=("confidence_score",),
    refresh=RefreshPolicy(start_offset=days(12), end_offset=hours(1), schedule_interval=hours(1)),
    retention=days(365),
)

TOPIC = Topic(
    name="media.text.word_timestamps",
    versions=(Version("v1", WordTimestamp),),
    writes=(Write(word_timestamps, FirstWins(KEY)),),
)
