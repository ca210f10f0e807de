"""Alembic's entry: which tables are this project's, and that its migrations run one at a time."""

from alembic import context

import ingest.schema  # noqa: F401 - whose imports add the service's own tables to `service_metadata`
from ingest.migrate import run_migrations
from ingest.tables import service_metadata
from ingest.topics import load_topics
from ingest.topics.columns import metadata

load_topics(["ingest.topics"])  # whose modules add their tables to `metadata`
run_migrations(context, [service_metadata, metadata])
