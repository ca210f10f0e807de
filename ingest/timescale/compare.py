"""Declarations against the live catalog: the operations that make the database what it is declared to be.

Order: aggregates that go, from coarse to fine; then hypertables that become ordinary tables, and settings of a
columnstore that let go of a column; then the tables and columns themselves; then each table's hypertable, columnstore
and policies; then aggregates from raw to coarse with their policies; last the refreshes of aggregates over rows from
before, outside the transaction, with refresh policies and retention after them. A downgrade is the exact reverse: where
it makes aggregates again, the upgrade begins with the policies that it takes away, so that the downgrade ends with
refreshes and then policies, too. Only declared metadata is looked at: somebody else's hypertables are none of its
business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlalchemy import Connection, MetaData

from ingest.hypertables import aggregates_of
from ingest.timescale import catalog
from ingest.timescale import operations as ops
from ingest.timescale.capability import Capability
from ingest.timescale.catalog import Key
from ingest.timescale.compare_aggregates import Aggregates
from ingest.timescale.compare_tables import compare_table, forget_table

Operation: TypeAlias = ops.TimescaleOperation | ops.Nothing


@dataclass(slots=True)
class Changes:
    """What is to be done: ``before`` and ``after`` the tables and columns themselves."""

    before: list[Operation] = field(default_factory=list)
    after: list[Operation] = field(default_factory=list)
    outside: list[Operation] = field(default_factory=list)
    """Refreshes, each of which commits what was done, and what waits for them: they come after everything else."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared, and how strictly.

    ``strict``: an ordinary table or plain view in the place of what is declared is a difference. ``new`` and
    ``dropped`` are tables that the same revision makes and drops, ``altered`` columns whose type it changes;
    ``included`` filters names, as Alembic's ``include_name`` does.
    """

    capability: Capability
    strict: bool
    new: Collection[Key] = ()
    dropped: Collection[Key] = ()
    altered: Collection[tuple[Key, str]] = ()
    included: Callable[[str, str], bool] = lambda name, schema: True


def changes(connection: Connection, metadata: Sequence[MetaData], scope: Scope) -> Changes:
    """Compares. Changes nothing: what it has to try is rolled back."""
    tables = {
        catalog.key_of(connection, table.schema, table.name): table for each in metadata for table in each.sorted_tables
    }
    declared = {
        catalog.key_of(connection, each.schema, each.name): each for one in metadata for each in aggregates_of(one)
    }
    installed = catalog.extension_version(connection) is not None
    live = {}
    if installed and scope.capability.hypertables:
        live = catalog.read_hypertables(connection, [*tables, *scope.dropped])
    # Whatever the mode: a continuous aggregate that is taken for a plain view would be dropped with all it keeps.
    continuous = catalog.read_aggregates(connection) if installed else {}
    views = catalog.read_views(connection, set(declared) - set(continuous))
    existing = catalog.existing_tables(connection, tables)
    found = Changes()
    aggregates = Aggregates(
        connection,
        declared,
        {**{key: views[key] for key in declared if key in views}, **continuous},
        tables=tables,
        hypertables=live,
        existing=existing,
        new=scope.new,
        dropped=scope.dropped,
        altered=scope.altered,
        continuous=scope.strict and scope.capability.community,
        kept=scope.capability.community,
        included=scope.included,
    )
    found.before += aggregates.drops()
    for key in scope.dropped:
        if key in live:
            found.before += forget_table(catalog.relation_of(connection, key), live[key])
    for key, table in tables.items():
        changed = compare_table(
            table,
            live.get(key),
            is_new=key in scope.new,
            adopt=scope.strict and key in existing,
            community=scope.capability.community,
        )
        found.before += changed.before
        found.after += changed.after
    found.after += aggregates.creations()
    found.outside += aggregates.refreshes()
    if found.outside:
        # Their first run comes at once: a refresh policy's holds the lock that a refresh waits for, and retention's
        # drops rows whose numbers the aggregates are only getting.
        for kind in (ops.AddContinuousAggregatePolicy, ops.AddRetentionPolicy):
            found.outside += _taken(found.after, kind)
    refreshes = list(aggregates.refreshes_of_downgrade())
    if refreshes:  # for the same reason, in the downgrade's order
        first: list[Operation] = []
        for removed in (ops.RemoveRetentionPolicy, ops.RemoveContinuousAggregatePolicy):
            first += [*_taken(found.before, removed), *_taken(found.after, removed)]
        found.before = [*first, *refreshes, *found.before]
    return found


def _taken(operations: list[Operation], kind: type[ops.TimescaleOperation]) -> list[Operation]:
    """Those of a kind, taken out of the list."""
    taken: list[Operation] = [each for each in operations if isinstance(each, kind)]
    operations[:] = [each for each in operations if not isinstance(each, kind)]
    return taken
