"""The SQL that TimescaleDB takes for each operation. Names and intervals are a revision's, never a message's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ingest.hypertables import OrderBy, interval
from ingest.timescale.query import preparer, quoted


def create_hypertable(table: str, time_column: str, chunk_interval: timedelta) -> str:
    """Rows that the table has already go into chunks. Its indexes are those that it declares."""
    return (
        f"SELECT create_hypertable({table}, by_range({_text(time_column)}, {_interval(chunk_interval)}), "
        "create_default_indexes => false, migrate_data => true)"
    )


def revert_hypertable(table: str) -> str:
    """Copies a hypertable into an ordinary table that takes its place; TimescaleDB itself has no way back.

    The copy has the columns, defaults, keys, indexes, checks, comments, privileges, storage parameters, replica
    identity and owner; an identity or a serial counts on. Triggers, row security, privileges of single columns and a
    publication are refused rather than lost; whatever else depends on the table makes PostgreSQL refuse.
    """
    return f"""
DO $revert$
DECLARE
    hypertable CONSTANT regclass := {table}::regclass;
    place CONSTANT text := (
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = hypertable
    );
    called CONSTANT text := (SELECT format('%I', relname) FROM pg_class WHERE oid = hypertable);
    schema CONSTANT text := (
        SELECT format('%I', n.nspname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = hypertable
    );
    columns CONSTANT text := (
        SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = hypertable AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    );
    serials CONSTANT jsonb := (
        SELECT coalesce(jsonb_agg(jsonb_build_object('sequence', s.oid::regclass::text, 'name', a.attname)), '[]')
        FROM pg_depend d
        JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
            AND d.refobjid = hypertable AND d.deptype = 'a'
    );
    following text[];
    statement text;
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', place);
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = hypertable AND NOT tgisinternal AND tgname NOT LIKE 'ts\\_%')
        OR (SELECT relrowsecurity FROM pg_class WHERE oid = hypertable)
        OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = hypertable AND attacl IS NOT NULL)
        OR EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = hypertable)
    THEN
        RAISE EXCEPTION '% has triggers, row security, privileges of columns or a publication, which a copy would lose',
            place;
    END IF;
    SELECT array_agg(each.statement ORDER BY each.step, each.statement) INTO following FROM (
        SELECT 1 AS step, format('ALTER TABLE %s ADD CONSTRAINT %I %s', place, conname, pg_get_constraintdef(oid))
            AS statement
        FROM pg_constraint WHERE conrelid = hypertable AND contype IN ('p', 'u', 'x', 'f')
        UNION ALL
        SELECT 2, pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indrelid = hypertable
            AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.conrelid = hypertable)
        UNION ALL
        SELECT 3, format('GRANT %s ON %s TO %s%s', g.privilege_type, place,
            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM pg_class c, aclexplode(c.relacl) g WHERE c.oid = hypertable AND g.grantee <> c.relowner
        UNION ALL
        SELECT 4, format('COMMENT ON TABLE %s IS %L', place, d.description)
        FROM pg_description d
        WHERE d.classoid = 'pg_class'::regclass AND d.objoid = hypertable AND d.objsubid = 0
        UNION ALL
        SELECT 4, format('COMMENT ON CONSTRAINT %I ON %s IS %L', c.conname, place, d.description)
        FROM pg_constraint c JOIN pg_description d ON d.classoid = 'pg_constraint'::regclass AND d.objoid = c.oid
        WHERE c.conrelid = hypertable AND c.contype IN ('p', 'u', 'x', 'f')
        UNION ALL
        SELECT 4, format('COMMENT ON INDEX %s.%I IS %L', schema, c.relname, d.description)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid
        WHERE i.indrelid = hypertable
        UNION ALL
        SELECT 5, format('SELECT setval(pg_get_serial_sequence(%L, %L), max(%I)) FROM %s',
            place, attname, attname, place)
        FROM pg_attribute WHERE attrelid = hypertable AND attidentity <> '' AND NOT attisdropped
        UNION ALL
        SELECT 6, format('ALTER TABLE %s SET (%s)', place, array_to_string(reloptions, ', '))
        FROM pg_class WHERE oid = hypertable AND reloptions IS NOT NULL
        UNION ALL
        SELECT 6, format('ALTER TABLE %s SET (toast.%s)', place, array_to_string(t.reloptions, ', toast.'))
        FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid
        WHERE c.oid = hypertable AND t.reloptions IS NOT NULL
        UNION ALL
        SELECT 7, format('ALTER TABLE %s REPLICA IDENTITY %s', place, CASE c.relreplident
            WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL' ELSE format('USING INDEX %I', i.relname) END)
        FROM pg_class c
        LEFT JOIN pg_index x ON x.indrelid = c.oid AND x.indisreplident
        LEFT JOIN pg_class i ON i.oid = x.indexrelid
        WHERE c.oid = hypertable AND c.relreplident <> 'd' AND (c.relreplident <> 'i' OR i.relname IS NOT NULL)
        UNION ALL
        SELECT 8, format('ALTER TABLE %s OWNER TO %I', place, pg_get_userbyid(relowner))
        FROM pg_class WHERE oid = hypertable
        UNION ALL
        SELECT 9, format('ALTER SEQUENCE %s OWNED BY %s.%I', each.sequence, place, each.name)
        FROM jsonb_to_recordset(serials) AS each (sequence text, name text)
    ) AS each;
    EXECUTE format('CREATE TABLE %s.timescale_reverted (LIKE %s INCLUDING ALL EXCLUDING INDEXES)', schema, place);
    EXECUTE format('INSERT INTO %s.timescale_reverted (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s',
        schema, columns, columns, place);
    FOR statement IN SELECT value ->> 'sequence' FROM jsonb_array_elements(serials) LOOP
        EXECUTE format('ALTER SEQUENCE %s OWNED BY NONE', statement);  -- or it would go with the table
    END LOOP;
    EXECUTE format('DROP TABLE %s', place);
    EXECUTE format('ALTER TABLE %s.timescale_reverted RENAME TO %s', schema, called);
    FOREACH statement IN ARRAY coalesce(following, '{{}}') LOOP
        EXECUTE statement;
    END LOOP;
END
$revert$
"""  # noqa: S608 - the name is quoted


def set_chunk_interval(table: str, chunk_interval: timedelta) -> str:
    """For chunks that are made from now on."""
    return f"SELECT set_chunk_time_interval({table}, {_interval(chunk_interval)})"


def enable_columnstore(table: str, segment_by: Sequence[str], order_by: Sequence[str]) -> str:
    """Changed settings are for chunks that are converted from now on."""
    settings = ["timescaledb.enable_columnstore"]
    settings.append(f"timescaledb.segmentby = {_text(', '.join(map(preparer.quote, segment_by)))}")
    if order_by:
        settings.append(f"timescaledb.orderby = {_text(', '.join(_order(each) for each in order_by))}")
    return f"ALTER TABLE {table} SET ({', '.join(settings)})"


def disable_columnstore(table: str) -> tuple[str, str]:
    """Two statements: chunks that are columns become rows again, then the setting goes."""
    convert = f"""
DO $convert$
DECLARE
    chunk regclass;
BEGIN
    FOR chunk IN
        SELECT format('%I.%I', c.chunk_schema, c.chunk_name)::regclass
        FROM timescaledb_information.chunks c, pg_class t, pg_namespace n
        WHERE t.oid = {literal(table)}::regclass AND n.oid = t.relnamespace
            AND c.hypertable_schema = n.nspname AND c.hypertable_name = t.relname AND c.is_compressed
    LOOP
        CALL convert_to_rowstore(chunk);
    END LOOP;
END
$convert$
"""  # noqa: S608 - the name is quoted
    return convert, f"ALTER TABLE {table} SET (timescaledb.enable_columnstore = false)"


def add_columnstore_policy(table: str, after: timedelta) -> str:
    return f"CALL add_columnstore_policy({table}, after => {_interval(after)})"


def remove_columnstore_policy(table: str) -> str:
    return f"CALL remove_columnstore_policy({table}, if_exists => true)"


def add_retention_policy(relation: str, drop_after: timedelta) -> str:
    return f"SELECT add_retention_policy({relation}, drop_after => {_interval(drop_after)})"


def remove_retention_policy(relation: str) -> str:
    return f"SELECT remove_retention_policy({relation}, if_exists => true)"


def create_continuous_aggregate(name: str, query: str) -> str:
    """Real time: what is not materialized yet is computed when asked."""
    return (
        f"CREATE MATERIALIZED VIEW {name}\n"
        f"WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS\n{query}\nWITH NO DATA"
    )


def add_continuous_aggregate_policy(
    name: str, start_offset: timedelta | None, end_offset: timedelta | None, schedule_interval: timedelta
) -> str:
    return (
        f"SELECT add_continuous_aggregate_policy({name}, start_offset => {_interval(start_offset)}, "
        f"end_offset => {_interval(end_offset)}, schedule_interval => {_interval(schedule_interval)})"
    )


def remove_continuous_aggregate_policy(name: str) -> str:
    return f"SELECT remove_continuous_aggregate_policy({name}, if_exists => true)"


def refresh_continuous_aggregate(name: str) -> str:
    """All of it. Not inside a transaction."""
    return f"CALL refresh_continuous_aggregate({name}, NULL, NULL)"


def literal(name: str) -> str:
    """A quoted name as a regclass takes it."""
    return _text(name)


def relation(schema: str | None, name: str) -> str:
    """A relation as an argument of a function: ``'schema.name'``."""
    return literal(quoted(schema, name))


def _order(text: str) -> str:
    order = OrderBy.parse(text)
    return str(OrderBy(preparer.quote(order.column), order.descending, order.nulls_first))


def _interval(length: timedelta | None) -> str:
    return "NULL" if length is None else f"INTERVAL '{interval(length)}'"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
