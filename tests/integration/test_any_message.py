"""Whatever is sent ends as exactly one row's message or one dead letter, in the real database, and nothing stops."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.fuse import Fuse
from ingest.records import Rejection
from ingest.topics import Topic
from ingest.writer import Span, Work, Writer
from tests.integration.conftest import GROUP, Table
from tests.support import messages
from tests.support.mutations import mutated
from tests.support.topics import ARCHIVED, CONTENT, EMAILS, EMOTIONS, GPS, LIKES, REASONING, VISION, WORDS
from tests.unit.examples import EXAMPLES

pytestmark = [pytest.mark.usefixtures("way"), pytest.mark.parametrize("way", ["values", "staged"], indirect=True)]
"""Rows end the same whichever way they go. What is staged goes by COPY, too."""

every_topic = pytest.mark.parametrize(
    ("topic", "valid"), [(each.topic, each.valid) for each in EXAMPLES], ids=[str(each) for each in EXAMPLES]
)


@every_topic
async def test_mutated_messages_end_once_each(
    engine: AsyncEngine, table: Any, topic: Topic, valid: dict[str, Any]
) -> None:
    side: Table = await table(topic)
    loop = asyncio.get_running_loop()
    written = 0

    def write(batch: list[bytes]) -> None:
        nonlocal written
        items = side.items(batch, written)
        work = Work(items, {0: Span(written, written + len(items))})
        # A writer of its own each time: mutated messages are all bad, which would open a fuse.
        coroutine = Writer(engine, GROUP, topic).write(work, Fuse())
        outcome = asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)
        step = outcome.steps[0]
        assert step.written + step.duplicate + step.dead_lettered == len(batch)
        assert len(outcome.rejections) == step.dead_lettered >= sum(isinstance(item, Rejection) for item in items)
        written += len(batch)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(batch=st.lists(mutated(valid), min_size=1, max_size=12))
    def run(batch: list[bytes]) -> None:
        write(batch)

    await asyncio.to_thread(run)
    assert sum(await side.counts()) == written > 0
    (letters,) = await side.rows("SELECT count(*)::int AS n FROM ingest_dead_letters")
    assert letters["n"] == (await side.counts())[2]


def long_and_random(length: int) -> str:
    """A text that PostgreSQL can't compress under its limits."""
    return "".join(random.Random(length).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


def words(count: int) -> str:
    """As many different words."""
    return " ".join(f"word{number:x}" for number in range(count))


LIMITS: list[tuple[str, Topic, dict[str, Any], str | None]] = [
    ("3 MB of text", ARCHIVED, messages.archived("w1", extracted_text=long_and_random(3_000_000)), None),
    (
        "half a megabyte of jsonb",
        GPS,
        messages.gps(1, metadata={str(number): number / 7 for number in range(30_000)}),
        None,
    ),
    ("an indexed text of 10 kB", EMOTIONS, messages.emotion(1, predicted_emotion=long_and_random(10_000)), "23514"),
    ("a device of 10 kB", GPS, messages.gps(1, device_id=long_and_random(10_000)), "23514"),
    ("a key of 10 kB", EMOTIONS, messages.emotion(1, segment_id=long_and_random(10_000)), "54000"),
    ("a number too small for real", EMOTIONS, messages.emotion(1, valence_score=1e-300), None),
    ("a year 1 with an offset", LIKES, messages.like("w1", liked_at="0001-01-01T00:00:00+14:00"), "22000"),
    ("a number of 4,000 digits in jsonb", GPS, messages.gps(1, metadata={"a": 10**4000}), None),
    ("a word of 10 kB", WORDS, messages.word(1, word_text=long_and_random(10_000)), "54000"),
    ("a speaker of 10 kB", WORDS, messages.word(1, speaker_id=long_and_random(10_000)), "54000"),
    ("a class of 10 kB", VISION, messages.annotation(1, object_class=long_and_random(10_000)), "23514"),
    ("a text in an image with 1.5 MB of words", VISION, messages.annotation(1, ocr_text=words(150_000)), None),
    ("a conclusion with 1.5 MB of words", REASONING, messages.reasoning(1, conclusion_text=words(150_000)), None),
    ("a page with 1.5 MB of words", CONTENT, messages.content(1, content_text=words(150_000)), None),
    ("a page of one word of 3 MB", CONTENT, messages.content(1, content_text=long_and_random(3_000_000)), None),
    ("a topic of 10 kB", REASONING, messages.reasoning(1, key_topics=[long_and_random(10_000)]), "54000"),
    ("100,000 topics", REASONING, messages.reasoning(1, key_topics=[f"t{n}" for n in range(100_000)]), None),
    ("a tag of 10 kB", CONTENT, messages.content(1, tags=[long_and_random(10_000)]), None),
    ("a category of 10 kB", CONTENT, messages.content(1, category=long_and_random(10_000)), "54000"),
    ("a sender of 10 kB", EMAILS, messages.email("w1", sender_email=long_and_random(10_000)), "54000"),
    ("a body of 3 MB", EMAILS, messages.email("w1", body_text=long_and_random(3_000_000)), None),
    ("an embedding that underflows", LIKES, messages.like("w1", embedding=[1e-300] * 384), None),
]


@pytest.mark.parametrize(
    ("topic", "body", "sqlstate"), [limit[1:] for limit in LIMITS], ids=[limit[0] for limit in LIMITS]
)
async def test_what_only_the_database_can_judge_ends_once(
    table: Any, topic: Topic, body: dict[str, Any], sqlstate: str | None
) -> None:
    side: Table = await table(topic)
    (neighbour,) = [each.valid for each in EXAMPLES if each.topic is topic]
    identity = {"tweet_id": "w2", "trace_id": "w2", "message_id": "w2", "device_id": "w2"}
    outcome = await side.write(body, neighbour | {name: identity[name] for name in identity if name in neighbour})
    assert [rejection.sqlstate for rejection in outcome.rejections] == ([sqlstate] if sqlstate else [])
    assert await side.counts() == ((1, 0, 1) if sqlstate else (2, 0, 0))
