"""A timestamp is ISO 8601 with its zone, within the limits around the broker's, or the message is rejected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.decode import Decoder, TimestampLimits
from ingest.records import Record, Rejection
from tests.support.messages import NOW, FakeMessage, at, encode
from tests.unit.examples import ARCHIVE, EMOTION, EXAMPLES, LIKE, Example, accepted, rejected

every_topic = pytest.mark.parametrize("example", EXAMPLES, ids=str)
BAD = [
    ("2026-03-01T12:00:00", "timezone_aware"),
    ("2026-03-01 12:00:00.5", "timezone_aware"),
    ("1700000000", "string_pattern_mismatch"),
    ("1700000000000", "string_pattern_mismatch"),
    ("1700000000.5", "string_pattern_mismatch"),
    ("2026-03-01", "string_pattern_mismatch"),
    ("99999-01-01T00:00:00Z", "string_pattern_mismatch"),
    ("-2026-03-01T12:00:00Z", "string_pattern_mismatch"),
    ("yesterday", "string_pattern_mismatch"),
    ("", "string_pattern_mismatch"),
    ("2026-13-01T12:00:00Z", "datetime_from_date_parsing"),
    ("2026-02-30T12:00:00Z", "datetime_from_date_parsing"),
    ("2026-03-01T25:00:00Z", "datetime_from_date_parsing"),
    ("2026-03-01T12:00:00Z2", "datetime_from_date_parsing"),
    (1_700_000_000, "string_type"),
    (1_700_000_000.5, "string_type"),
    (True, "string_type"),
    (None, "string_type"),
    ({}, "string_type"),
]


@every_topic
@pytest.mark.parametrize(("value", "reason"), BAD)
def test_what_is_no_time_with_zone_is_rejected_with_its_field_path(example: Example, value: Any, reason: str) -> None:
    rejection = rejected(example.topic, example.valid | {"timestamp": value})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", reason, "timestamp")
    assert rejection.error.startswith("timestamp: ")
    assert rejection.contract == example.contract


@pytest.mark.parametrize("field", ["liked_at", "received_at", "embedding_timestamp", "extraction_timestamp"])
@pytest.mark.parametrize(("value", "reason"), [each for each in BAD if each[0] is not None])
def test_every_other_time_must_have_its_zone_too(field: str, value: Any, reason: str) -> None:
    rejection = rejected(LIKE.topic, LIKE.valid | {field: value})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", reason, field)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", NOW),
        ("2026-03-01t12:00:00z", NOW),
        ("2026-03-01 12:00:00+00:00", NOW),
        ("2026-03-01T12:00Z", NOW),
        ("2026-03-01T13:30:00+01:30", NOW),
        ("2026-03-01T07:00:00-0500", NOW),
        ("2026-03-01T12:00:00.123456Z", NOW.replace(microsecond=123456)),
        ("2026-03-01T12:00:00.123456789Z", NOW.replace(microsecond=123456)),
    ],
)
def test_every_common_form_of_a_time_is_read(text: str, moment: datetime) -> None:
    row = accepted(EMOTION.topic, EMOTION.valid | {"timestamp": text}).rows[0]
    assert row["timestamp"] == moment
    assert row["timestamp"].utcoffset() is not None


@every_topic
@pytest.mark.parametrize(
    ("text", "reason", "error"),
    [
        ("2099-01-01T00:00:00Z", "timestamp_ahead", "more than 86400 s ahead of the broker's time"),
        ("9999-12-31T23:59:59-14:00", "timestamp_ahead", "ahead"),
        ("1970-01-01T00:00:00Z", "timestamp_too_old", "before 2000-01-01T00:00:00+00:00"),
        ("0001-01-01T00:00:00+14:00", "timestamp_too_old", "before"),
    ],
)
def test_a_wrong_clock_is_a_contract_violation(example: Example, text: str, reason: str, error: str) -> None:
    rejection = rejected(example.topic, example.valid | {"timestamp": text})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", reason, "timestamp")
    assert rejection.error.startswith("timestamp: ") and error in rejection.error
    assert rejection.contract == example.contract


def _at(moment: datetime, *, broker: datetime) -> Record | Rejection:
    decode = Decoder(EMOTION.topic, TimestampLimits(max_skew_s=60, oldest=datetime(2020, 1, 1, tzinfo=UTC)))
    body = EMOTION.valid | {"timestamp": moment.isoformat()}
    return decode(FakeMessage(encode(body), timestamp=round(broker.timestamp() * 1000)))


@pytest.mark.parametrize("broker", [NOW, NOW + timedelta(days=365), datetime(2021, 5, 4, tzinfo=UTC)])
def test_timestamp_may_lie_as_far_ahead_of_the_brokers_as_the_limit_says_and_no_further(broker: datetime) -> None:
    edge = broker + timedelta(seconds=60)
    assert isinstance(_at(edge, broker=broker), Record)
    beyond = _at(edge + timedelta(milliseconds=1), broker=broker)
    assert isinstance(beyond, Rejection) and beyond.reason == "timestamp_ahead"


def test_timestamp_may_be_as_old_as_the_limit_says_and_no_older() -> None:
    edge = datetime(2020, 1, 1, tzinfo=UTC)
    assert isinstance(_at(edge, broker=NOW), Record)
    beyond = _at(edge - timedelta(milliseconds=1), broker=NOW)
    assert isinstance(beyond, Rejection) and beyond.reason == "timestamp_too_old"


def test_extraction_time_may_be_any_time() -> None:
    """It neither partitions a table nor decides who wins."""
    row = accepted(ARCHIVE.topic, ARCHIVE.valid | {"extraction_timestamp": "1999-01-01T00:00:00Z"}).rows[0]
    assert row["timestamp"].year == 1999


def test_record_without_a_time_of_its_own_is_held_against_the_clock() -> None:
    limits = TimestampLimits(86_400, datetime(2000, 1, 1, tzinfo=UTC))
    decode = Decoder(LIKE.topic, limits, clock=NOW.timestamp)
    for seconds, kind in ((86_400, Record), (86_401, Rejection)):
        message = FakeMessage(encode(LIKE.valid | {"timestamp": at(seconds)}), timestamp=-1)
        assert isinstance(decode(message), kind)


@pytest.mark.parametrize(
    ("skew_s", "broker_ms"),
    [(1e12, 0), (float("inf"), 0), (86_400, 10**17), (86_400, 253_402_300_799_000)],
    ids=["a limit after the year 9999", "no limit", "a broker's time after the year 9999", "its last second"],
)
def test_a_limit_that_no_calendar_has_refuses_nothing(skew_s: float, broker_ms: int) -> None:
    decode = Decoder(EMOTION.topic, TimestampLimits(skew_s, datetime(2000, 1, 1, tzinfo=UTC)))
    for _ in range(2):
        assert isinstance(decode(FakeMessage(encode(EMOTION.valid), timestamp=broker_ms)), Record)


def test_each_message_is_held_against_the_brokers_own_time_of_it() -> None:
    """Whatever came before, and in whatever order brokers' times come."""
    decode = Decoder(EMOTION.topic, TimestampLimits(60, datetime(2000, 1, 1, tzinfo=UTC)))
    now_ms = int(NOW.timestamp() * 1000)
    for broker_s, own_s, taken in [
        (0, 59, True), (0, 61, False), (100, 159, True), (100, 161, False), (0, 61, False), (0, 59, True),
        (-50, 11, False), (-50, 9, True), (1000, 1059, True), (0, 61, False),
    ]:  # fmt: skip
        item = decode(FakeMessage(encode(EMOTION.valid | {"timestamp": at(own_s)}), timestamp=now_ms + broker_s * 1000))
        assert isinstance(item, Record) is taken, (broker_s, own_s)
        assert isinstance(item, Rejection) is not taken
