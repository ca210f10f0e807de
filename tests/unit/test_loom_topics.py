"""Loom's four topics have every column, key, check, index and conflict rule that the platform gives them."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.schema import CreateIndex, CreateTable

from ingest.topics import FirstWins, LastWins, Topic
from tests.support.topics import ARCHIVED, EMOTIONS, GPS, LIKES, LOOM
from tests.unit.examples import POSTGRESQL

T, TS, JB, INT, R, D = "TEXT", "TIMESTAMP WITH TIME ZONE", "JSONB", "INTEGER", "REAL", "DOUBLE PRECISION"
REQUIRED, NOW = " NOT NULL", " DEFAULT now() NOT NULL"
COLUMNS: dict[Topic, dict[str, str]] = {
    EMOTIONS: {
        "device_id": T + REQUIRED,
        "message_id": T + REQUIRED,
        "timestamp": TS + REQUIRED,
        "schema_version": T + " DEFAULT 'v1'" + REQUIRED,
        "segment_id": T + REQUIRED,
        "predicted_emotion": T + REQUIRED,
        "confidence_score": R + REQUIRED,
        **dict.fromkeys(("valence_score", "arousal_score", "dominance_score"), R),
        "emotion_probabilities": JB,
        "audio_features": JB,
        "model_version": T,
        "created_at": TS + NOW,
    },
    GPS: {
        "device_id": T + REQUIRED,
        "message_id": T,
        "timestamp": TS + REQUIRED,
        "schema_version": T + " DEFAULT 'v1'" + REQUIRED,
        "latitude": D + REQUIRED,
        "longitude": D + REQUIRED,
        **dict.fromkeys(("altitude", "accuracy", "speed", "bearing"), D),
        "metadata": JB,
        "created_at": TS + NOW,
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
        "created_at": TS + NOW,
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
        "created_at": TS + NOW,
    },
}
RULES = {
    EMOTIONS: FirstWins(("device_id", "message_id", "segment_id", "timestamp")),
    GPS: FirstWins(("device_id", "timestamp")),
    LIKES: LastWins(("tweet_id",), ("tweet_text", "embedding", "embedding_model", "embedding_timestamp")),
    ARCHIVED: LastWins(("tweet_id",), ("screenshot_path", "extracted_text", "extracted_metadata", "timestamp")),
}
UNIQUE: dict[Topic, set[tuple[str, ...]]] = {
    EMOTIONS: {("device_id", "message_id", "segment_id", "timestamp")},
    GPS: {("device_id", "timestamp")},
    LIKES: {("tweet_id",), ("trace_id",)},
    ARCHIVED: {("tweet_id",)},
}
CHECKS: dict[Topic, set[str]] = {
    EMOTIONS: {
        "confidence_score BETWEEN 0 AND 1",
        "valence_score BETWEEN -1 AND 1",
        "arousal_score BETWEEN -1 AND 1",
        "dominance_score BETWEEN -1 AND 1",
    },
    GPS: {"latitude BETWEEN -90 AND 90", "longitude BETWEEN -180 AND 180"},
    LIKES: set(),
    ARCHIVED: set(),
}
INDEXES: dict[Topic, set[str]] = {
    EMOTIONS: {"(predicted_emotion, timestamp DESC)", "(valence_score, timestamp DESC)"},
    GPS: set(),
    LIKES: {"USING hnsw (embedding vector_cosine_ops)", "(author_username)", "(timestamp DESC)"},
    ARCHIVED: {"(timestamp DESC)"},
}
every_topic = pytest.mark.parametrize("topic", COLUMNS, ids=lambda topic: topic.name)


def test_the_four_topics_are_loaded_by_their_names_with_their_tables() -> None:
    assert {name: [table.name for table in topic.tables] for name, topic in LOOM.items()} == {
        "analysis.audio.emotion_scores": ["analysis_audio_emotion_scores_raw"],
        "device.sensor.gps.raw": ["device_sensor_gps_raw"],
        "analysis.text.embedded.twitter": ["twitter_likes_with_embeddings"],
        "task.url.processed.twitter_archived": ["twitter_extraction_results"],
    }


@every_topic
def test_table_has_every_column_of_the_platform(topic: Topic) -> None:
    definitions = str(CreateTable(topic.tables[0]).compile(dialect=POSTGRESQL))
    lines = [line.strip(" ,\t") for line in definitions.splitlines()]
    found = {
        line.split()[0]: line.partition(" ")[2] for line in lines if line.split()[:1] and line.split()[0].islower()
    }
    assert found == COLUMNS[topic]


@every_topic
def test_conflict_rule_is_the_platforms(topic: Topic) -> None:
    assert topic.writes[0].rule == RULES[topic]


@every_topic
def test_table_has_the_keys_checks_and_indexes_of_the_platform(topic: Topic) -> None:
    table = topic.tables[0]
    unique = [each for each in table.constraints if isinstance(each, UniqueConstraint | PrimaryKeyConstraint)]
    keys = {tuple(sorted(each.columns.keys())) for each in unique if each.columns}
    assert keys == {tuple(sorted(key)) for key in UNIQUE[topic]}
    assert {str(each.sqltext) for each in table.constraints if isinstance(each, CheckConstraint)} == CHECKS[topic]
    indexes = {str(CreateIndex(each).compile(dialect=POSTGRESQL)) for each in table.indexes}
    assert {each.partition(f" ON {table.name} ")[2] for each in indexes} == INDEXES[topic]


@every_topic
def test_every_constraint_and_index_has_a_name_that_a_revision_can_use(topic: Topic) -> None:
    table = topic.tables[0]
    definitions = [str(CreateTable(table).compile(dialect=POSTGRESQL))]
    definitions += [str(CreateIndex(each).compile(dialect=POSTGRESQL)) for each in table.indexes]
    names = [name for text in definitions for name in re.findall(r"(?:CONSTRAINT|INDEX) (\w+)", text)]
    assert len(names) == len(UNIQUE[topic]) + len(CHECKS[topic]) + len(INDEXES[topic])
    assert all(name.startswith(table.name) and len(name) <= 63 for name in names)


@every_topic
def test_contract_requires_what_the_platform_requires(topic: Topic) -> None:
    """``timestamp`` too; and of the conventions' four fields those that the table requires."""
    fields = topic.contract.model_fields
    columns = topic.columns_of(topic.writes[0])
    for column, field in columns.items():
        definition = COLUMNS[topic][column]
        must = definition.endswith(REQUIRED) and "DEFAULT" not in definition
        assert fields[field].is_required() is must or field == "timestamp", field
    assert fields["timestamp"].is_required()
    assert {"device_id", "message_id", "schema_version"} <= fields.keys()


def test_topics_of_tweets_take_turns_and_bring_the_archived_page_into_the_like() -> None:
    assert LIKES.exclusive is not None and LIKES.exclusive == ARCHIVED.exclusive
    assert LIKES.follow_ups == ARCHIVED.follow_ups
    (follow_up,) = LIKES.follow_ups
    statement = " ".join(str(follow_up.statement.compile(dialect=POSTGRESQL)).split())
    for part in (
        "UPDATE twitter_likes_with_embeddings SET screenshot_url=twitter_extraction_results.screenshot_path",
        "extraction_timestamp=twitter_extraction_results.timestamp",
        "twitter_likes_with_embeddings.tweet_id = twitter_extraction_results.tweet_id",
        "twitter_extraction_results.screenshot_path IS NOT NULL",
        "IS DISTINCT FROM",
        "RETURNING twitter_likes_with_embeddings.tweet_id",
    ):
        assert part in statement
    assert follow_up.key_column == "tweet_id"
