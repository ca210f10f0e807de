"""From ordinary tables and plain views to what they are declared to be, in steps that are each safe alone.

A table is a step, all aggregates are one: a plain view and the continuous aggregate in its place change in the same
transaction. Materializing what is old comes next, outside of transactions. Last come the policies whose first run comes
at once: retention would drop rows that the aggregates are to keep the numbers of, and a refresh policy would fill an
aggregate with its window alone, so that nobody could tell any more that the rest is missing. Interrupted, it goes on
where it was when it is called again; where nothing is left to do, it does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text

from ingest.errors import FatalError
from ingest.hypertables import ContinuousAggregate, Source, aggregates_of
from ingest.timescale import catalog, query
from ingest.timescale import operations as ops
from ingest.timescale.autogenerate import require
from ingest.timescale.capability import OPTION, Mode, Target
from ingest.timescale.catalog import LiveAggregate
from ingest.timescale.compare import Scope, changes

RUNS_AT_ONCE = (ops.AddRetentionPolicy, ops.AddContinuousAggregatePolicy)


@dataclass(frozen=True, slots=True)
class Step:
    """Operations of one transaction."""

    operations: tuple[ops.TimescaleOperation, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done before and after the refreshes. ``continuous``: whether the database keeps aggregates."""

    continuous: bool
    before: list[Step]
    after: list[Step]


def plan_of(connection: Connection, metadata: Sequence[MetaData], mode: Mode) -> Plan:
    """What is to be done, in mode ``required`` or ``auto``.

    Raises FatalError: the database has no hypertables, or, where it is required, can't keep what is declared.
    """
    target = Target.of(_context(connection, mode))
    target.creates = False
    require(target, metadata)
    _insist_on_hypertables(target)
    aggregates = {each.name for one in metadata for each in aggregates_of(one)}
    # What nobody declares is a revision's to drop.
    found = changes(connection, metadata, Scope(target.capability, strict=True, included=lambda name, schema: False))
    every = [
        each
        for each in (*found.before, *found.after, *found.outside)
        if isinstance(each, ops.TimescaleOperation) and not isinstance(each, ops.RefreshContinuousAggregate)
    ]
    # Of views that stay plain there is nothing to refresh.
    policies = [each for each in every if isinstance(each, RUNS_AT_ONCE) and target.capability.community]
    _insist_on_numbers_that_stay(connection, every)
    done = [each for each in every if not isinstance(each, RUNS_AT_ONCE)]
    tables: dict[tuple[str | None, str], list[ops.TimescaleOperation]] = {}
    for each in done:
        if each.name not in aggregates:
            tables.setdefault((each.schema, each.name), []).append(each)
    together = [each for each in done if each.name in aggregates]
    return Plan(
        continuous=target.capability.community,
        before=[Step(tuple(each)) for each in [*tables.values(), together] if each],
        after=[Step(tuple(policies))] if policies else [],
    )


def refreshes_of(connection: Connection, metadata: Sequence[MetaData], planned: Sequence[Step] = ()) -> list[Step]:
    """Declared continuous aggregates that have nothing materialized of what they read, from raw to coarse.

    Those that ``planned`` steps would create count as made, and empty.
    """
    made = {
        (each.schema, each.name)
        for step in planned
        for each in step.operations
        if isinstance(each, ops.CreateContinuousAggregate)
    }
    live = _continuous(connection)

    def found(each: ContinuousAggregate) -> LiveAggregate | None:
        return live.get(catalog.key_of(connection, each.schema, each.name))

    def is_empty(each: ContinuousAggregate) -> bool:
        there = found(each)
        return (each.schema, each.name) in made or (there is not None and there.empty)

    def has_something(source: Source) -> bool:
        """Whether there is a row to be read. An aggregate may have numbers of rows that retention has taken."""
        while isinstance(source, ContinuousAggregate):
            there = found(source)
            if there is not None and not is_empty(source):
                return True
            source = source.source  # without numbers of its own, it would be computed whole, to find one row
        table = query.quoted(source.schema, source.name)
        return bool(connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table})")))  # noqa: S608 - a quoted name

    return [
        Step((ops.RefreshContinuousAggregate(name=each.name, schema=each.schema),))
        for one in metadata
        for each in aggregates_of(one)
        if is_empty(each) and has_something(each.source)
    ]


def carry_out(connection: Connection, step: Step, mode: Mode) -> None:
    """One step, committed."""
    context = _context(connection, mode)
    with context.begin_transaction(_per_migration=True):
        _insist_on_hypertables(Target.of(context))
        for each in step.operations:
            Operations(context).invoke(each)


def _insist_on_hypertables(target: Target) -> None:
    """Raises FatalError: in mode ``auto`` the operations would leave out what there is to adopt, and go on."""
    if target.mode is Mode.AUTO and not target.capability.hypertables:
        raise FatalError(f"there can't be hypertables: {target.capability.lack}")


def _insist_on_numbers_that_stay(connection: Connection, operations: Sequence[ops.TimescaleOperation]) -> None:
    """Raises FatalError: a continuous aggregate would go, with all it keeps. That is to be read in a revision first."""
    live = _continuous(connection)
    for each in operations:
        if not isinstance(each, ops.DropContinuousAggregate):
            continue
        if catalog.key_of(connection, each.schema, each.name) in live:
            raise FatalError(
                f"{each.name} is a continuous aggregate already, and another one than is declared. It would be "
                "dropped, with its numbers: see alembic check, and let a revision do that first"
            )


def _continuous(connection: Connection) -> dict[catalog.Key, LiveAggregate]:
    return {} if catalog.extension_version(connection) is None else catalog.read_aggregates(connection)


def _context(connection: Connection, mode: Mode) -> MigrationContext:
    options = {OPTION: mode, "transaction_per_migration": True}
    return MigrationContext.configure(connection, opts=options)
