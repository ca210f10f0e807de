"""What the contracts of Loom's topics take and refuse: ranges at their edges, bytes, lists, boxes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.messages import NOW
from tests.unit.examples import (
    ANNOTATION,
    CHAIN,
    EMOTION,
    FACE,
    LIKE,
    MAIL,
    MOTION,
    PAGE,
    POSITION,
    SEGMENT,
    WORD,
    Example,
    accepted,
    rejected,
)

BOX = {"x": 12, "y": 34.5, "width": 200, "height": 0}


@pytest.mark.parametrize(
    ("example", "field", "low", "high"),
    [
        (SEGMENT, "duration_ms", 0, 2**31 - 1),
        (SEGMENT, "confidence_score", 0, 1),
        (SEGMENT, "audio_channels", -(2**31), 2**31 - 1),
        (WORD, "word_sequence", 0, 2**31 - 1),
        (WORD, "start_time_ms", -(2**31), 2**31 - 1),
        (WORD, "end_time_ms", -(2**31), 2**31 - 1),
        (WORD, "confidence_score", 0, 1),
        (ANNOTATION, "confidence_score", 0, 1),
        (ANNOTATION, "image_width", -(2**31), 2**31 - 1),
        (ANNOTATION, "image_height", -(2**31), 2**31 - 1),
        (FACE, "confidence_score", 0, 1),
        (FACE, "age_estimate", -(2**31), 2**31 - 1),
        (CHAIN, "confidence_score", 0, 1),
        (PAGE, "content_length", -(2**31), 2**31 - 1),
        (PAGE, "processing_duration_ms", -(2**31), 2**31 - 1),
    ],
)
def test_range_ends_where_it_should(example: Example, field: str, low: int, high: int) -> None:
    for value in (low, high):
        assert accepted(example.topic, example.valid | {field: value}).rows[0][field] == value
    beyond = 1 if high > 1 else 0.0001
    for value, reason in ((low - beyond, "greater_than_equal"), (high + beyond, "less_than_equal")):
        rejection = rejected(example.topic, example.valid | {field: value})
        assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", reason, field)


@pytest.mark.parametrize("field", ["x", "y", "z"])
@pytest.mark.parametrize("value", [0, -9.81, 1.7976931348623157e308, 5e-324])
def test_acceleration_takes_every_finite_number(field: str, value: float) -> None:
    assert accepted(MOTION.topic, MOTION.valid | {field: value}).rows[0][field] == value


def test_acceleration_is_not_nested_as_positions_of_older_apps_are() -> None:
    nested = {name: value for name, value in MOTION.valid.items() if name not in "xyz"} | {"data": {"x": 1}}
    rejection = rejected(MOTION.topic, nested)
    assert (rejection.reason, rejection.field_path) == ("missing", "x")


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xfe\0\0", bytes(range(256)) * 4000])
def test_audio_is_stored_as_the_bytes_that_were_encoded(content: bytes) -> None:
    message = SEGMENT.valid | {"segment_audio_data": base64.b64encode(content).decode()}
    assert accepted(SEGMENT.topic, message).rows[0]["segment_audio_data"] == content


@pytest.mark.parametrize(
    "text",
    [
        "AQ",
        "AQ=",
        "AQ==\n",
        "AQ==\r\n",
        "A Q==",
        "AQ==AQ==",
        "AAAA=",
        "AR==",  # bits that no byte has
        "_-8=",  # the alphabet for URLs
        "=",
        "data:audio/wav;base64,AQ==",
        "ü",
        "AQ==\0",
    ],
)
def test_what_is_no_strict_base64_is_rejected_and_told_what_is(text: str) -> None:
    rejection = rejected(SEGMENT.topic, SEGMENT.valid | {"segment_audio_data": text})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", "base64", "segment_audio_data")
    assert "RFC 4648, section 4" in rejection.error


@pytest.mark.parametrize("value", [5, [1, 2], {"a": 1}, True])
def test_audio_must_be_a_text(value: Any) -> None:
    rejection = rejected(SEGMENT.topic, SEGMENT.valid | {"segment_audio_data": value})
    assert (rejection.reason, rejection.field_path) == ("string_type", "segment_audio_data")


@pytest.mark.parametrize("field", ["segment_start_time", "segment_end_time"])
@pytest.mark.parametrize("value", ["2026-03-01T12:00:00", "1700000000", 1_700_000_000, None])
def test_a_segments_times_need_their_zone(field: str, value: Any) -> None:
    rejection = rejected(SEGMENT.topic, SEGMENT.valid | {field: value})
    assert (rejection.stage, rejection.field_path) == ("contract", field)


@pytest.mark.parametrize(("example", "field"), [(CHAIN, "key_topics"), (PAGE, "tags")], ids=str)
@pytest.mark.parametrize(
    ("value", "reason", "where"),
    [
        (["a", None], "string_type", "[1]"),
        ([["a"]], "string_type", "[0]"),
        (["a", 5], "string_type", "[1]"),
        ([{"a": 1}], "string_type", "[0]"),
        ("a", "list_type", ""),
        ({"a": 1}, "list_type", ""),
        (["a", "b\0"], "nul_in_text", ""),
    ],
)
def test_a_list_of_texts_holds_texts_alone(example: Example, field: str, value: Any, reason: str, where: str) -> None:
    rejection = rejected(example.topic, example.valid | {field: value})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", reason, field + where)


@pytest.mark.parametrize("texts", [[], [""], ["a", "a"], ['ä,{}"\\NULL', "NULL", " "]])
def test_a_list_of_texts_is_stored_as_it_is(texts: list[str]) -> None:
    assert accepted(CHAIN.topic, CHAIN.valid | {"key_topics": texts}).rows[0]["key_topics"] == texts


@pytest.mark.parametrize(
    ("box", "reason", "where"),
    [
        ({"x": 1, "y": 2, "width": 3}, "missing", ".height"),
        (BOX | {"width": -0.1}, "greater_than_equal", ".width"),
        (BOX | {"height": -1}, "greater_than_equal", ".height"),
        (BOX | {"x": "1"}, "float_type", ".x"),
        (BOX | {"y": None}, "float_type", ".y"),
        (BOX | {"y": True}, "float_type", ".y"),
        (BOX | {"x": float("inf")}, "finite_number", ".x"),
        (BOX | {"label": "\0"}, "nul_in_text", ""),
        ([1, 2, 3, 4], "dict_type", ""),
        ("1,2,3,4", "dict_type", ""),
    ],
)
def test_a_bounding_box_has_its_four_numbers(box: Any, reason: str, where: str) -> None:
    rejection = rejected(ANNOTATION.topic, ANNOTATION.valid | {"bounding_box": box})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", reason, f"bounding_box{where}")


def test_a_bounding_box_is_stored_as_it_was_sent() -> None:
    row = accepted(ANNOTATION.topic, ANNOTATION.valid | {"bounding_box": BOX | {"x": -5, "rotation": 1.5}}).rows[0]
    assert row["bounding_box"] == '{"x":-5,"y":34.5,"width":200,"height":0,"rotation":1.5}'


@pytest.mark.parametrize(
    ("example", "field", "value"),
    [
        (WORD, "word_boundaries", "text"),
        (ANNOTATION, "object_attributes", 5),
        (FACE, "face_bounding_box", "1,2,3,4"),
        (FACE, "facial_landmarks", 5),
        (FACE, "emotion_intensities", 0.5),
        (CHAIN, "reasoning_chain", None),
        (CHAIN, "reasoning_chain", "because"),
        (CHAIN, "input_sources", True),
        (CHAIN, "entities_mentioned", "Ada"),
        (CHAIN, "temporal_context", 5),
        (CHAIN, "spatial_context", "here"),
        (PAGE, "extracted_metadata", "text"),
        (MAIL, "headers", "From: ada"),
        (MAIL, "attachments", 5),
        (MAIL, "metadata", "client: web"),
        (MOTION, "metadata", True),
    ],
)
def test_jsonb_of_the_wrong_shape_is_rejected_at_its_field(example: Example, field: str, value: Any) -> None:
    rejection = rejected(example.topic, example.valid | {field: value})
    assert (rejection.stage, rejection.field_path) == ("contract", field)


@pytest.mark.parametrize(
    ("example", "field"),
    [
        (EMOTION, "emotion_probabilities"),
        (EMOTION, "audio_features"),
        (FACE, "emotion_intensities"),
        *((example, "metadata") for example in (MAIL, LIKE, POSITION, MOTION)),
    ],
    ids=str,
)
@pytest.mark.parametrize("text", ['[{"label":"joy","score":0.75},{"label":"calm","score":0.25}]', '{"joy":0.75}', "[]"])
def test_scores_and_metadata_may_be_a_list_or_an_object(example: Example, field: str, text: str) -> None:
    assert accepted(example.topic, example.valid | {field: json.loads(text)}).rows[0][field] == text


@pytest.mark.parametrize("reasoning", [[], {}, [{"step": 1}], {"steps": ["a"]}])
def test_reasoning_may_be_a_list_of_steps_or_an_object(reasoning: Any) -> None:
    assert accepted(CHAIN.topic, CHAIN.valid | {"reasoning_chain": reasoning}).rows[0]["reasoning_chain"] is not None


@pytest.mark.parametrize("length", [0, 383, 385])
def test_an_emails_embedding_has_384_numbers(length: int) -> None:
    rejection = rejected(MAIL.topic, MAIL.valid | {"embedding": [0.5] * length})
    assert rejection.field_path == "embedding"


def test_an_email_needs_no_more_than_its_trace_and_its_time() -> None:
    row = accepted(MAIL.topic, {"trace_id": "t", "timestamp": NOW.isoformat()}).rows[0]
    assert {name for name, value in row.items() if value is not None} == {"trace_id", "timestamp", "message_timestamp"}
