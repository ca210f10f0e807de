"""The types that contracts are written with."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest.topics import Contract, contract
from tests.support.messages import at


class Document(Contract):
    text: contract.JsonText | None = None
    object: contract.JsonObject | None = None
    array: contract.JsonArray | None = None
    document: contract.JsonDocument | None = None
    count: contract.Count | None = None
    real: contract.Float32 | None = None


def read(**fields: Any) -> Document:
    return Document.model_validate_json(json.dumps({"timestamp": at(0), **fields}))


KINDS = {"text": object, "object": dict, "array": list, "document": (dict, list)}
VALUES: list[Any] = [{}, {"a": [1, None, "ä"]}, [], [{"a": 1}], "text", "", 5, 1.5, True]


@pytest.mark.parametrize("field", KINDS)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_jsonb_field_takes_its_shape_and_no_other(field: str, value: Any) -> None:
    if isinstance(value, KINDS[field]):  # type: ignore[arg-type]
        stored = getattr(read(**{field: value}), field)
        assert type(stored) is str
        assert json.loads(stored) == value
    else:
        with pytest.raises(ValidationError):
            read(**{field: value})


@pytest.mark.parametrize("field", KINDS)
def test_absent_or_null_is_null(field: str) -> None:
    assert getattr(read(), field) is None
    assert getattr(read(**{field: None}), field) is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abäNaInfity\\u0", max_size=8), inner),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text("abcNaIy\\u0", max_size=8), json_values) | st.lists(json_values))
def test_jsonb_holds_exactly_what_was_sent(value: Any) -> None:
    stored = read(document=value).document
    assert stored is not None
    assert json.loads(stored) == value


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "1e999", '"\\u0000"', '{"\\u0000": 1}'])
@pytest.mark.parametrize("around", ["[%s]", '{"a": [{"b": %s}]}', '[{"NaN": "Infinity"}, [[%s]]]'])
def test_what_jsonb_can_not_hold_is_refused_however_deep(bad: str, around: str) -> None:
    raw = '{"timestamp": "%s", "document": %s}' % (at(0), around % bad)  # noqa: UP031 - JSON is full of braces
    with pytest.raises(ValidationError) as caught:
        Document.model_validate_json(raw)
    (error,) = caught.value.errors()
    assert error["type"] == ("nul_in_text" if "u0000" in bad else "finite_number")
    assert error["loc"] == ("document",)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "\\u0000", "\\\\u0000"])
def test_texts_that_only_look_like_it_are_taken(text: str) -> None:
    assert json.loads(read(document=[text, {text: 1}]).document or "") == [text, {text: 1}]


def test_encoded_json_passes_through_a_lift_as_it_is() -> None:
    first = read(document={"a": 1}, object={"b": 2})
    again = Document(timestamp=first.timestamp, document=first.document, object=first.object)
    assert (again.document, again.object) == ('{"a":1}', '{"b":2}')
    fresh = Document.model_validate({"timestamp": first.timestamp, "document": [1], "text": '"x"'})
    assert (fresh.document, fresh.text) == ("[1]", '"x"')
    with pytest.raises(ValidationError, match="is taken as JSON, and this is none"):
        Document.model_validate({"timestamp": first.timestamp, "text": "x"})


def test_encoded_json_keeps_its_depth_to_the_parsers_limit() -> None:
    deep: Any = 1
    for _ in range(190):
        deep = [deep]
    assert json.loads(read(document=deep).document or "") == deep


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", -1), ("count", 2**31), ("count", 1.0), ("real", 3.5e38), ("real", -1e300), ("real", "1")],
)
def test_number_that_its_column_can_not_hold_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        read(**{field: value})


def test_numbers_at_the_edge_are_taken() -> None:
    read_back = read(count=2**31 - 1, real=3.4028234663852886e38)
    assert read(count=0).count == 0
    assert read_back.count == 2**31 - 1 and read_back.real is not None and math.isfinite(read_back.real)


def test_contract_keeps_what_it_does_not_know_and_is_not_changed() -> None:
    document = read(colour="red")
    assert document.__pydantic_extra__ == {"colour": "red"}
    with pytest.raises(ValidationError, match="frozen"):
        document.count = 5  # type: ignore[misc]


def test_base_contract_wants_a_timestamp_and_gives_the_first_version() -> None:
    assert Contract.model_fields["timestamp"].is_required()
    assert read().schema_version == "v1"
