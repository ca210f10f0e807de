"""The sample stream is what it says: its proportions, its faults, and the same again for the same seed."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ingest.decode import Decoder, TimestampLimits
from ingest.local.demo_screen import SHORT
from ingest.local.sample import SampleMessage, stream
from ingest.local.sample_faults import FAULTS, NOT_INDEXABLE
from ingest.local.sample_topics import ACCELEROMETER, ARCHIVED, EMAILS, GPS, LIKES, SENSORS, SHARES, WORDS
from ingest.records import Record, Rejection
from ingest.topics import load_topics

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
COUNT = 12_000


@dataclass
class Arrived:
    """A sample message as the broker hands it out."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int = 0
    offset: int = 0
    timestamp: int = int(NOW.timestamp() * 1000)


@pytest.fixture(scope="module")
def sample() -> list[SampleMessage]:
    return list(stream(COUNT, seed=5, now=NOW))


def decode(message: SampleMessage) -> Record | Rejection:
    limits = TimestampLimits(max_skew_s=86_400, oldest=datetime(2000, 1, 1, tzinfo=UTC))
    decoder = Decoder(load_topics(["ingest.topics"])[message.topic], limits)
    return decoder(Arrived(message.topic, message.key, message.value, message.headers))


def test_same_arguments_make_the_same_stream(sample: list[SampleMessage]) -> None:
    assert list(stream(COUNT, seed=5, now=NOW)) == sample
    assert list(stream(COUNT, seed=6, now=NOW)) != sample


@pytest.mark.parametrize("count", [0, 1, 2, 10, 500])
def test_makes_exactly_as_many_as_asked_for(count: int) -> None:
    assert len(list(stream(count, seed=1, now=NOW))) == count


def test_sensors_are_by_far_the_most(sample: list[SampleMessage]) -> None:
    counts = Counter(message.topic for message in sample)
    assert set(counts) == set(SHARES) == set(SHORT)
    assert 0.85 < (counts[GPS] + counts[ACCELEROMETER]) / COUNT < 0.90
    assert all(counts[topic] > COUNT / 1000 for topic in SHARES)


def test_every_topic_of_the_platform_is_in_the_stream() -> None:
    assert set(SHARES) == set(load_topics(["ingest.topics"]))
    assert sum(SHARES.values()) == pytest.approx(1)


def test_about_one_in_a_hundred_is_bad_in_every_way(sample: list[SampleMessage]) -> None:
    counts = Counter(message.fault for message in sample if message.fault)
    assert 0.007 < counts.total() / COUNT < 0.013
    assert set(counts) == {fault.name for fault in FAULTS}


def test_a_short_stream_has_every_fault_too() -> None:
    found = {message.fault for message in stream(3_000, seed=3, now=NOW)}
    assert found == {fault.name for fault in FAULTS} | {None}


def test_every_fault_can_befall_each_of_its_topics() -> None:
    rng = random.Random(7)
    good = {message.topic: message for message in stream(3_000, seed=4, now=NOW) if message.fault is None}
    assert set(good) == set(SHARES)
    for fault in FAULTS:
        for topic in fault.topics:
            message = good[topic]._replace(value=fault.spoil(good[topic].value, topic, rng), fault=fault.name)
            assert_refused(message)


def test_half_of_the_sensors_nest_their_values(sample: list[SampleMessage]) -> None:
    nested = Counter("data" in json.loads(m.value) for m in sample if m.topic == GPS and m.fault is None)
    assert 0.4 < nested[True] / nested.total() < 0.6


def test_some_are_delivered_again_byte_for_byte(sample: list[SampleMessage]) -> None:
    again = COUNT - len({(message.topic, message.value) for message in sample})
    assert 0.015 < again / COUNT < 0.025


def test_some_are_overtaken(sample: list[SampleMessage]) -> None:
    first_seen = list(dict.fromkeys(message.timestamp for message in sample))
    late = sum(later < earlier for earlier, later in pairwise(first_seen))
    assert 0.005 < late / COUNT < 0.02


def test_times_end_now(sample: list[SampleMessage]) -> None:
    assert NOW - timedelta(seconds=10) < max(message.timestamp for message in sample) <= NOW
    assert min(message.timestamp for message in sample) > NOW - timedelta(minutes=10)


def test_likes_and_archived_pages_come_in_both_orders(sample: list[SampleMessage]) -> None:
    first: dict[str, dict[tuple[str, ...], int]] = {LIKES: {}, ARCHIVED: {}}
    for position, message in enumerate(sample):
        if message.topic in first and message.fault is None:
            first[message.topic].setdefault(message.row_key, position)
    orders = Counter(first[LIKES][key] < first[ARCHIVED][key] for key in first[LIKES].keys() & first[ARCHIVED].keys())
    assert min(orders[True], orders[False]) > 10


@pytest.mark.parametrize("topic", [LIKES, EMAILS])
def test_some_texts_are_embedded_anew(sample: list[SampleMessage], topic: str) -> None:
    versions = {(m.row_key, m.timestamp) for m in sample if m.topic == topic and m.fault is None}
    assert len(versions) > len({key for key, _ in versions}) + 5


def test_a_sentence_comes_word_by_word(sample: list[SampleMessage]) -> None:
    sentences: dict[str, set[int]] = {}
    for message in sample:
        if message.topic == WORDS and message.fault is None:
            _, _, sentence, number = message.row_key
            sentences.setdefault(sentence, set()).add(int(number))
    assert max(map(len, sentences.values())) > 5
    assert all(0 <= number < 40 for numbers in sentences.values() for number in numbers)


def test_good_messages_are_accepted_whole(sample: list[SampleMessage]) -> None:
    for message in sample[:4_000]:
        if message.fault is None:
            record = decode(message)
            assert isinstance(record, Record), record
            assert record.unknown_fields == ()


def test_only_sensors_send_no_header(sample: list[SampleMessage]) -> None:
    assert {message.topic for message in sample if not message.headers} == SENSORS


def test_bad_messages_are_refused_where_they_should_be(sample: list[SampleMessage]) -> None:
    for message in sample:
        if message.fault is not None:
            assert_refused(message)


def assert_refused(message: SampleMessage) -> None:
    """By whom it should be; what only the database can refuse is a record until then."""
    stages = {fault.name: fault.stage for fault in FAULTS}
    assert message.fault is not None
    item = decode(message)
    if stages[message.fault] == "database":
        assert isinstance(item, Record), item
        assert any(len(str(value)) == NOT_INDEXABLE for value in item.rows[0].values())
    else:
        assert isinstance(item, Rejection), message
        assert item.stage == stages[message.fault]
