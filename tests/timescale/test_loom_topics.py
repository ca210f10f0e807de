"""Loom's topics on a real TimescaleDB, where most of their tables are hypertables: rows end as on PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.topics import Topic
from tests.integration.conftest import Table
from tests.integration.test_loom_topics import (  # noqa: F401 - pytest finds them by their names
    test_a_text_that_would_keep_a_chunk_from_the_columnstore_is_a_dead_letter,
    test_bytes_lists_and_documents_are_stored_as_they_were_sent,
    test_documented_example_becomes_a_row_with_every_column_filled,
    test_documented_example_sent_again_is_a_duplicate,
    test_first_message_of_a_key_stays_and_each_part_of_the_key_tells_rows_apart,
    test_nearest_emails_are_found_by_cosine,
    test_the_live_schema_fits_every_topic,
    test_words_are_found_by_the_index,
)

pytestmark = [pytest.mark.usefixtures("way"), pytest.mark.parametrize("way", ["staged"], indirect=True)]
"""By COPY and ON CONFLICT both. Which way rows go makes no difference to what they are."""


@pytest.fixture
def engine(shared_timescale_engine: AsyncEngine) -> AsyncEngine:
    return shared_timescale_engine


@pytest.fixture
def table(engine: AsyncEngine) -> Callable[[Topic], Awaitable[Table]]:
    return lambda topic: Table(engine, topic).begin()
