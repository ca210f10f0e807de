"""A copy takes a hypertable's place, and nothing tells the two apart. The copying itself needs no TimescaleDB."""

from __future__ import annotations

import pytest

from ingest.local.postgres import query
from ingest.timescale.statements import revert_hypertable

TABLE = (
    """CREATE TABLE "Doors" (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz, opened int CHECK (opened >= 0))"""
)


def test_a_copy_has_the_owner_and_counts_on(empty_database_url: str) -> None:
    url = empty_database_url
    role = f"keeper_{url.rsplit('/', 1)[1]}"  # roles are the server's, not the database's
    query(url, f"CREATE ROLE {role}")
    try:
        query(url, TABLE)
        query(url, """INSERT INTO "Doors" (at, opened) SELECT now(), n FROM generate_series(1, 5) n""")
        query(url, f"""ALTER TABLE "Doors" OWNER TO {role}""")
        query(url, revert_hypertable("""'"Doors"'"""))
        assert query(url, """INSERT INTO "Doors" (at) VALUES (now()) RETURNING id""") == [(6,)]
        owner = """SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'Doors'"""
        assert query(url, owner) == [(role,)]
        assert query(url, "SELECT 1 FROM pg_constraint WHERE conname = 'Doors_opened_check'")
    finally:
        query(url, """DROP TABLE IF EXISTS "Doors\"""")
        query(url, f"DROP ROLE {role}")


def test_privileges_of_columns_are_refused_rather_than_lost(empty_database_url: str) -> None:
    query(empty_database_url, TABLE)
    query(empty_database_url, """GRANT SELECT (at) ON "Doors" TO PUBLIC""")
    with pytest.raises(Exception, match="privileges of columns"):
        query(empty_database_url, revert_hypertable("""'"Doors"'"""))
