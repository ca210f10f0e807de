"""What the live database has: TimescaleDB's information views, read into plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, TypedDict

from sqlalchemy import Connection, text

from ingest.hypertables import OrderBy

Key: TypeAlias = tuple[str, str]
"""Schema and name of a table or view."""


class Relation(TypedDict):
    """A table or view as operations name it: without a schema where that is the default one."""

    name: str
    schema: str | None


@dataclass(frozen=True, slots=True)
class LiveColumnstore:
    """A hypertable's columnstore; ``after`` is its policy's."""

    after: timedelta | None = None
    segment_by: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveRefresh:
    """A refresh policy. Without an offset the window has no end on that side."""

    start_offset: timedelta | None
    end_offset: timedelta | None
    schedule_interval: timedelta


@dataclass(frozen=True, slots=True)
class LiveHypertable:
    """A hypertable; ``retention`` is its policy's."""

    time_column: str
    chunk_interval: timedelta
    columnstore: LiveColumnstore | None
    retention: timedelta | None


@dataclass(frozen=True, slots=True)
class LiveAggregate:
    """A continuous aggregate, or the plain view in its place. ``source`` is what it reads, if TimescaleDB knows."""

    definition: str
    plain: bool
    source: Key | None = None
    refresh: LiveRefresh | None = None
    retention: timedelta | None = None
    empty: bool = False
    """Whether a continuous aggregate has nothing materialized."""


@dataclass(frozen=True, slots=True)
class _Policies:
    retention: dict[Key, timedelta]
    columnstore: dict[Key, timedelta]
    refresh: dict[Key, LiveRefresh]


def extension_version(connection: Connection) -> str | None:
    """The version of the extension in this database."""
    found = connection.scalar(text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"))
    return None if found is None else str(found)


def key_of(connection: Connection, schema: str | None, name: str) -> Key:
    """With the default schema spelled out."""
    return (schema or connection.dialect.default_schema_name or "public", name)


def relation_of(connection: Connection, key: Key) -> Relation:
    """With the default schema left out."""
    schema, name = key
    return {"name": name, "schema": None if schema == connection.dialect.default_schema_name else schema}


def interval_of(connection: Connection, written: str) -> timedelta:
    """A length as PostgreSQL writes it."""
    found = connection.scalar(text("SELECT CAST(CAST(:written AS text) AS interval)"), {"written": written})
    assert isinstance(found, timedelta)
    return found


def existing_tables(connection: Connection, tables: Iterable[Key]) -> set[Key]:
    """Those of ``tables`` that are there."""
    wanted = set(tables)
    return {
        (row.schemaname, row.tablename)
        for row in connection.execute(text("SELECT schemaname, tablename FROM pg_tables"))
        if (row.schemaname, row.tablename) in wanted
    }


def is_hypertable(connection: Connection, schema: str | None, name: str) -> bool:
    """Whether a hypertable or a continuous aggregate has this name."""
    schema, name = key_of(connection, schema, name)
    return bool(
        connection.scalar(
            text(
                "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables"
                " WHERE hypertable_schema = :schema AND hypertable_name = :name) OR EXISTS (SELECT FROM"
                " timescaledb_information.continuous_aggregates WHERE view_schema = :schema AND view_name = :name)"
            ),
            {"schema": schema, "name": name},
        )
    )


def read_hypertables(connection: Connection, tables: Iterable[Key]) -> dict[Key, LiveHypertable]:
    """Those of ``tables`` that are hypertables."""
    wanted = set(tables)
    policies = _read_policies(connection, wanted)
    settings = {
        (row.schema, row.name): LiveColumnstore(
            policies.columnstore.get((row.schema, row.name)), _names(row.segmentby), _orders(row.orderby)
        )
        for row in connection.execute(
            text(
                "SELECT n.nspname AS schema, c.relname AS name, s.segmentby, s.orderby"
                " FROM timescaledb_information.hypertable_columnstore_settings s"
                " JOIN pg_class c ON c.oid = s.hypertable JOIN pg_namespace n ON n.oid = c.relnamespace"
            )
        )
        if (row.schema, row.name) in wanted
    }
    found: dict[Key, LiveHypertable] = {}
    for row in connection.execute(
        text(
            "SELECT h.hypertable_schema, h.hypertable_name, h.compression_enabled, d.column_name, d.time_interval"
            " FROM timescaledb_information.hypertables h JOIN timescaledb_information.dimensions d"
            " USING (hypertable_schema, hypertable_name) WHERE d.dimension_number = 1"
        )
    ):
        key = (row.hypertable_schema, row.hypertable_name)
        if key in wanted:
            found[key] = LiveHypertable(
                row.column_name,
                row.time_interval or timedelta(0),
                settings.get(key, LiveColumnstore()) if row.compression_enabled else None,
                policies.retention.get(key),
            )
    return found


def read_aggregates(connection: Connection) -> dict[Key, LiveAggregate]:
    """Every continuous aggregate, one that is built on another after it."""
    rows = list(
        connection.execute(
            text(
                "SELECT a.*, NOT EXISTS (SELECT FROM timescaledb_information.chunks c"
                " WHERE c.hypertable_schema = a.materialization_hypertable_schema"
                " AND c.hypertable_name = a.materialization_hypertable_name) AS empty"
                " FROM timescaledb_information.continuous_aggregates a"
            )
        )
    )
    views = {
        (row.materialization_hypertable_schema, row.materialization_hypertable_name): (row.view_schema, row.view_name)
        for row in rows
    }
    policies = _read_policies(connection, set(views) | set(views.values()))
    found: dict[Key, LiveAggregate] = {}
    for row in rows:
        key, stored = (
            (row.view_schema, row.view_name),
            (row.materialization_hypertable_schema, row.materialization_hypertable_name),
        )
        source = (row.hypertable_schema, row.hypertable_name)
        found[key] = LiveAggregate(
            row.view_definition,
            plain=False,
            empty=row.empty,
            source=views.get(source, source),
            # Versions differ in whose policy it is: the view's or the hypertable's behind it.
            refresh=policies.refresh.get(key) or policies.refresh.get(stored),
            retention=policies.retention.get(key) or policies.retention.get(stored),
        )

    def depth(key: Key) -> int:
        source = found[key].source
        return 0 if source is None or source not in found else 1 + depth(source)

    return {key: found[key] for key in sorted(found, key=lambda key: (depth(key), key))}


def read_views(connection: Connection, names: Iterable[Key]) -> dict[Key, LiveAggregate]:
    """Those of ``names`` that are ordinary views. A continuous aggregate looks like one, too."""
    wanted = set(names)
    return {
        (row.schema, row.name): LiveAggregate(row.definition, plain=True)
        for row in connection.execute(
            text(
                "SELECT n.nspname AS schema, c.relname AS name, pg_get_viewdef(c.oid) AS definition"
                " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind = 'v' AND c.relname = ANY(:names)"
            ),
            {"names": sorted({name for _, name in wanted})},
        )
        if (row.schema, row.name) in wanted
    }


def _read_policies(connection: Connection, relations: set[Key]) -> _Policies:
    policies = _Policies({}, {}, {})
    for row in connection.execute(
        text(
            "SELECT hypertable_schema, hypertable_name, proc_name, schedule_interval,"
            " CAST(config ->> 'drop_after' AS interval) AS drop_after,"
            " CAST(config ->> 'compress_after' AS interval) AS compress_after,"
            " CAST(config ->> 'start_offset' AS interval) AS start_offset,"
            " CAST(config ->> 'end_offset' AS interval) AS end_offset"
            " FROM timescaledb_information.jobs WHERE hypertable_name = ANY(:names) AND proc_name LIKE 'policy\\_%'"
        ),
        {"names": sorted({name for _, name in relations})},
    ):
        key = (row.hypertable_schema, row.hypertable_name)
        if key not in relations:
            continue
        if row.proc_name == "policy_refresh_continuous_aggregate":
            policies.refresh[key] = LiveRefresh(row.start_offset, row.end_offset, row.schedule_interval)
        elif row.proc_name == "policy_retention" and row.drop_after is not None:
            policies.retention[key] = row.drop_after
        elif row.compress_after is not None:
            policies.columnstore[key] = row.compress_after
    return policies


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(part.strip().strip('"') for part in (listed or "").split(",") if part.strip())


def _orders(listed: str | None) -> tuple[str, ...]:
    """``"timestamp" DESC,door`` → ('timestamp DESC', 'door')."""
    orders = []
    for part in (listed or "").replace('"', "").split(","):
        try:
            orders += [str(OrderBy.parse(part))] if part.strip() else []
        except ValueError:  # a name that no declaration can have
            orders.append(part)
    return tuple(orders)
