"""The ways of many rows: which is taken, and that none of them loses, repeats or miscounts a row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from ingest import statements
from ingest.database import Failure, classify, create_engine
from ingest.errors import TransientError
from ingest.local.postgres import query
from ingest.settings import DatabaseSettings
from tests.integration.conftest import Seen, Table
from tests.support import messages
from tests.support.topics import EMOTIONS, LIKES, PLAIN, VOICE

MANY = 150
"""Enough for every way."""
EMOTION_SCORES = "analysis_audio_emotion_scores_raw"


def emotions(start: int, count: int = MANY, **changes: Any) -> list[dict[str, Any]]:
    return [messages.emotion(number, **changes) for number in range(start, start + count)]


@pytest.fixture
async def ordinary(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The service's engine as a role that owns nothing and may only read and write rows."""
    role = f"role_{uuid4().hex[:8]}"
    query(database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'ordinary'")
    query(database_url, f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
    parts = urlsplit(database_url)
    url = parts._replace(netloc=f"{role}:ordinary@{parts.hostname}:{parts.port}").geturl()
    engine = create_engine(DatabaseSettings(url=url, min_pool_size=1, max_pool_size=4), application_name="kafka-role")
    yield engine
    await engine.dispose()
    query(database_url, f"DROP OWNED BY {role}")
    query(database_url, f"DROP ROLE {role}")


async def test_the_way_goes_by_rule_type_and_number(table: Any, engine: AsyncEngine) -> None:
    seen = Seen(engine)
    few, some = statements.COPY_FROM_ROWS, statements.STAGE_FROM_ROWS
    first, plain, last = await table(EMOTIONS), await table(PLAIN), await table(LIKES)
    ways = {}
    for name, side, bodies in (
        ("first wins, few", first, emotions(0, few - 1)),
        ("first wins", first, emotions(1000, few)),
        ("no key", plain, [messages.plain(str(number)) for number in range(few)]),
        ("last wins, few", last, [messages.like(str(number)) for number in range(some - 1)]),
        ("last wins", last, [messages.like(f"w{number}") for number in range(some)]),
    ):
        outcome = await side.write(*bodies)
        assert outcome.steps[0].written == len(bodies)
        ways[name] = seen.way(side.topic.tables[0].name)
    assert ways == {
        "first wins, few": "values",
        "first wins": "copy",
        "no key": "copy",
        "last wins, few": "values",
        "last wins": "staged",
    }


async def test_rows_are_the_same_on_each_way(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    side: Table = await table(VOICE)
    body = {"audio_channels": None, "confidence_score": 0.1, "voice_activity_threshold": 1e-300}
    seen = Seen(side.engine)
    ways = []
    for copy_from, stage_from in ((1, 1000), (1, 1), (1000, 1000)):
        monkeypatch.setattr(statements, "COPY_FROM_ROWS", copy_from)
        monkeypatch.setattr(statements, "STAGE_FROM_ROWS", stage_from)
        side.writer._tables[0]._staged_batches = int(stage_from == 1)
        number = len(ways)
        await side.write(messages.voice(1, message_id=f"m{number}", **body))
        ways.append(seen.way("media_audio_voice_segments_raw"))
    assert ways == ["copy", "staged", "values"]
    first, *others = [
        {name: value for name, value in row.items() if name not in ("message_id", "created_at")}
        for row in await side.rows("SELECT * FROM media_audio_voice_segments_raw")
    ]
    assert others == [first, first]
    assert (first["audio_channels"], first["voice_activity_threshold"]) == (1, 0)


async def test_a_row_that_is_there_already_sends_the_next_batches_by_staging(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "STAGED_BATCHES", 2)
    side: Table = await table(EMOTIONS)
    seen = Seen(side.engine)
    ways = []
    await side.write(*emotions(0))
    ways.append(seen.way(EMOTION_SCORES))
    await side.write(*emotions(MANY - 10))  # ten of them again
    ways.append(seen.way(EMOTION_SCORES))
    assert await side.counts() == (2 * MANY - 10, 10, 0)
    for number in (2, 3, 4):
        await side.write(*emotions(number * MANY))
        ways.append(seen.way(EMOTION_SCORES))
    assert ways == ["copy", "staged", "staged", "staged", "copy"]
    assert await side.counts() == (5 * MANY - 10, 10, 0)
    (row,) = await side.rows(f"SELECT count(*)::int AS n FROM {EMOTION_SCORES}")  # noqa: S608
    assert row["n"] == 5 * MANY - 10


async def test_a_default_for_some_rows_and_a_value_for_others(table: Any) -> None:
    side: Table = await table(VOICE)
    seen = Seen(side.engine)
    bodies = [messages.voice(number, audio_channels=None if number % 2 else 2) for number in range(MANY)]
    await side.write(*bodies)
    assert seen.way("media_audio_voice_segments_raw") == "staged"
    found = await side.rows("SELECT audio_channels, count(*)::int FROM media_audio_voice_segments_raw GROUP BY 1")
    assert sorted(tuple(row.values()) for row in found) == [(1, MANY // 2), (2, MANY // 2)]


async def test_rows_that_a_trigger_leaves_out_are_counted_as_not_written(table: Any, database_url: str) -> None:
    query(database_url, "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    query(
        database_url,
        f"CREATE TRIGGER leave BEFORE INSERT ON {EMOTION_SCORES} FOR EACH ROW WHEN (NEW.segment_id = 's7') "
        "EXECUTE FUNCTION leave()",
    )
    side: Table = await table(EMOTIONS)
    await side.write(*emotions(0))
    assert await side.counts() == (MANY - 1, 1, 0)


async def test_a_value_that_the_driver_cannot_send_is_one_dead_letter(table: Any) -> None:
    side: Table = await table(LIKES)
    bodies = [messages.like(str(number)) for number in range(MANY)]
    bodies[70]["liked_at"] = "0001-01-01T00:00:00+14:00"
    await side.write(*bodies)
    assert await side.counts() == (MANY - 1, 0, 1)
    (letter,) = await side.rows("SELECT kafka_offset, sqlstate FROM ingest_dead_letters")
    assert letter == {"kafka_offset": 70, "sqlstate": "22000"}


OWN_TYPE = """
CREATE TYPE own_text;
CREATE FUNCTION own_in(cstring) RETURNS own_text LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION own_out(own_text) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE own_text (INPUT = own_in, OUTPUT = own_out, LIKE = text);
CREATE CAST (text AS own_text) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (varchar AS own_text) WITHOUT FUNCTION AS ASSIGNMENT;
ALTER TABLE test_plain ALTER identity TYPE own_text USING identity::own_text
"""


async def test_a_column_that_is_of_another_type_than_declared_is_staged(table: Any, database_url: str) -> None:
    """As citext is, where text is declared: the driver knows no binary form of it."""
    for statement in OWN_TYPE.split(";\n"):
        query(database_url, statement)
    side: Table = await table(PLAIN)
    seen = Seen(side.engine)
    await side.write(*(messages.plain(str(number)) for number in range(MANY)))
    assert seen.way("test_plain") == "staged"
    assert await side.counts() == (MANY, 0, 0)


TOO_LONG = "".join(f"{number:x}" for number in range(4000))
"""Over a B-tree's 2,704 bytes, and it compresses badly."""


async def test_refused_rows_among_many_are_found_in_the_server(table: Any) -> None:
    side: Table = await table(EMOTIONS)
    await side.write(*emotions(1000, 5))
    bodies = emotions(0)
    refused = {0: "54000", 70: "23514", 71: "54000", MANY - 1: "23514"}
    for number, sqlstate in refused.items():
        bodies[number] |= {"segment_id": TOO_LONG} if sqlstate == "54000" else {"predicted_emotion": "a" * 1001}
    bodies[7:9] = emotions(1000, 2)  # two that are there
    seen = Seen(side.engine)
    await side.write(*bodies)
    # At once, the search, and those that a CHECK refuses by themselves.
    assert len([each for each in seen.statements if f"INSERT INTO {EMOTION_SCORES} " in each]) == 3
    assert await side.counts() == (5 + MANY - 2 - 4, 2, 4)
    letters = await side.rows("SELECT * FROM ingest_dead_letters ORDER BY kafka_offset")
    assert {letter["kafka_offset"] - 5: letter["sqlstate"] for letter in letters} == refused
    assert letters[1]["constraint_name"] == f"{EMOTION_SCORES}_predicted_emotion_check"
    assert letters[1]["error"].endswith(
        f'violates check constraint "{EMOTION_SCORES}_predicted_emotion_check" (SQLSTATE 23514)'
    )
    assert all(2 < letter["attempts"] < 9 for letter in letters if letter["sqlstate"] == "54000")
    assert all(letter["attempts"] <= 2 for letter in letters if letter["sqlstate"] == "23514")
    (row,) = await side.rows(f"SELECT count(*)::int AS n FROM {EMOTION_SCORES}")  # noqa: S608
    assert row["n"] == 5 + MANY - 2 - 4


async def test_a_row_is_not_lost_with_a_refused_one_of_its_key(table: Any, database_url: str) -> None:
    query(database_url, f"ALTER TABLE {EMOTION_SCORES} ADD CONSTRAINT angry CHECK (predicted_emotion <> 'anger')")
    side: Table = await table(EMOTIONS)
    bodies = emotions(0)
    bodies[70:72] = messages.emotion(70, predicted_emotion="anger"), messages.emotion(70)
    await side.write(*bodies)
    assert await side.counts() == (MANY - 1, 0, 1)
    found = await side.rows(f"SELECT predicted_emotion FROM {EMOTION_SCORES} WHERE segment_id = 's70'")  # noqa: S608
    assert found == [{"predicted_emotion": "joy"}]


CHECK = "ALTER TABLE test_plain ADD CONSTRAINT refuses CHECK (identity NOT LIKE 'no%')"
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
CREATE TRIGGER refuse {when} INSERT ON test_plain FOR EACH ROW WHEN (NEW.identity LIKE 'no%') EXECUTE FUNCTION refuse()
"""
REFUSED = {
    "none": set(),
    "the first": {0},
    "the last": {MANY - 1},
    "neighbours": {63, 64, 65, 127, 128},
    "every third": set(range(0, MANY, 3)),
    "all": set(range(MANY)),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize(
    ("refuses", "sqlstate"),
    [(CHECK, "23514"), (REFUSE.format(when="BEFORE"), "P0001"), (REFUSE.format(when="AFTER"), "P0001")],
    ids=["by a constraint", "before a row is there", "after all rows are there"],
)
async def test_exactly_the_refused_rows_are_found(
    table: Any, database_url: str, refuses: str, sqlstate: str, refused: set[int]
) -> None:
    for statement in refuses.split(";\n"):
        query(database_url, statement)
    side: Table = await table(PLAIN)
    outcome = await side.write(*(messages.plain(f"{'no' if n in refused else ''}{n}") for n in range(MANY)))
    assert {each.message.offset for each in outcome.rejections} == refused
    assert {each.sqlstate for each in outcome.rejections} <= {sqlstate}
    assert await side.counts() == (MANY - len(refused), 0, len(refused))
    found = {int(row["identity"]) for row in await side.rows("SELECT identity FROM test_plain")}
    assert found == set(range(MANY)) - refused


async def test_what_refuses_no_row_ends_the_search(table: Any, database_url: str) -> None:
    """Here a deadlock, by its code: the batch is tried again, and nothing becomes a dead letter."""
    query(
        database_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'no' USING ERRCODE = CASE NEW.identity WHEN '70' THEN '40P01' ELSE '23514' END; END$$",
    )
    query(
        database_url,
        "CREATE TRIGGER refuse BEFORE INSERT ON test_plain FOR EACH ROW WHEN (NEW.identity IN ('3', '70')) "
        "EXECUTE FUNCTION refuse()",
    )
    side: Table = await table(PLAIN)
    bodies = [messages.plain(str(number)) for number in range(MANY)]
    with pytest.raises(DBAPIError) as caught:
        await side.write(*bodies)
    assert classify(caught.value) is Failure.TRANSIENT
    assert await side.counts() == (0, 0, 0)


async def test_a_deferred_constraint_is_looked_for_message_by_message(table: Any, database_url: str) -> None:
    query(
        database_url,
        "ALTER TABLE test_plain ADD CONSTRAINT once UNIQUE (identity) DEFERRABLE INITIALLY DEFERRED",
    )
    side: Table = await table(PLAIN)
    bodies = [messages.plain(str(number % (MANY - 1))) for number in range(MANY)]
    with pytest.raises(TransientError, match="refused at COMMIT"):
        await side.write(*bodies)
    await side.write(*bodies)
    assert await side.counts() == (MANY - 1, 0, 1)


async def test_a_role_without_temporary_tables_writes_all_the_same_and_says_it_once(
    ordinary: AsyncEngine, database_url: str
) -> None:
    query(database_url, f"REVOKE TEMPORARY ON DATABASE {database_url.rpartition('/')[2]} FROM PUBLIC")
    seen = Seen(ordinary)
    side = await Table(ordinary, LIKES).begin()
    with capture_logs() as logs:
        await side.write(*(messages.like(str(number)) for number in range(MANY)))
        assert seen.way("twitter_likes_with_embeddings") == "values"
        await ordinary.dispose()  # connections made anew say it no second time
        await side.write(*(messages.like(str(number)) for number in range(MANY)))
    assert await side.counts() == (MANY, MANY, 0)
    assert [each["event"] for each in logs] == ["temporary tables are not allowed; many rows take longer"]
    straight = await Table(ordinary, EMOTIONS).begin()
    await straight.write(*emotions(0))
    assert seen.way(EMOTION_SCORES) == "copy"
    await straight.write(*emotions(0))
    assert seen.way(EMOTION_SCORES) == "values"
    assert await straight.counts() == (MANY, MANY, 0)


async def test_a_table_that_takes_no_copy_is_written_by_staging(ordinary: AsyncEngine, database_url: str) -> None:
    query(database_url, f"ALTER TABLE {EMOTION_SCORES} ENABLE ROW LEVEL SECURITY")
    query(database_url, f"CREATE POLICY everything ON {EMOTION_SCORES} USING (true)")
    seen = Seen(ordinary)
    side = await Table(ordinary, EMOTIONS).begin()
    with capture_logs() as logs:
        for start in (0, MANY):
            await side.write(*emotions(start))
            assert seen.way(EMOTION_SCORES) == "staged"
    assert await side.counts() == (2 * MANY, 0, 0)
    assert [each["event"] for each in logs] == ["a table takes no COPY; its rows are staged"]


async def test_rows_are_staged_again_after_a_transaction_that_was_rolled_back(table: Any) -> None:
    side: Table = await table(LIKES)
    bodies = [messages.like(str(number)) for number in range(MANY)]
    async with side.engine.connect() as connection:
        rows = [item.rows[0] for item in side.items(bodies)]  # type: ignore[union-attr]
        await connection.begin()
        await side.writer._tables[0].write(connection, rows)
        await connection.rollback()
        await connection.begin()
        assert await side.writer._tables[0].write(connection, rows) == [True] * MANY
        # Twice in one transaction: what was staged before is not written again.
        assert await side.writer._tables[0].write(connection, rows[:120]) == [False] * 120
        await connection.commit()
    assert len(await side.rows("SELECT 1 FROM twitter_likes_with_embeddings")) == MANY


async def test_a_connection_that_ends_within_a_copy_is_transient(table: Any, database_url: str) -> None:
    query(
        database_url,
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END'",
    )
    for name, when in (
        (EMOTION_SCORES, "NEW.segment_id = 's7'"),
        ("twitter_likes_with_embeddings", "NEW.tweet_id = '7'"),
    ):
        query(
            database_url,
            f"CREATE TRIGGER die BEFORE INSERT ON {name} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION die()",
        )
    for side, bodies in (
        (await table(EMOTIONS), emotions(0)),
        (await table(LIKES), [messages.like(str(number)) for number in range(MANY)]),
    ):
        with pytest.raises(Exception) as caught:
            await side.write(*bodies)
        assert classify(caught.value) is Failure.TRANSIENT
        query(database_url, f"DROP TRIGGER die ON {side.topic.tables[0].name}")
        await side.write(*bodies)
        assert await side.counts() == (MANY, 0, 0)


async def test_a_statement_timeout_within_a_copy_is_transient(table: Any, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    query(
        database_url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'",
    )
    query(
        database_url,
        f"CREATE TRIGGER slow BEFORE INSERT ON {EMOTION_SCORES} FOR EACH ROW WHEN (NEW.segment_id = 's7') "
        "EXECUTE FUNCTION slow()",
    )
    query(database_url, f"ALTER DATABASE {name} SET statement_timeout = '300ms'")
    side: Table = await table(EMOTIONS)
    await side.engine.dispose()
    with pytest.raises(Exception) as caught:
        await side.write(*emotions(0))
    assert classify(caught.value) is Failure.TRANSIENT
    query(database_url, f"DROP TRIGGER slow ON {EMOTION_SCORES}")
    await side.write(*emotions(0))
    assert await side.counts() == (MANY, 0, 0)
