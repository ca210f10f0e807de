"""Every topic's messages in its real table: whole, with defaults, by its conflict rule, within its ranges."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import asyncpg
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.schema import check_schema
from ingest.topics import FirstWins, LastWins, Topic
from ingest.topics.columns import FULL_TEXT_CHARACTERS
from tests.support import messages
from tests.support.database import ROOT
from tests.support.topics import (
    ACCELEROMETER,
    CONTENT,
    EMAILS,
    EMOTIONS,
    FACES,
    GPS,
    LOOM,
    REASONING,
    VISION,
    VOICE,
    WORDS,
)
from tests.unit.examples import EXAMPLES, accepted
from tests.unit.loom_tables import LIFE

pytestmark = [pytest.mark.usefixtures("way"), pytest.mark.parametrize("way", ["values", "staged"], indirect=True)]
"""Rows end the same whichever way they go. What is staged goes by COPY, too."""

FIRST_WINS = [each for each in EXAMPLES if isinstance(each.topic.writes[0].rule, FirstWins)]
LAST_WINS = [each for each in EXAMPLES if isinstance(each.topic.writes[0].rule, LastWins)]
every_topic = pytest.mark.parametrize("topic", LOOM.values(), ids=LOOM)


def example_of(topic: Topic) -> dict[str, Any]:
    """The message that a producer's engineer finds in the documentation."""
    body: dict[str, Any] = json.loads((ROOT / "docs" / "messages" / f"{topic.name}.json").read_text())
    return body


async def rows(side: Any) -> list[dict[str, Any]]:
    return await side.rows(f"SELECT * FROM {side.topic.tables[0].name}")  # type: ignore[no-any-return]  # noqa: S608


async def test_the_live_schema_fits_every_topic(engine: AsyncEngine) -> None:
    await check_schema(engine, LOOM.values())


@every_topic
async def test_documented_example_becomes_a_row_with_every_column_filled(table: Any, topic: Topic) -> None:
    side = await table(topic)
    await side.write(example_of(topic))
    assert await side.counts() == (1, 0, 0)
    (row,) = await rows(side)
    assert [name for name, value in row.items() if value is None] == []
    assert row.keys() == {column.name for column in topic.tables[0].columns}


@every_topic
async def test_documented_example_sent_again_is_a_duplicate(table: Any, topic: Topic) -> None:
    side = await table(topic)
    await side.write(example_of(topic), example_of(topic))
    await side.write(example_of(topic))
    assert await side.counts() == (1, 2, 0)


async def test_bytes_lists_and_documents_are_stored_as_they_were_sent(table: Any) -> None:
    voice, chains, vision = await table(VOICE), await table(REASONING), await table(VISION)
    content = bytes(range(256))
    await voice.write(messages.voice(1, segment_audio_data=base64.b64encode(content).decode()))
    (row,) = await rows(voice)
    assert row["segment_audio_data"] == content
    topics = ['ä,{}"\\', "NULL", "", "a", "a"]
    await chains.write(messages.reasoning(1, key_topics=topics), messages.reasoning(2, key_topics=[]))
    found = {row["message_id"]: row["key_topics"] for row in await rows(chains)}
    assert found == {"m1": topics, "m2": []}
    await vision.write(messages.annotation(1, bounding_box={"x": -1, "y": 2.5, "width": 7, "height": 0}))
    (row,) = await vision.rows("SELECT bounding_box::text AS box FROM media_image_vision_annotations_raw")
    assert row["box"] == '{"x": -1, "y": 2.5, "width": 7, "height": 0}'


@pytest.mark.parametrize(
    ("topic", "body", "column", "default"),
    [
        (VOICE, messages.voice(1), "audio_channels", 1),
        (WORDS, messages.word(1), "language_code", "en"),
        (ACCELEROMETER, messages.acceleration(1), "unit", "m/s²"),
        *((each.topic, each.valid, "schema_version", "v1") for each in FIRST_WINS),
    ],
    ids=lambda value: value.name if isinstance(value, Topic) else value if isinstance(value, str) else "",
)
async def test_what_a_message_leaves_out_has_its_default(
    table: Any, topic: Topic, body: dict[str, Any], column: str, default: Any
) -> None:
    side = await table(topic)
    bare = {name: value for name, value in body.items() if topic.contract.model_fields[name].is_required()}
    nothing = {column: None} if column != "schema_version" else {}
    await side.write(bare, bare | nothing | {"device_id": "other"})
    assert [row[column] for row in await rows(side)] == [default, default]


async def test_an_emails_times_are_now_where_it_has_none(table: Any) -> None:
    emails = await table(EMAILS)
    await emails.write({"trace_id": "t", "timestamp": messages.at(0)})
    (row,) = await rows(emails)
    assert row["received_at"] == row["embedding_timestamp"] == row["created_at"]
    assert row["message_timestamp"].isoformat() == messages.at(0)


@pytest.mark.parametrize("example", FIRST_WINS, ids=str)
async def test_first_message_of_a_key_stays_and_each_part_of_the_key_tells_rows_apart(table: Any, example: Any) -> None:
    side = await table(example.topic)
    rule = example.topic.writes[0].rule
    same = example.valid | {"model_version": "later", "metadata": {"later": True}}
    others = [
        example.valid | {name: messages.at(99) if name == "timestamp" else 99 if name == "word_sequence" else "other"}
        for name in rule.key
    ]
    await side.write(example.valid, same)
    await side.write(*others)
    await side.write(same)
    assert await side.counts() == (1 + len(rule.key), 2, 0)
    assert "later" not in str(await rows(side))


@pytest.mark.parametrize("order", list(itertools.permutations((10, 20, 30))), ids=str)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
async def test_newest_email_sets_its_embedding_and_the_first_one_the_rest(
    table: Any, order: tuple[int, ...], together: bool
) -> None:
    emails = await table(EMAILS)
    bodies = [messages.email("t", seconds, embedding=[seconds / 100] * 384) for seconds in order]
    if together:
        await emails.write(*bodies)
    else:
        for body in bodies:
            await emails.write(body)
    (row,) = await emails.rows("SELECT *, embedding::text AS vector FROM emails_with_embeddings")
    assert (row["embedding_model"], row["vector"][:5]) == ("model at 30", "[0.3,")
    assert row["subject"] == f"subject at {order[0]}"
    assert row["message_timestamp"].isoformat() == messages.at(30)
    assert row["timestamp"].isoformat() == messages.at(order[0])


RANGES: list[tuple[Topic, str, list[float], list[float]]] = [
    *((topic, "confidence_score", [0, 1], [-0.001, 1.001]) for topic in (VOICE, WORDS, VISION, FACES, REASONING)),
    (EMOTIONS, "confidence_score", [0, 1], [-0.001, 1.001]),
    *((EMOTIONS, name, [-1, 1], [-1.001, 1.001]) for name in ("valence_score", "arousal_score", "dominance_score")),
    (VOICE, "duration_ms", [0], [-1]),
    (WORDS, "word_sequence", [0], [-1]),
    (GPS, "latitude", [-90, 90], [-90.001, 90.001]),
    (GPS, "longitude", [-180, 180], [-180.001, 180.001]),
]


@pytest.mark.parametrize(
    ("topic", "column", "inside", "outside"), RANGES, ids=[f"{each[0].name} {each[1]}" for each in RANGES]
)
async def test_ranges_hold_for_whoever_else_writes_to_the_table(
    engine: AsyncEngine, topic: Topic, column: str, inside: list[float], outside: list[float]
) -> None:
    (valid,) = [each.valid for each in EXAMPLES if each.topic is topic]
    row = {name: value for name, value in accepted(topic, valid).rows[0].items() if value is not None}
    statement = insert(topic.tables[0])
    for value in inside:
        async with engine.connect() as connection:
            await connection.execute(statement, row | {column: value})
    for value in outside:
        async with engine.connect() as connection:
            with pytest.raises(IntegrityError) as caught:
                await connection.execute(statement, row | {column: value})
        assert getattr(caught.value.orig, "sqlstate", None) == asyncpg.CheckViolationError.sqlstate


SEGMENTS = [(topic, name) for topic, life in LIFE.items() for name in life.segment_by]


@pytest.mark.parametrize(("topic", "column"), SEGMENTS, ids=[f"{topic.name} {name}" for topic, name in SEGMENTS])
async def test_a_text_that_would_keep_a_chunk_from_the_columnstore_is_a_dead_letter(
    table: Any, topic: Topic, column: str
) -> None:
    (valid,) = [each.valid for each in EXAMPLES if each.topic is topic]
    side = await table(topic)
    outcome = await side.write(valid | {column: "ä" * 500}, valid | {column: "ä" * 500 + "a", "message_id": "other"})
    assert await side.counts() == (1, 0, 1)
    assert outcome.rejections[0].constraint_name == f"{topic.tables[0].name}_{column}_check"


@pytest.mark.parametrize(
    ("topic", "column", "configuration", "word"),
    [
        (VISION, "ocr_text", "simple", "bicycles"),
        (CONTENT, "content_text", "simple", "königsberg"),
        (REASONING, "conclusion_text", "english", "meeting"),
    ],
    ids=["ocr_text", "content_text", "conclusion_text"],
)
async def test_words_are_found_by_the_index(
    table: Any, engine: AsyncEngine, topic: Topic, column: str, configuration: str, word: str
) -> None:
    (valid,) = [each.valid for each in EXAMPLES if each.topic is topic]
    side = await table(topic)
    await side.write(valid, valid | {"device_id": "other", column: "nothing of it"})
    searched = (
        f"SELECT device_id FROM {topic.tables[0].name} WHERE to_tsvector('{configuration}', "  # noqa: S608
        f"left({column}, {FULL_TEXT_CHARACTERS})) @@ to_tsquery('{configuration}', '{word}')"
    )
    assert await side.rows(searched) == [{"device_id": valid["device_id"]}]
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SET enable_seqscan = off")
        plan = "\n".join((await connection.exec_driver_sql(f"EXPLAIN {searched}")).scalars())
    assert "Bitmap Index Scan" in plan and "to_tsvector" in plan


async def test_no_text_of_the_longest_kind_is_refused_by_its_index(table: Any) -> None:
    """The tsvector of as many different words as a text can hold, in letters of four bytes, hyphenated: each is kept
    twice."""
    letters = [chr(0x20000 + number) for number in range(40_000)]
    text = " ".join(f"{one}-{other}" for one, other in zip(letters[::2], letters[1::2], strict=True))
    assert len(text) > FULL_TEXT_CHARACTERS
    pages = await table(CONTENT)
    await pages.write(messages.content(1, content_text=text))
    assert await pages.counts() == (1, 0, 0)
    (row,) = await pages.rows(
        f"SELECT pg_column_size(to_tsvector('simple', left(content_text, {FULL_TEXT_CHARACTERS})))::int AS size "  # noqa: S608
        "FROM task_url_processed_content_raw"
    )
    assert 2**20 * 0.4 < row["size"] < 2**20 * 0.6


async def test_nearest_emails_are_found_by_cosine(table: Any) -> None:
    emails = await table(EMAILS)
    near, far = [1.0] * 192 + [0.0] * 192, [0.0] * 192 + [1.0] * 192
    await emails.write(messages.email("near", embedding=near), messages.email("far", embedding=far))
    found = await emails.rows(
        "SELECT trace_id FROM emails_with_embeddings ORDER BY embedding <=> CAST(:vector AS vector) LIMIT 1",
        vector=str([0.9] * 192 + [0.1] * 192),
    )
    assert found == [{"trace_id": "near"}]
