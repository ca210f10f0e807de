"""A copy takes a hypertable's place, and nothing tells the two apart. The copying itself needs no TimescaleDB."""

from __future__ import annotations

import pytest

from ingest.local.postgres import query
from ingest.timescale.statements import revert_hypertable

TABLE = """
CREATE TABLE "Doors" (
    id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz, opened int CHECK (opened >= 0), note text, n serial
)
"""


def test_a_copy_has_the_owner_and_counts_on(empty_database_url: str) -> None:
    url = empty_database_url
    role = f"keeper_{url.rsplit('/', 1)[1]}"  # roles are the server's, not the database's
    query(url, f"CREATE ROLE {role}")
    try:
        query(url, TABLE)
        query(url, """INSERT INTO "Doors" (at, opened) SELECT now(), n FROM generate_series(1, 5) n""")
        query(url, f"""ALTER TABLE "Doors" OWNER TO {role}""")
        query(url, revert_hypertable("""'"Doors"'"""))
        assert query(url, """INSERT INTO "Doors" (at) VALUES (now()) RETURNING id, n""") == [(6, 6)]
        query(url, revert_hypertable("""'"Doors"'"""))  # a copy's serial can be copied
        owner = """SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'Doors'"""
        assert query(url, owner) == [(role,)]
        assert query(url, "SELECT 1 FROM pg_constraint WHERE conname = 'Doors_opened_check'")
    finally:
        query(url, """DROP TABLE IF EXISTS "Doors\"""")
        query(url, f"DROP ROLE {role}")


@pytest.mark.parametrize("identity", ["NOTHING", "FULL", 'USING INDEX "Doors_key"'])
def test_a_copy_has_parameters_comments_replica_identity_and_grants(empty_database_url: str, identity: str) -> None:
    url = empty_database_url
    for statement in (
        TABLE,
        """ALTER TABLE "Doors" ALTER id SET NOT NULL, ADD CONSTRAINT "Doors_key" UNIQUE (id)""",
        """ALTER TABLE "Doors" SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05)""",
        """ALTER TABLE "Doors" SET (toast.autovacuum_enabled = false, toast.vacuum_truncate = false)""",
        """CREATE INDEX doors_opened ON "Doors" (opened)""",
        """COMMENT ON TABLE "Doors" IS 'the table''s'""",
        """COMMENT ON INDEX doors_opened IS 'the index''s'""",
        """COMMENT ON CONSTRAINT "Doors_key" ON "Doors" IS 'the key''s'""",
        """COMMENT ON CONSTRAINT "Doors_opened_check" ON "Doors" IS 'the check''s'""",
        f"""ALTER TABLE "Doors" REPLICA IDENTITY {identity}""",
        """GRANT SELECT, INSERT ON "Doors" TO pg_monitor WITH GRANT OPTION""",
        """GRANT SELECT ON "Doors" TO PUBLIC""",
    ):
        query(url, statement)
    seen = """
        SELECT c.oid::bigint, reloptions::text, relreplident::text, relacl::text,
            (SELECT relname::text FROM pg_index x JOIN pg_class i ON i.oid = indexrelid
             WHERE indrelid = c.oid AND indisreplident),
            (SELECT reloptions::text FROM pg_class t WHERE t.oid = c.reltoastrelid),
            obj_description(c.oid, 'pg_class'),
            (SELECT string_agg(obj_description(indexrelid, 'pg_class'), ',') FROM pg_index WHERE indrelid = c.oid),
            (SELECT string_agg(obj_description(o.oid, 'pg_constraint'), ',' ORDER BY conname)
             FROM pg_constraint o WHERE conrelid = c.oid)
        FROM pg_class c WHERE relname = 'Doors'
    """
    [(was, *before)] = query(url, seen)
    query(url, revert_hypertable("""'"Doors"'"""))
    [(copy, *after)] = query(url, seen)
    assert copy != was
    assert after == before


def test_a_replica_identity_whose_index_is_gone_is_none(empty_database_url: str) -> None:
    url = empty_database_url
    for statement in (
        TABLE,
        """ALTER TABLE "Doors" ALTER id SET NOT NULL, ADD CONSTRAINT "Doors_key" UNIQUE (id)""",
        """ALTER TABLE "Doors" REPLICA IDENTITY USING INDEX "Doors_key\"""",
        """ALTER TABLE "Doors" DROP CONSTRAINT "Doors_key\"""",
        """INSERT INTO "Doors" (opened) VALUES (1)""",
        revert_hypertable("""'"Doors"'"""),
    ):
        query(url, statement)
    assert query(url, 'SELECT id, opened FROM "Doors"') == [(1, 1)]


def test_a_publication_is_refused_rather_than_lost(empty_database_url: str) -> None:
    query(empty_database_url, TABLE)
    query(empty_database_url, 'CREATE PUBLICATION published FOR TABLE "Doors"')
    with pytest.raises(Exception, match="a publication, which a copy would lose"):
        query(empty_database_url, revert_hypertable("""'"Doors"'"""))


def test_privileges_of_columns_are_refused_rather_than_lost(empty_database_url: str) -> None:
    query(empty_database_url, TABLE)
    query(empty_database_url, """GRANT SELECT (at) ON "Doors" TO PUBLIC""")
    with pytest.raises(Exception, match="privileges of columns"):
        query(empty_database_url, revert_hypertable("""'"Doors"'"""))
