"""The check at the start: everything that does not fit is named, and a few questions find it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.errors import SchemaError
from ingest.schema import check_schema
from tests.support.topics import LOOM


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("ALTER TABLE ingest_pauses RENAME TO ingest_breaks", "table ingest_pauses is missing"),
        (
            "ALTER TABLE emails_with_embeddings DROP COLUMN subject",
            "column emails_with_embeddings.subject is missing",
        ),
        (
            "ALTER TABLE emails_with_embeddings ALTER COLUMN folder TYPE varchar(7)",
            "column emails_with_embeddings.folder is VARCHAR(7), not TEXT",
        ),
        (
            "ALTER TABLE emails_with_embeddings ALTER COLUMN folder SET NOT NULL",
            "column emails_with_embeddings.folder is NOT NULL in the database",
        ),
        (
            "ALTER TABLE emails_with_embeddings ADD COLUMN mood text NOT NULL",
            "column emails_with_embeddings.mood is NOT NULL without default, and nothing fills it",
        ),
        (
            "ALTER TABLE twitter_likes_with_embeddings DROP CONSTRAINT twitter_likes_with_embeddings_pkey",
            "table twitter_likes_with_embeddings has no unique key (tweet_id)",
        ),
    ],
)
async def test_what_does_not_fit_is_named(engine: AsyncEngine, change: str, problem: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(change))
    with pytest.raises(SchemaError) as caught:
        await check_schema(engine, LOOM.values())
    assert str(caught.value) == (
        f"the database's schema does not fit this version: {problem}. Run `alembic upgrade head`"
    )


async def test_many_tables_cost_no_more_questions_than_a_few(engine: AsyncEngine) -> None:
    sent: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", remember)
    await check_schema(engine, LOOM.values())
    tables = {table.name for topic in LOOM.values() for table in topic.tables}
    assert 0 < len(sent) < len(tables)
