"""TimescaleDB in Alembic."""
