"""What the catalogs say of a table and its aggregates, without the code that is tested."""

from __future__ import annotations

from sqlalchemy import Connection, text

Snapshot = frozenset[tuple[str, str, str]]
"""What kind of thing, of which relation, and what it is."""


def snapshot(connection: Connection, prefix: str) -> Snapshot:
    """Everything of the relations whose names begin so, but for ids, and chunks."""
    rows = connection.execute(text(_EVERYTHING), {"prefix": f"{prefix}%"}).all()
    connection.rollback()
    return frozenset((kind, name, state) for kind, name, state in rows)


_EVERYTHING = r"""
WITH aggregates AS (
    SELECT * FROM timescaledb_information.continuous_aggregates WHERE view_name LIKE :prefix
), relations AS (
    SELECT c.oid, c.relname, c.relkind, coalesce(a.view_name, c.relname) AS shown, a.view_name IS NOT NULL AS stored
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN aggregates a
        ON (n.nspname, c.relname) = (a.materialization_hypertable_schema, a.materialization_hypertable_name)
    WHERE c.relkind IN ('r', 'v') AND (c.relname LIKE :prefix OR a.view_name IS NOT NULL)
)
SELECT 'job' AS kind, shown AS name, concat_ws(' ', proc_name, schedule_interval, fixed_schedule,
    config - 'hypertable_id' - 'mat_hypertable_id') AS state
FROM timescaledb_information.jobs JOIN relations ON relname = hypertable_name WHERE job_id >= 1000
UNION ALL
SELECT 'columnstore', shown, concat_ws(' | ', segmentby, orderby)
FROM timescaledb_information.hypertable_columnstore_settings JOIN relations ON oid = hypertable
UNION ALL
SELECT 'hypertable', shown, concat_ws(' ', column_name, time_interval, compression_enabled)
FROM timescaledb_information.dimensions JOIN timescaledb_information.hypertables
    USING (hypertable_schema, hypertable_name) JOIN relations ON relname = hypertable_name
UNION ALL
SELECT 'aggregate', view_name, concat_ws(' ', materialized_only, compression_enabled, view_definition) FROM aggregates
UNION ALL
SELECT 'view', relname, pg_get_viewdef(oid) FROM relations
WHERE relkind = 'v' AND relname NOT IN (SELECT view_name FROM aggregates)
UNION ALL
SELECT 'index', shown, pg_get_indexdef(indexrelid) FROM relations JOIN pg_index ON indrelid = oid WHERE NOT stored
UNION ALL
SELECT 'constraint', shown, conname || ' ' || pg_get_constraintdef(c.oid)
FROM relations r JOIN pg_constraint c ON conrelid = r.oid WHERE NOT stored
UNION ALL
SELECT 'column', shown,
    concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid))
FROM relations JOIN pg_attribute ON attrelid = oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND NOT stored
UNION ALL
SELECT 'comment', shown, obj_description(oid, 'pg_class') FROM relations WHERE NOT stored
"""
