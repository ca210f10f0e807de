"""Alembic's autogenerate, with declarations: what ``alembic revision --autogenerate`` and ``alembic check`` see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alembic.autogenerate import comparators
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import AlterColumnOp, CreateTableOp, DropTableOp, ModifyTableOps, UpgradeOps
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import Index, MetaData

from ingest.hypertables import INFO_KEY, MAX_NAME_BYTES, aggregates_of, hypertable_of
from ingest.timescale import catalog
from ingest.timescale.capability import Mode, Need, Target
from ingest.timescale.compare import Scope, changes
from ingest.timescale.operations import NOTHING, TABLES, VIEWS


@comparators.dispatch_for("schema", qualifier="postgresql", priority=DispatchPriority.LAST)
def _compare(context: AutogenContext, upgrade: UpgradeOps, schemas: set[str | None]) -> PriorityDispatchResult:
    connection = context.connection
    declared = metadata_of(context.metadata)
    if connection is None or (not _declares(declared) and catalog.extension_version(connection) is None):
        return PriorityDispatchResult.CONTINUE
    for each in upgrade.ops:
        if isinstance(each, CreateTableOp):  # a revision shows table.info, and would show the declaration in it
            each.info = {key: value for key, value in each.info.items() if key != INFO_KEY}
    target = Target.of(context.migration_context)
    target.creates = False
    require(target, declared)

    def keys(kind: type[CreateTableOp] | type[DropTableOp]) -> list[catalog.Key]:
        found = [each for each in upgrade.ops if isinstance(each, kind)]
        return [catalog.key_of(connection, each.schema, each.table_name) for each in found]

    def included(name: str, schema: str) -> bool:
        return context.run_name_filters(name, "continuous_aggregate", {"schema_name": schema})  # type: ignore[arg-type]

    scope = Scope(
        capability=target.capability,
        strict=target.mode is Mode.REQUIRED,
        new=keys(CreateTableOp),
        dropped=keys(DropTableOp),
        altered={
            (catalog.key_of(connection, each.schema, each.table_name), each.column_name)
            for group in upgrade.ops
            if isinstance(group, ModifyTableOps)
            for each in group.ops
            if isinstance(each, AlterColumnOp) and each.modify_type is not None
        },
        included=included,
    )
    found = changes(connection, declared, scope)
    upgrade.ops[:0] = found.before
    upgrade.ops += [*found.after, *found.outside]
    return PriorityDispatchResult.CONTINUE


def object_filter(metadata: Sequence[MetaData]) -> Callable[..., bool]:
    """``include_object`` for ``context.configure``: leaves out the index on time that TimescaleDB makes by itself.

    ``create_hypertable`` makes none here, but does for whoever calls it by hand.
    """
    times = {
        (table.schema, table.name): declared.time_column
        for each in metadata
        for table in each.tables.values()
        if (declared := hypertable_of(table)) is not None
    }

    def include_object(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        if not (kind == "index" and reflected and compare_to is None and isinstance(item, Index)) or item.table is None:
            return True
        time = times.get((item.table.schema, item.table.name))
        own = time is not None and [column.name for column in item.columns] == [time]
        return not own or name != _index_name(item.table.name, str(time))

    return include_object


def _index_name(table: str, column: str) -> str:
    """``<table>_<column>_idx``, cut to PostgreSQL's length as PostgreSQL does it: the longer part loses bytes first."""
    table_bytes, column_bytes = table.encode(), column.encode()
    room = MAX_NAME_BYTES - len("__idx")
    while len(table_bytes) + len(column_bytes) > room:
        if len(table_bytes) > len(column_bytes):
            table_bytes = table_bytes[:-1]
        else:
            column_bytes = column_bytes[:-1]
    return "_".join((table_bytes.decode(errors="ignore"), column_bytes.decode(errors="ignore"), "idx"))


def require(target: Target, metadata: Sequence[MetaData]) -> None:
    """Raises FatalError in mode ``required`` that names the first declaration the database can't keep."""
    if target.mode is not Mode.REQUIRED:
        return
    for each in metadata:
        for table in each.sorted_tables:
            declared = hypertable_of(table)
            if declared is None:
                continue
            target.serves(Need.HYPERTABLES, f"hypertable {table.fullname}", TABLES)
            if declared.columnstore is not None:
                target.serves(Need.COMMUNITY, f"columnstore of {table.fullname}", NOTHING)
            if declared.retention is not None:
                target.serves(Need.COMMUNITY, f"retention of {table.fullname}", NOTHING)
        for aggregate in aggregates_of(each):
            target.serves(Need.COMMUNITY, f"continuous aggregate {aggregate.fullname}", VIEWS)


def metadata_of(metadata: MetaData | Sequence[MetaData] | None) -> Sequence[MetaData]:
    """``target_metadata`` as a sequence."""
    if metadata is None:
        return ()
    return (metadata,) if isinstance(metadata, MetaData) else tuple(metadata)


def _declares(metadata: Sequence[MetaData]) -> bool:
    return any(aggregates_of(each) or any(map(hypertable_of, each.tables.values())) for each in metadata)
