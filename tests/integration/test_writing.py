"""The writer on a real database: what becomes of messages, counted truly, in one transaction."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from ingest.dead_letters import decode_headers
from ingest.decode import Decoder
from ingest.writer import Span, Work
from tests.integration.conftest import LIMITS
from tests.support import messages
from tests.support.topics import ARCHIVED, EMOTIONS, GPS, LIKES, PLAIN

pytestmark = pytest.mark.usefixtures("way")
"""Rows end the same whichever way they go."""


async def test_rows_and_offset_move_together(table: Any) -> None:
    gps = await table(GPS)
    await gps.write(messages.gps(1), messages.gps(2), messages.gps(3))
    assert len(await gps.rows("SELECT * FROM device_sensor_gps_raw")) == 3
    (row,) = await gps.rows("SELECT * FROM ingest_offsets WHERE partition = 0")
    assert (row["next_offset"], row["last_offset"], row["written"]) == (3, 2, 3)


async def test_a_transaction_that_fails_leaves_neither_rows_nor_dead_letters_nor_a_moved_offset(table: Any) -> None:
    plain = await table(PLAIN)
    async with plain.engine.begin() as connection:
        await connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$"
        )
        await connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE UPDATE ON ingest_offsets FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        )
    with pytest.raises(DBAPIError, match="not now"):
        await plain.write(messages.plain("a"), b"bad")
    assert await plain.rows("SELECT * FROM test_plain") == []
    assert await plain.rows("SELECT * FROM ingest_dead_letters") == []
    assert await plain.rows("SELECT DISTINCT next_offset, last_offset FROM ingest_offsets") == [
        {"next_offset": 0, "last_offset": None}
    ]


async def test_every_column_of_a_message_reaches_its_row(table: Any) -> None:
    gps = await table(GPS)
    flat = messages.gps(1, altitude=34, accuracy=2.5, speed=0.1, bearing=359.9, metadata={"a": [1, {"b": None}]})
    nested = {"device_id": "old", "timestamp": messages.at(9), "data": {"latitude": -90, "longitude": 180}}
    await gps.write(flat, nested)
    first, second = await gps.rows("SELECT * FROM device_sensor_gps_raw ORDER BY device_id")
    assert json.loads(first["metadata"]) == {"a": [1, {"b": None}]}
    assert (first["altitude"], first["accuracy"], first["speed"], first["bearing"]) == (34, 2.5, 0.1, 359.9)
    assert (first["message_id"], first["schema_version"]) == ("m1", "v1")
    assert (second["latitude"], second["longitude"], second["metadata"]) == (-90, 180, None)
    assert second["created_at"] is not None


async def test_first_wins_and_later_messages_of_the_key_are_duplicates(table: Any) -> None:
    emotions = await table(EMOTIONS)
    await emotions.write(messages.emotion(1), messages.emotion(1, predicted_emotion="anger"), messages.emotion(2))
    await emotions.write(messages.emotion(2, predicted_emotion="anger"), messages.emotion(3))
    assert await emotions.counts() == (3, 2, 0)
    found = await emotions.rows("SELECT DISTINCT predicted_emotion FROM analysis_audio_emotion_scores_raw")
    assert found == [{"predicted_emotion": "joy"}]


async def test_a_table_without_a_key_takes_every_message(table: Any) -> None:
    plain = await table(PLAIN)
    await plain.write(messages.plain("a"), messages.plain("a"))
    assert await plain.counts() == (2, 0, 0)


async def test_newest_message_wins_whatever_the_order(table: Any) -> None:
    likes = await table(LIKES)
    await likes.write(messages.like("w1", 20), messages.like("w1", 10))
    await likes.write(messages.like("w1", 15))
    (row,) = await likes.rows("SELECT tweet_text, message_timestamp FROM twitter_likes_with_embeddings")
    assert row["tweet_text"] == "text at 20"
    assert row["message_timestamp"].isoformat() == messages.at(20)
    assert await likes.counts() == (1, 2, 0)


async def test_a_redelivered_newest_message_is_a_duplicate(table: Any) -> None:
    likes = await table(LIKES)
    await likes.write(messages.like("w1", 20))
    await likes.write(messages.like("w1", 20))
    assert await likes.counts() == (1, 1, 0)


async def test_a_newer_message_keeps_what_only_the_first_one_sets(table: Any) -> None:
    likes = await table(LIKES)
    await likes.write(messages.like("w1", 1, author_name="Ada"), messages.like("w1", 2, author_name="Eve"))
    await likes.write(messages.like("w1", 3, author_name="Bob", embedding=[0.25] * 384))
    (row,) = await likes.rows("SELECT author_name, tweet_text, embedding::text FROM twitter_likes_with_embeddings")
    assert (row["author_name"], row["tweet_text"]) == ("Ada", "text at 3")
    assert row["embedding"].startswith("[0.25,")


ORDERS = list(itertools.permutations(("like", "archive 1", "archive 2")))


LINKS = {number: [f"https://example.org/{number}"] for number in (1, 2)}
MEDIA = {number: [{"photo": number}] for number in (1, 2)}
FAILED = dict.fromkeys(("screenshot_path", "extracted_text", "extracted_links", "extracted_media"))
"""What an archived message changes that has nothing to show."""


@pytest.mark.parametrize("order", ORDERS, ids=[" → ".join(order) for order in ORDERS])
@pytest.mark.parametrize("together", [True, False], ids=["one batch each", "one by one"])
async def test_like_and_archived_page_end_in_one_row_in_every_order(
    table: Any, order: tuple[str, ...], together: bool
) -> None:
    likes, archived = await table(LIKES), await table(ARCHIVED)
    bodies = {
        "like": messages.like("w1", 5),
        "archive 1": messages.archived("w1", 10, extracted_links=LINKS[1], extracted_media=MEDIA[1]),
        "archive 2": messages.archived("w1", 20, extracted_links=LINKS[2], extracted_media=MEDIA[2]),
    }
    if together and order[0] != "like":
        await archived.write(*(bodies[name] for name in order if name != "like"))
        await likes.write(bodies["like"])
    else:
        for name in order:
            await (likes if name == "like" else archived).write(bodies[name])
    (row,) = await likes.rows("SELECT * FROM twitter_likes_with_embeddings")
    assert row["screenshot_url"] == "/screens/w1-20.png"
    assert json.loads(row["extracted_content"]) == {"text": "page at 20", "links": LINKS[2], "media": MEDIA[2]}
    assert row["extraction_timestamp"].isoformat() == messages.at(20)
    assert row["message_timestamp"].isoformat() == messages.at(5)
    (row,) = await archived.rows("SELECT extracted_links, extracted_media FROM twitter_extraction_results")
    assert [json.loads(value) for value in row.values()] == [LINKS[2], MEDIA[2]]


async def in_every_order(table: Any, first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """The likes' rows after each of ``ORDERS``, a tweet each; the archived messages with these changes."""
    likes, archived = await table(LIKES), await table(ARCHIVED)
    for number, order in enumerate(ORDERS):
        bodies = {
            "like": messages.like(f"w{number}", 5),
            "archive 1": messages.archived(f"w{number}", 10, extracted_links=LINKS[1]) | first,
            "archive 2": messages.archived(f"w{number}", 20, extracted_links=LINKS[2]) | second,
        }
        for name in order:
            await (likes if name == "like" else archived).write(bodies[name])
    found: list[dict[str, Any]] = await likes.rows("SELECT * FROM twitter_likes_with_embeddings ORDER BY tweet_id")
    return found


async def test_a_like_has_all_of_the_page_that_was_archived_after_a_failure(table: Any) -> None:
    found = await in_every_order(table, first=FAILED, second={})
    contents = [json.loads(row["extracted_content"]) for row in found]
    assert contents == [{"text": "page at 20", "links": LINKS[2], "media": []}] * len(ORDERS)


async def test_a_failed_archive_takes_no_page_from_a_like_that_has_it(table: Any) -> None:
    """Only here the order tells: an older page comes into the like while it is the newest, and not afterwards."""
    found = await in_every_order(table, first={}, second=FAILED)
    before = [order.index("archive 2") == len(order) - 1 for order in ORDERS]
    assert [row["screenshot_url"] is not None for row in found] == before
    kept = [json.loads(row["extracted_content"]) for row in found if row["screenshot_url"] is not None]
    assert kept == [{"text": "page at 10", "links": LINKS[1], "media": []}] * 2


async def test_an_archived_page_without_screenshot_leaves_the_like_alone(table: Any) -> None:
    likes, archived = await table(LIKES), await table(ARCHIVED)
    await likes.write(messages.like("w1"))
    await archived.write(messages.archived("w1", 10, screenshot_path=None))
    (row,) = await likes.rows("SELECT screenshot_url, extracted_content FROM twitter_likes_with_embeddings")
    assert row == {"screenshot_url": None, "extracted_content": None}


async def test_a_message_the_database_refuses_becomes_a_dead_letter_and_its_neighbours_are_written(table: Any) -> None:
    emotions = await table(EMOTIONS)
    too_long = "".join(f"{number:x}" for number in range(4000))  # over btree's 2,704 bytes, and compresses badly
    bodies = [messages.emotion(number) for number in range(50)]
    bodies[17]["segment_id"] = too_long
    outcome = await emotions.write(*bodies)
    assert await emotions.counts() == (49, 0, 1)
    (rejection,) = outcome.rejections
    assert (rejection.stage, rejection.sqlstate, rejection.message.offset) == ("database", "54000", 17)
    (letter,) = await emotions.rows("SELECT * FROM ingest_dead_letters")
    assert (letter["kafka_offset"], letter["stage"], letter["sqlstate"]) == (17, "database", "54000")
    assert letter["value"] == messages.encode(bodies[17])


async def test_one_bad_message_costs_logarithmically_many_statements(table: Any) -> None:
    likes = await table(LIKES)
    await likes.write(messages.like("other", trace_id="taken"))
    statements: list[str] = []
    event.listen(likes.engine.sync_engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    bodies = [messages.like(f"w{number}", embedding=None) for number in range(256)]
    bodies[200]["trace_id"] = "taken"  # a second unique key, which the conflict rule does not cover
    await likes.write(*bodies)
    assert await likes.counts() == (256, 0, 1)
    inserts = [statement for statement in statements if "INSERT INTO twitter_likes" in statement]
    # Bisection of 256 = 2^8: the whole, and two halves at each of eight levels.
    assert len(inserts) == 17


async def test_a_bad_message_of_two_tables_leaves_no_half_of_itself(table: Any) -> None:
    likes, archived = await table(LIKES), await table(ARCHIVED)
    await likes.write(messages.like("w1"), messages.like("w2"))
    async with likes.engine.begin() as connection:
        await connection.exec_driver_sql(
            "ALTER TABLE twitter_likes_with_embeddings ADD CONSTRAINT refuses CHECK (screenshot_url <> '/bad')"
        )
    await archived.write(messages.archived("w1", 1, screenshot_path="/bad"), messages.archived("w2", 1))
    assert await archived.counts() == (1, 0, 1)
    assert await archived.rows("SELECT tweet_id FROM twitter_extraction_results") == [{"tweet_id": "w2"}]
    (letter,) = await archived.rows("SELECT constraint_name FROM ingest_dead_letters")
    assert letter["constraint_name"] == "refuses"


async def test_a_dead_letter_keeps_bytes_and_headers_whole(table: Any) -> None:
    gps = await table(GPS)
    headers = (("trace", b"\x00\xff"), ("nothing", None), ("ü", b""))
    message = messages.FakeMessage(b"\xff\x00{", key=b"\x00k", topic=GPS.name, headers=headers)
    item = Decoder(GPS, LIMITS)(message)
    await gps.writer.write(Work([item], {0: Span(0, 1)}), gps.fuse)
    (letter,) = await gps.rows("SELECT * FROM ingest_dead_letters")
    assert (letter["key"], letter["value"]) == (b"\x00k", b"\xff\x00{")
    assert decode_headers(letter["headers"]) == list(headers)
