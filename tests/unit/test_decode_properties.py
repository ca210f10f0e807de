"""Whatever arrives, decoding returns one record or one rejection; it never raises."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON

from ingest.dead_letters import MAX_TEXT, storable
from ingest.decode import Decoder
from ingest.records import Record, Rejection
from tests.support.messages import NOW, FakeMessage
from tests.support.mutations import mutated, values
from tests.unit.examples import EXAMPLES, LIMITS, Example

every_topic = pytest.mark.parametrize("example", EXAMPLES, ids=str)


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
        if value is not None and isinstance(columns[name].type, JSON):
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
