"""What good input becomes: rows with the same keys always, unknown fields told, both forms of GPS the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Table, Text

from ingest.topics import Append, Contract, Topic, Version, Write
from tests.support.messages import NOW, gps
from tests.unit.examples import ARCHIVE, EMOTION, EXAMPLES, LIKE, POSITION, Example, accepted, rejected

every_topic = pytest.mark.parametrize("example", EXAMPLES, ids=str)
VALUES = {
    "latitude": 52.5,
    "longitude": 13.4,
    "altitude": 34.0,
    "accuracy": 3.5,
    "speed": 1.25,
    "bearing": 270.0,
    "metadata": {"satellites": 9},
}
HEAD = {name: value for name, value in gps(1).items() if name not in VALUES}


@every_topic
def test_unknown_fields_are_reported_and_the_row_is_written(example: Example) -> None:
    plain = accepted(example.topic, example.valid)
    record = accepted(example.topic, example.valid | {"colour": "red", "größe": None})
    assert record.unknown_fields == ("colour", "größe")
    assert plain.unknown_fields == ()
    assert record.rows == plain.rows


@every_topic
def test_fields_that_are_left_out_are_null_and_every_row_has_the_same_keys(example: Example) -> None:
    full = accepted(example.topic, example.valid).rows[0]
    required = {name for name, field in example.topic.contract.model_fields.items() if field.is_required()}
    bare = accepted(example.topic, {name: example.valid[name] for name in required}).rows[0]
    assert bare.keys() == full.keys() == example.topic.columns_of(example.topic.writes[0]).keys()
    optional = set(bare) & set(example.topic.contract.model_fields) - required - {"schema_version", "timestamp"}
    assert {bare[name] for name in optional} == {None}


@every_topic
def test_every_required_field_is_missed_by_its_name(example: Example) -> None:
    for name, field in example.topic.contract.model_fields.items():
        if field.is_required():
            rejection = rejected(example.topic, {key: value for key, value in example.valid.items() if key != name})
            assert (rejection.reason, rejection.field_path) == ("missing", name)
            assert rejection.error == f"{name}: Field required"


def test_rejection_names_the_first_three_faults_and_counts_the_rest() -> None:
    rejection = rejected(EMOTION.topic, {})
    assert rejection.error.count("Field required") == 3
    assert rejection.error.endswith("; and 3 more")
    assert rejection.attempts == 1


def test_rejection_repeats_nothing_of_the_message() -> None:
    rejection = rejected(EMOTION.topic, EMOTION.valid | {"confidence_score": "hunter2", "device_id": ["hunter2"]})
    assert "hunter2" not in repr(rejection.error) + repr(rejection.reason) + repr(rejection.field_path)


@pytest.mark.parametrize("nested", [set(), set(VALUES), {"latitude"}, {"longitude", "metadata"}, {"speed", "altitude"}])
def test_flat_nested_and_mixed_gps_give_the_same_row(nested: set[str]) -> None:
    message = HEAD | {name: value for name, value in VALUES.items() if name not in nested}
    if nested:
        message["data"] = {name: VALUES[name] for name in nested}
    record = accepted(POSITION.topic, message)
    assert record.rows[0] == {
        "device_id": "device-1",
        "message_id": "m1",
        "timestamp": NOW.replace(microsecond=1000),
        "schema_version": "v1",
        **VALUES,
        "metadata": '{"satellites":9}',
    }
    assert record.unknown_fields == ()


@pytest.mark.parametrize(
    ("data", "reason", "path"),
    [
        ({"latitude": 91, "longitude": 1}, "less_than_equal", "data.latitude"),
        ({"latitude": "1", "longitude": 1}, "float_type", "data.latitude"),
        ({"latitude": 1, "longitude": 1, "metadata": {"a": "\0"}}, "nul_in_text", "data.metadata"),
        ({"latitude": 1, "longitude": 1, "speed": True}, "float_type", "data.speed"),
        ({"longitude": 1}, "missing", "latitude"),
        ([1], "missing", "latitude"),
        ("text", "missing", "latitude"),
        (None, "missing", "latitude"),
    ],
)
def test_fault_in_nested_gps_is_rejected_where_it_stands(data: Any, reason: str, path: str) -> None:
    rejection = rejected(POSITION.topic, HEAD | {"data": data})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", reason, path)


def test_unknown_field_beside_nested_gps_is_reported() -> None:
    record = accepted(POSITION.topic, HEAD | {"data": {"latitude": 1.0, "longitude": 2.0, "satellites": 9}})
    assert record.unknown_fields == ("data.satellites",)


def test_data_of_a_flat_reading_is_an_unknown_field() -> None:
    assert accepted(POSITION.topic, HEAD | VALUES | {"data": {"satellites": 9}}).unknown_fields == ("data.satellites",)


@pytest.mark.parametrize(
    ("example", "field", "values"),
    [
        (EMOTION, "confidence_score", (0, 1)),
        (EMOTION, "valence_score", (-1, 1)),
        (POSITION, "latitude", (-90, 90)),
        (POSITION, "longitude", (-180, 180)),
    ],
)
def test_value_at_the_edge_of_its_range_is_a_row(example: Example, field: str, values: tuple[int, int]) -> None:
    for value in values:
        assert accepted(example.topic, example.valid | {field: value}).rows[0][field] == value


class Tagged(Contract):
    tags: list[str]


def test_nul_in_a_list_of_texts_is_rejected_with_its_field() -> None:
    table = Table("tagged", MetaData(), *(Column(name, Text) for name in ("timestamp", "schema_version", "tags")))
    topic = Topic("acme.tagged", (Version("v1", Tagged),), (Write(table, Append()),))
    message = {"timestamp": NOW.isoformat(), "tags": ["a", "b\\u0000"]}
    assert accepted(topic, message).rows[0]["tags"] == ["a", "b\\u0000"]
    rejection = rejected(topic, message | {"tags": ["a", "b\0"]})
    assert (rejection.reason, rejection.field_path) == ("nul_in_text", "tags")


def test_last_wins_row_carries_the_messages_own_timestamp() -> None:
    like = accepted(LIKE.topic, LIKE.valid).rows[0]
    assert like["message_timestamp"] == like["timestamp"] == NOW
    archive = accepted(ARCHIVE.topic, ARCHIVE.valid | {"extraction_timestamp": "2026-01-02T03:04:05+01:00"}).rows[0]
    assert archive["message_timestamp"] == NOW
    assert archive["timestamp"] == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)


def test_archived_page_without_extraction_time_leaves_it_to_the_database() -> None:
    assert accepted(ARCHIVE.topic, ARCHIVE.valid | {"extraction_timestamp": None}).rows[0]["timestamp"] is None


def test_last_of_two_equal_names_counts() -> None:
    raw = b'{"device_id":"a",%s' % str(EMOTION.valid).replace("'", '"').encode().lstrip(b"{")
    assert accepted(EMOTION.topic, raw).rows[0]["device_id"] == "device-1"
