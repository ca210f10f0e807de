"""Loom's twelve topics have every column, key, check, index and conflict rule that the platform gives them, and what
this project decided beyond it: ``tests.unit.loom_tables`` says where they differ."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.schema import CreateIndex, CreateTable

from ingest.topics import Topic
from tests.support.topics import ARCHIVED, LIKES, LOOM
from tests.unit.examples import POSTGRESQL
from tests.unit.loom_tables import CHECKS, COLUMNS, INDEXES, REQUIRED, RULES, UNIQUE

every_topic = pytest.mark.parametrize("topic", COLUMNS, ids=lambda topic: topic.name)


def test_the_twelve_topics_are_loaded_by_their_names_with_their_tables() -> None:
    assert {name: [table.name for table in topic.tables] for name, topic in LOOM.items()} == {
        "media.audio.voice_segments": ["media_audio_voice_segments_raw"],
        "media.text.word_timestamps": ["media_text_word_timestamps_raw"],
        "media.image.vision_annotations": ["media_image_vision_annotations_raw"],
        "analysis.audio.emotion_scores": ["analysis_audio_emotion_scores_raw"],
        "analysis.image.face_emotions": ["analysis_image_face_emotions_raw"],
        "analysis.context.reasoning_chains": ["analysis_context_reasoning_chains_raw"],
        "task.url.processed_content": ["task_url_processed_content_raw"],
        "analysis.text.embedded.emails": ["emails_with_embeddings"],
        "device.sensor.accelerometer.raw": ["device_sensor_accelerometer_raw"],
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
def test_conflict_rule_is_the_platforms_with_keys_and_links_as_decided_here(topic: Topic) -> None:
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
