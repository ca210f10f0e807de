"""A dead letter keeps the message's bytes as they were, and its texts are such that PostgreSQL takes them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.dead_letters import MAX_TEXT, _row, dead_letters, decode_headers, encode_headers, storable
from ingest.records import Rejection
from tests.support.messages import FakeMessage

anything = st.text(st.characters(exclude_categories=()))
# A name as it is read: UTF-8, or what stands for bytes that are none (see ingest.lenient).
names = st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
headers = st.lists(st.tuples(names, st.none() | st.binary()))


@given(headers)
@example([("", b""), ("", None), ("\udced\udca0\udc80", b"\xff"), ("a\0b", b"\0" * 300)])
def test_headers_come_back_as_they_were(given: list[tuple[str, bytes | None]]) -> None:
    assert decode_headers(encode_headers(given)) == given


def test_no_headers_are_nothing() -> None:
    assert encode_headers(()) is None
    assert decode_headers(None) == []


def test_headers_have_the_documented_layout() -> None:
    assert encode_headers([("ä", b"xyz"), ("n", None)]) == (
        b"\0\0\0\x02\xc3\xa4\0\0\0\x03xyz" + b"\0\0\0\x01n\xff\xff\xff\xff"
    )


@given(anything)
@example("\ud800" * MAX_TEXT)
@example("x" * (MAX_TEXT - 1) + "\ud83d\ude00")
@example("\0" * (MAX_TEXT + 1))
def test_storable_text_is_what_postgresql_takes_and_no_longer_than_allowed(text: str) -> None:
    stored = storable(text)
    assert stored is not None
    assert "\0" not in stored
    assert stored.encode().decode() == stored
    assert len(stored) <= MAX_TEXT


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=MAX_TEXT))
def test_text_that_postgresql_takes_stays_as_it_is(text: str) -> None:
    assert storable(text) == text


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (None, None),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\udfff", "\ufffd"),
        ("😀" * 3000, "😀" * MAX_TEXT),
    ],
    ids=["none", "nul", "high surrogate", "low surrogate", "long"],
)
def test_what_it_does_not_take_becomes_one_replacement_character(text: str | None, stored: str | None) -> None:
    assert storable(text) == stored


def test_row_keeps_the_message_whole_and_says_where_and_why() -> None:
    message = FakeMessage(
        b"\xff\0", offset=7, partition=3, topic="t", key=b"\0", timestamp=11, headers=(("h", b"\0"), ("n", None))
    )
    rejection = Rejection(
        message,
        "database",
        "23505",
        "duplicate \ud800",
        field_path="a\0",
        contract="GpsReading v1",
        sqlstate="23505",
        constraint_name="key",
        attempts=4,
    )
    row = _row("group", rejection)
    assert decode_headers(row.pop("headers")) == [("h", b"\0"), ("n", None)]
    assert row == {
        "consumer_group": "group",
        "topic": "t",
        "partition": 3,
        "kafka_offset": 7,
        "kafka_timestamp": 11,
        "key": b"\0",
        "value": b"\xff\0",
        "stage": "database",
        "reason": "23505",
        "field_path": "a\ufffd",
        "sqlstate": "23505",
        "constraint_name": "key",
        "error": "duplicate \ufffd",
        "attempts": 4,
        "contract": "GpsReading v1",
    }


@pytest.mark.parametrize(
    "rejection",
    [
        Rejection(FakeMessage(None), "decode", "no_value", "no value"),
        Rejection(FakeMessage(b"", headers=(("a", None),)), "contract", "missing", "missing", "a", "C v1"),
    ],
    ids=["decode", "contract"],
)
def test_every_row_has_the_same_keys_and_fills_what_must_not_be_null(rejection: Rejection) -> None:
    row = _row("group", rejection)
    assert row.keys() == {column.name for column in dead_letters.c} - {"id", "created_at", "resolution"}
    for name, value in row.items():
        assert value is not None or dead_letters.c[name].nullable
