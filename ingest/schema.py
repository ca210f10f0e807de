"""Does the database have what this version writes? Tables as declared against the live catalog.

The third side, contract against table, is checked when a ``Topic`` is made. Old code runs on a newer schema: columns it
doesn't know are no problem as long as they don't want a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.engine.reflection import Inspector
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
    problems: list[str] = []
    seen: set[Table] = set()
    for table in (*SERVICE_TABLES, *(table for topic in topics for table in topic.tables)):
        if table not in seen:
            seen.add(table)
            problems += _table_problems(inspector, table)
    for topic in topics:
        for write in topic.writes:
            if isinstance(write.rule, FirstWins | LastWins) and inspector.has_table(
                write.table.name, write.table.schema
            ):
                keys = _unique_keys(inspector, write.table)
                if frozenset(write.rule.key) not in keys:
                    problems.append(f"table {write.table.fullname} has no unique key ({', '.join(write.rule.key)})")
    return problems


def _table_problems(inspector: Inspector, table: Table) -> list[str]:
    if not inspector.has_table(table.name, table.schema):
        return [f"table {table.fullname} is missing"]
    live = {column["name"]: column for column in inspector.get_columns(table.name, table.schema)}
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


def _unique_keys(inspector: Inspector, table: Table) -> set[frozenset[str]]:
    name, schema = table.name, table.schema
    keys = {frozenset(each["column_names"]) for each in inspector.get_unique_constraints(name, schema)}
    keys |= {
        frozenset(column for column in index["column_names"] if column is not None)
        for index in inspector.get_indexes(name, schema)
        if index["unique"]
    }
    keys.add(frozenset(inspector.get_pk_constraint(name, schema)["constrained_columns"]))
    return keys
