"""What the documentation shows to a producer's engineer goes through Kafka and a service into its tables."""

from __future__ import annotations

import json

from tests.acceptance.conftest import System
from tests.support.database import ROOT
from tests.support.topics import ARCHIVED, LIKES, LOOM, SERVED
from tests.support.waiting import eventually

EXAMPLES = {topic: (ROOT / "docs" / "messages" / f"{topic.name}.json").read_bytes() for topic in LOOM.values()}


async def test_each_documented_message_ends_as_a_row_of_its_table(system: System) -> None:
    await system.create_topics(system.topic(topic) for topic in LOOM.values() if topic not in SERVED)
    system.service(LOOM_TOPICS="tests.support.every_topic")
    for topic, example in EXAMPLES.items():
        await system.produce(topic, [example])

    async def accounts() -> dict[str, tuple[int, int, int]]:
        """Written, duplicate and dead-lettered of each topic of which something is."""
        rows = await system.sql(
            "SELECT topic, sum(written)::int AS w, sum(duplicate)::int AS d, sum(dead_lettered)::int AS l "
            "FROM ingest_offsets GROUP BY topic HAVING sum(written + duplicate + dead_lettered) > 0"
        )
        return {row["topic"]: (row["w"], row["d"], row["l"]) for row in rows}

    found = await eventually(accounts, until=lambda found: len(found) == len(EXAMPLES))
    assert found == {system.topic(topic): (1, 0, 0) for topic in EXAMPLES}
    tables = [topic.tables[0].name for topic in LOOM.values()]
    assert {table: len(await system.sql(f"SELECT FROM {table}")) for table in tables} == dict.fromkeys(tables, 1)

    like, archived = (json.loads(EXAMPLES[topic]) for topic in (LIKES, ARCHIVED))
    (row,) = await system.sql("SELECT tweet_id, tweet_text, screenshot_url FROM twitter_likes_with_embeddings")
    assert row == {
        "tweet_id": archived["tweet_id"],
        "tweet_text": like["tweet_text"],
        "screenshot_url": archived["screenshot_path"],
    }
