"""Does the database have what this version writes? Tables as declared against the live catalog.

The third side, contract against table, is checked when a ``Topic`` is made. Old code runs on a newer schema: columns it
doesn't know are no problem as long as they don't want a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.engine.reflection import Inspector, ObjectKind, ObjectScope
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest import dead_letters, fuse, ledger, monitoring, pauses
from ingest.errors import SchemaError
from ingest.topics import FirstWins, LastWins, Topic

SERVICE_TABLES = (
    ledger.offsets,
    ledger.database_identity,
    ledger.offset_gaps,
    dead_letters.dead_letters,
    fuse.fuses,
    pauses.pauses,
    monitoring.lag_history,
    monitoring.processing_metrics,
)
"""Views are not among them: the service writes the tables, and only people read the views."""


async def check_schema(engine: AsyncEngine, topics: Iterable[Topic]) -> None:
    """Raises SchemaError that names everything that is missing or differs, or the database's own errors."""
    topics = list(topics)
    async with engine.connect() as connection:
        problems = await connection.run_sync(_problems, topics)
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise SchemaError(f"the database's schema does not fit this version: {shown}. Run `alembic upgrade head`")


def _problems(connection: Connection, topics: list[Topic]) -> list[str]:
    inspector = inspect(connection)
    tables = list(dict.fromkeys((*SERVICE_TABLES, *(table for topic in topics for table in topic.tables))))
    live = _Catalog(inspector, tables)
    problems = [problem for table in tables for problem in _table_problems(inspector, table, live.columns.get(table))]
    for topic in topics:
        for write in topic.writes:
            if (
                isinstance(write.rule, FirstWins | LastWins)
                and write.table in live.columns
                and frozenset(write.rule.key) not in live.unique_keys[write.table]
            ):
                problems.append(f"table {write.table.fullname} has no unique key ({', '.join(write.rule.key)})")
    return problems


class _Catalog:
    """What the database has of these tables: a few questions, however many they are."""

    def __init__(self, inspector: Inspector, tables: Iterable[Table]) -> None:
        self.columns: dict[Table, list[ReflectedColumn]] = {}
        """Those of each table that is there."""
        self.unique_keys: dict[Table, set[frozenset[str]]] = {}
        by_schema: dict[str | None, list[Table]] = {}
        for table in tables:
            by_schema.setdefault(table.schema, []).append(table)
        for schema, some in by_schema.items():
            wanted: dict[str, Any] = {
                "schema": schema,
                "filter_names": [table.name for table in some],
                "kind": ObjectKind.ANY,
                "scope": ObjectScope.ANY,
            }
            columns = inspector.get_multi_columns(**wanted)
            constraints = inspector.get_multi_unique_constraints(**wanted)
            indexes = inspector.get_multi_indexes(**wanted)
            primary_keys = inspector.get_multi_pk_constraint(**wanted)
            for table in some:
                where = (schema, table.name)
                if where not in columns:
                    continue
                self.columns[table] = columns[where]
                keys = {frozenset(each["column_names"]) for each in constraints.get(where, ())}
                keys |= {
                    frozenset(column for column in index["column_names"] if column is not None)
                    for index in indexes.get(where, ())
                    if index["unique"]
                }
                if (primary_key := primary_keys.get(where)) is not None:
                    keys.add(frozenset(primary_key["constrained_columns"]))
                self.unique_keys[table] = keys


def _table_problems(inspector: Inspector, table: Table, columns: Iterable[ReflectedColumn] | None) -> list[str]:
    if columns is None:
        return [f"table {table.fullname} is missing"]
    live = {column["name"]: column for column in columns}
    problems = []
    for column in table.columns:
        found = live.pop(column.name, None)
        if found is None:
            problems.append(f"column {table.fullname}.{column.name} is missing")
        elif _type_name(column.type, inspector) != _type_name(found["type"], inspector):
            problems.append(
                f"column {table.fullname}.{column.name} is {_type_name(found['type'], inspector)}, "
                f"not {_type_name(column.type, inspector)}"
            )
        elif column.nullable and not found["nullable"] and found["default"] is None:
            problems.append(f"column {table.fullname}.{column.name} is NOT NULL in the database")
    for name, extra in live.items():
        if not extra["nullable"] and extra["default"] is None and not extra.get("identity"):
            problems.append(f"column {table.fullname}.{name} is NOT NULL without default, and nothing fills it")
    return problems


def _type_name(kind: Any, inspector: Inspector) -> str:
    return str(kind.compile(dialect=inspector.dialect)).upper()
