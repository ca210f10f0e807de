"""What bad input gets: each message ends as one record or one rejection with stage, reason, field path and text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.messages import encode
from tests.unit.examples import (
    ARCHIVE,
    EMOTION,
    EXAMPLES,
    LIKE,
    POSITION,
    WITH_FLOAT,
    WITH_JSONB,
    Example,
    accepted,
    rejected,
)

every_topic = pytest.mark.parametrize("example", EXAMPLES, ids=str)
every_topic_with_jsonb = pytest.mark.parametrize("example", WITH_JSONB, ids=str)
every_topic_with_a_float = pytest.mark.parametrize("example", WITH_FLOAT, ids=str)
every_embedded = pytest.mark.parametrize(
    "literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400]
)


@every_topic
@pytest.mark.parametrize(
    ("value", "stage", "reason", "error"),
    [
        (None, "decode", "no_value", "tombstone"),
        (b"", "decode", "empty", "empty"),
        (b" \r\n\t", "decode", "empty", "empty"),
        (b"{", "decode", "json_invalid", "EOF"),
        (b'{"a": 1,}', "decode", "json_invalid", "trailing comma"),
        (b"{'a': 1}", "decode", "json_invalid", "line 1 column 2"),
        (b"\xef\xbb\xbf{}", "decode", "json_invalid", "line 1 column 1"),
        (b"\xff\xfe{\x00}\x00", "decode", "not_utf8", "byte 0"),
        (b'{"a": "\xc3("}', "decode", "not_utf8", "byte 7"),
        (b'{"\xc3(": 1}', "decode", "not_utf8", "byte 2"),
        (b"[" * 100_000, "decode", "json_invalid", "recursion limit"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "decode", "json_invalid", "recursion limit"),
        (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "decode", "json_invalid", "recursion limit"),
        (b'{"a": ' + b"1" * 5000 + b"}", "decode", "json_invalid", "number out of range"),
        (b"null", "contract", "model_type", "should be an object"),
        (b"[]", "contract", "model_type", "should be an object"),
        (b'[{"device_id": "d"}]', "contract", "model_type", "should be an object"),
        (b'"text"', "contract", "model_type", "should be an object"),
        (b"5", "contract", "model_type", "should be an object"),
    ],
)
def test_what_is_no_object_in_json_is_rejected_as_a_whole(
    example: Example, value: bytes | None, stage: str, reason: str, error: str
) -> None:
    rejection = rejected(example.topic, value)
    assert (rejection.stage, rejection.reason, rejection.field_path) == (stage, reason, None)
    assert error in rejection.error
    assert rejection.message.value == value
    assert rejection.contract == (example.contract if stage == "contract" else None)


@every_topic_with_jsonb
@pytest.mark.parametrize(
    ("spoil", "path"),
    [
        (lambda each: {each.text: "a\ud800"}, lambda each: each.text),
        (lambda each: {each.jsonb: {"a": [1, {"b": "\udfff"}]}}, lambda each: f"{each.jsonb}.a[1].b"),
        (lambda each: {each.jsonb: {"a": [1, {"\udfff": 1}]}}, lambda each: f"{each.jsonb}.a[1]"),
        (lambda _: {"unknown": ["\ude00\ud83d"]}, lambda _: "unknown[0]"),
    ],
    ids=["in a text", "in a jsonb", "in a name inside a jsonb", "in an unknown field"],
)
def test_lone_surrogate_is_rejected_where_it_stands(example: Example, spoil: Any, path: Any) -> None:
    rejection = rejected(example.topic, example.valid | spoil(example))
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("decode", "lone_surrogate", path(example))
    assert rejection.error.startswith(f"{path(example)}: a lone surrogate")


def test_lone_surrogate_in_a_fields_name_is_rejected_for_the_whole_message() -> None:
    rejection = rejected(EMOTION.topic, EMOTION.valid | {"\ud800": 1})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("decode", "lone_surrogate", None)
    assert rejection.error.startswith("a field's name: ")


def test_a_surrogate_pair_is_a_character() -> None:
    record = accepted(EMOTION.topic, encode(EMOTION.valid | {"segment_id": "😀"}))
    assert record.rows[0]["segment_id"] == "😀"


@every_topic_with_jsonb
@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda each: {each.text: "a\0b"}, "text"),
        (lambda each: {each.jsonb: {"a": ["\0"]}}, "jsonb"),
        (lambda each: {each.jsonb: {"a": [{"\0": 1}]}}, "jsonb"),
    ],
    ids=["in a text", "in a jsonb", "in a name inside a jsonb"],
)
def test_nul_is_rejected_with_its_field(example: Example, spoil: Any, name: str) -> None:
    path = getattr(example, name)
    rejection = rejected(example.topic, example.valid | spoil(example))
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", "nul_in_text", path)
    assert rejection.error.startswith(f"{path}: ") and "NUL" in rejection.error
    assert rejection.contract == example.contract


@every_topic_with_jsonb
def test_nul_that_no_column_would_hold_is_no_fault(example: Example) -> None:
    record = accepted(example.topic, example.valid | {"a\0b": 1, "c": "\0", example.jsonb: {"a": "\\u0000"}})
    assert record.unknown_fields == ("a\0b", "c")
    assert json.loads(record.rows[0][example.jsonb]) == {"a": "\\u0000"}


@every_topic_with_a_float
@every_embedded
def test_number_that_is_not_finite_is_rejected_with_its_field(example: Example, literal: str) -> None:
    rejection = rejected(example.topic, example.with_number(literal))
    assert (rejection.stage, rejection.reason) == ("contract", "finite_number")
    assert rejection.field_path == example.number
    assert rejection.error.startswith(f"{example.number}: ")


@every_topic_with_jsonb
@every_embedded
def test_jsonb_takes_no_number_that_is_not_finite(example: Example, literal: str) -> None:
    if literal.isdigit():
        record = accepted(example.topic, example.with_jsonb(literal))  # an integer of any size is a numeric
        assert json.loads(record.rows[0][example.jsonb]) == {"a": [1, {"b": int(literal)}]}
        return
    rejection = rejected(example.topic, example.with_jsonb(literal))
    assert (rejection.stage, rejection.reason) == ("contract", "finite_number")
    assert rejection.field_path == example.jsonb


@every_topic_with_jsonb
@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_jsonb_may_hold_the_words_for_what_is_not_finite(example: Example, word: str) -> None:
    record = accepted(example.topic, example.with_jsonb(f'"{word}"'))
    assert json.loads(record.rows[0][example.jsonb]) == {"a": [1, {"b": word}]}


@pytest.mark.parametrize(
    ("literal", "reason"),
    [
        (str(2**31), "less_than_equal"),
        (str(-(2**31) - 1), "greater_than_equal"),
        ("1.0", "int_type"),
        ("1e3", "int_type"),
        ("NaN", "int_type"),
        ("1e999", "int_type"),
        ("true", "int_type"),
        ('"1"', "int_type"),
    ],
)
def test_integer_column_takes_only_an_integer_that_it_can_hold(literal: str, reason: str) -> None:
    rejection = rejected(ARCHIVE.topic, ARCHIVE.with_number(literal))
    assert (rejection.stage, rejection.reason) == ("contract", reason)
    assert rejection.field_path == "screenshot_size_bytes"


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), 0])
def test_integer_at_the_edge_of_its_column_is_taken(value: int) -> None:
    record = accepted(ARCHIVE.topic, ARCHIVE.with_number(str(value)))
    assert record.rows[0]["screenshot_size_bytes"] == value


@every_topic_with_a_float
@pytest.mark.parametrize("literal", ['"0.5"', "true", "[0.5]", "{}"])
def test_only_a_number_serves_as_a_number(example: Example, literal: str) -> None:
    rejection = rejected(example.topic, example.with_number(literal))
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", "float_type", example.number)


@every_topic_with_a_float
def test_an_integer_serves_as_a_float(example: Example) -> None:
    record = accepted(example.topic, example.with_number("1"))
    name, _, index = example.number.rstrip("]").partition("[")
    value = record.rows[0][name][int(index)] if index else record.rows[0][name]
    assert value == 1.0 and type(value) is float


@every_topic
@pytest.mark.parametrize("literal", ["5", "true", "null", "[]", "{}"])
def test_only_a_text_serves_as_a_text(example: Example, literal: str) -> None:
    rejection = rejected(example.topic, example.valid | {example.text: json.loads(literal)})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", "string_type", example.text)


@pytest.mark.parametrize(
    ("example", "field", "value", "reason"),
    [
        (EMOTION, "confidence_score", 1.0001, "less_than_equal"),
        (EMOTION, "confidence_score", -0.0001, "greater_than_equal"),
        (EMOTION, "valence_score", 1.0001, "less_than_equal"),
        (EMOTION, "arousal_score", -1.0001, "greater_than_equal"),
        (EMOTION, "dominance_score", 2, "less_than_equal"),
        (POSITION, "latitude", 90.1, "less_than_equal"),
        (POSITION, "latitude", -90.1, "greater_than_equal"),
        (POSITION, "longitude", 180.1, "less_than_equal"),
        (POSITION, "longitude", -180.1, "greater_than_equal"),
        (LIKE, "embedding", [0.5] * 383, "too_short"),
        (LIKE, "embedding", [0.5] * 385, "too_long"),
        (LIKE, "embedding", [], "too_short"),
        (LIKE, "embedding", "[0.5]", "list_type"),
    ],
)
def test_value_out_of_range_is_rejected_with_its_field(example: Example, field: str, value: Any, reason: str) -> None:
    rejection = rejected(example.topic, example.valid | {field: value})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", reason, field)
    assert rejection.contract == example.contract


def test_embedding_that_a_real_can_not_hold_names_its_position() -> None:
    assert rejected(LIKE.topic, LIKE.with_number("1e39")).field_path == "embedding[7]"


@pytest.mark.parametrize(
    ("example", "field", "value"),
    [
        (EMOTION, "audio_features", 1),
        (EMOTION, "emotion_probabilities", "{}"),
        (POSITION, "metadata", 5),
        (LIKE, "metadata", "[]"),
        (LIKE, "extracted_content", "text"),
        (ARCHIVE, "extracted_links", 5),
        (ARCHIVE, "screenshot_dimensions", True),
    ],
)
def test_jsonb_of_the_wrong_shape_is_rejected_at_its_field(example: Example, field: str, value: Any) -> None:
    rejection = rejected(example.topic, example.valid | {field: value})
    assert (rejection.stage, rejection.field_path) == ("contract", field)
    assert rejection.error.startswith(f"{field}: ")


@every_topic
def test_three_megabytes_of_text_are_a_row(example: Example) -> None:
    text = "ä" * 1_500_000
    assert accepted(example.topic, example.valid | {example.text: text}).rows[0][example.text] == text


@every_topic_with_jsonb
def test_half_a_megabyte_of_jsonb_is_a_row(example: Example) -> None:
    document = {f"key {number}": [number, None, {"a": "ö"}] for number in range(16_000)}
    stored = accepted(example.topic, example.valid | {example.jsonb: document}).rows[0][example.jsonb]
    assert len(stored) > 500_000
    assert json.loads(stored) == document
