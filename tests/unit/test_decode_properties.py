"""Whatever arrives, decoding returns one record or one rejection; it never raises."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.dead_letters import MAX_TEXT, storable
from ingest.decode import Decoder
from ingest.records import Record, Rejection
from ingest.topics.contract import JsonText
from tests.support.messages import NOW, FakeMessage
from tests.unit.examples import EXAMPLES, LIMITS, Example

every_topic = pytest.mark.parametrize("example", EXAMPLES, ids=str)

texts = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates and NUL included
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.datetimes().map(str)
    | st.sampled_from(["v1", "v2", "2026-03-01T12:00:00Z", 2**31, 10**400, 1e-320])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


@st.composite
def mutated(draw: st.DrawFn, valid: dict[str, Any]) -> bytes:
    """A valid message with fields dropped, replaced, added or nested, and perhaps bytes changed."""
    body = copy.deepcopy(valid)
    names = st.sampled_from([*valid, "data", "metadata", "schema_version", "extracted_content"])
    for name in draw(st.lists(names, max_size=3)):
        match draw(st.sampled_from(["drop", "replace", "nest"])):
            case "drop":
                body.pop(name, None)
            case "replace":
                body[name] = draw(values)
            case "nest":
                body.setdefault("data", {})
                if isinstance(body["data"], dict):
                    body["data"][name] = body.pop(name, draw(values)) if name != "data" else draw(values)
    body |= draw(st.dictionaries(texts, values, max_size=2))
    raw = bytearray(json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(raw) - 1)) if raw else 0
        match draw(st.sampled_from(["set", "insert", "cut"])):
            case "set":
                raw[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                raw[place:place] = draw(st.binary(max_size=4) | st.sampled_from([b"NaN", b"1e999", b'"\\ud800"', b"["]))
            case "cut":
                del raw[place : place + draw(st.integers(1, 10))]
    return bytes(raw)


def check(example: Example, raw: bytes) -> None:
    message = FakeMessage(raw, topic=example.topic.name)
    item = Decoder(example.topic, LIMITS)(message)
    assert item.message is message
    if isinstance(item, Record):
        check_record(example, item)
    else:
        check_rejection(item)


def check_record(example: Example, record: Record) -> None:
    (row,) = record.rows
    columns = example.topic.writes[0].table.columns
    assert row.keys() == example.topic.columns_of(example.topic.writes[0]).keys()
    for name, value in row.items():
        assert value is not None or columns[name].nullable or columns[name].server_default is not None
        if isinstance(value, str):
            assert "\0" not in value
            value.encode()  # no lone surrogate
        if isinstance(value, JsonText):
            json.loads(value, parse_constant=pytest.fail)
    moment: datetime = row["message_timestamp"] if "message_timestamp" in row else row["timestamp"]
    assert LIMITS.oldest <= moment and (moment - NOW).total_seconds() <= LIMITS.max_skew_s


def check_rejection(rejection: Rejection) -> None:
    assert rejection.stage in ("decode", "contract")
    assert rejection.reason and rejection.error
    assert rejection.field_path != ""
    assert (rejection.contract is None) == (rejection.stage == "decode")
    for text in (rejection.reason, rejection.error, rejection.field_path, rejection.contract):
        stored = storable(text)
        assert stored is None or ("\0" not in stored and len(stored) <= MAX_TEXT)
        assert stored is None or stored.encode()


@every_topic
@settings(max_examples=300)
@given(data=st.data())
def test_any_mutation_of_a_valid_message_ends_as_one_record_or_one_rejection(
    example: Example, data: st.DataObject
) -> None:
    check(example, data.draw(mutated(example.valid)))


@every_topic
@settings(max_examples=100)
@given(raw=st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_end_as_one_record_or_one_rejection(example: Example, raw: bytes) -> None:
    check(example, raw)


@every_topic
@settings(max_examples=100)
@given(name=st.sampled_from(["a", "metadata", "data", "timestamp"]), value=values)
def test_decoding_twice_gives_the_same(example: Example, name: str, value: Any) -> None:
    raw = json.dumps(example.valid | {name: value}).encode()
    first, second = (Decoder(example.topic, LIMITS)(FakeMessage(raw)) for _ in range(2))
    assert repr(first) == repr(second)  # NaN is not equal to itself
