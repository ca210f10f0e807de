"""Alembic operations for what TimescaleDB adds, each with its reverse.

::

    op.create_hypertable("doors", "timestamp", chunk_interval=timedelta(days=1))
    op.enable_columnstore("doors", segment_by=("door",), order_by=("timestamp DESC",))
    op.add_columnstore_policy("doors", after=timedelta(days=1))
    op.add_retention_policy("doors", drop_after=timedelta(days=30))
    op.create_continuous_aggregate(
        "doors_per_hour",
        "SELECT {bucket} AS bucket, doors.door, count(*) AS events FROM doors GROUP BY {bucket}, doors.door",
        source="doors",
        time_column="timestamp",
        bucket_width=timedelta(hours=1),
    )
    op.add_continuous_aggregate_policy(
        "doors_per_hour",
        start_offset=timedelta(days=2),
        end_offset=timedelta(hours=1),
        schedule_interval=timedelta(hours=1),
    )

Where the database can't keep one, :mod:`.capability` says what happens. What takes something away looks at what is
there, whatever the mode: a downgrade works on a database that was upgraded in another one. A reverse is for
autogenerate, which knows what was there before.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from alembic.operations import MigrateOperation, Operations
from sqlalchemy import text

from ingest.hypertables import interval
from ingest.timescale import query, statements
from ingest.timescale.capability import Need, Target
from ingest.timescale.catalog import Relation

Operation = TypeVar("Operation", bound="type[TimescaleOperation]")

VIEWS = "plain views"
TABLES = "ordinary tables"
NOTHING = "nothing"


INTERNAL = {"internal": True}
"""Marks a field that the reverse needs, and that a revision does not show."""


@dataclass
class TimescaleOperation(MigrateOperation):
    """Base of them all: a name in ``op``, what it does, and its reverse."""

    operation: ClassVar[str]

    name: str
    schema: str | None = field(default=None, kw_only=True)
    ends_with_owner: bool = field(default=False, kw_only=True, metadata=INTERNAL)
    """Whether dropping the table or aggregate, in the same revision's downgrade, takes it back."""

    @classmethod
    def run(cls, operations: Operations, *arguments: Any, **options: Any) -> Any:
        """What ``op.<operation>(…)`` calls."""
        return operations.invoke(cls(*arguments, **options))

    def apply(self, operations: Operations, target: Target) -> None:
        """Does it. Raises FatalError where the mode forbids to leave it out."""
        raise NotImplementedError

    def undo(self) -> TimescaleOperation:
        """The operation that takes it back."""
        raise NotImplementedError

    def reverse(self) -> MigrateOperation:
        return Nothing(self) if self.ends_with_owner else self.undo()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        shown = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if not each.metadata.get("internal") and getattr(self, each.name) is not None and each.name != "name"
        }
        return (self.operation, self.name, shown)

    def __str__(self) -> str:
        """For a person: ``create_hypertable doors: time_column timestamp, chunk_interval 1 day``."""
        _, _, shown = self.to_diff_tuple()
        details = [f"{name} {_shown(value)}" for name, value in shown.items() if name not in ("query", "schema")]
        return f"{self.operation} {self.name}" + (f": {', '.join(details)}" if details else "")

    @property
    def sql_name(self) -> str:
        """The relation, quoted."""
        return query.quoted(self.schema, self.name)

    @property
    def regclass(self) -> str:
        """The relation as a function's argument."""
        return statements.relation(self.schema, self.name)

    def common(self) -> Relation:
        """The arguments that every operation on the same relation has."""
        return {"name": self.name, "schema": self.schema}

    def can_change(self, target: Target, what: str) -> bool:
        """Whether ``what`` can be put on this relation, as the mode wants it."""
        what = f"{what} of {self.name}"
        return target.serves(Need.COMMUNITY, what, NOTHING) and target.is_hypertable(what, self.schema, self.name)


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return interval(value)
    return " ".join(value) if isinstance(value, tuple) else str(value)


class Nothing(MigrateOperation):
    """Stands for an operation that is done by something else in the same revision, or in its downgrade alone."""

    ops: ClassVar[tuple[MigrateOperation, ...]] = ()
    """To Alembic it is a group of operations that has none: nothing that ``alembic check`` would tell."""

    def __init__(self, done: TimescaleOperation) -> None:
        self.done = done

    def reverse(self) -> MigrateOperation:
        return self.done


def _operation(cls: Operation) -> Operation:
    Operations.register_operation(cls.operation, "run")(cls)
    return cls


@Operations.implementation_for(TimescaleOperation)
def _invoke(operations: Operations, operation: TimescaleOperation) -> None:
    operation.apply(operations, Target.of(operations.migration_context))


@Operations.implementation_for(Nothing)
def _do_nothing(operations: Operations, operation: Nothing) -> None:
    """Nothing: the table or aggregate that it belongs to takes it along, or it is for the downgrade alone."""


def _execute(operations: Operations, sql: str) -> None:
    operations.execute(text(sql.replace(":", r"\:")))  # a colon is no parameter here


@_operation
@dataclass
class CreateHypertable(TimescaleOperation):
    """``op.create_hypertable(table, time_column, chunk_interval=…)``. Rows from before are moved into chunks."""

    operation: ClassVar[str] = "create_hypertable"

    time_column: str
    chunk_interval: timedelta = field(kw_only=True)

    def apply(self, operations: Operations, target: Target) -> None:
        if target.serves(Need.HYPERTABLES, f"hypertable {self.name}", TABLES):
            _execute(operations, statements.create_hypertable(self.regclass, self.time_column, self.chunk_interval))

    def undo(self) -> TimescaleOperation:
        return RevertHypertable(**self.common(), time_column=self.time_column, chunk_interval=self.chunk_interval)


@_operation
@dataclass
class RevertHypertable(TimescaleOperation):
    """``op.revert_hypertable(table)``: copies it into an ordinary table. TimescaleDB itself has no way back.

    Takes as long as a copy of the table does, and locks it. Dropping the table is the reverse where it is made in the
    same revision.
    """

    operation: ClassVar[str] = "revert_hypertable"

    time_column: str = field(default="", kw_only=True, metadata=INTERNAL)
    chunk_interval: timedelta = field(default=timedelta(0), kw_only=True, metadata=INTERNAL)

    def apply(self, operations: Operations, target: Target) -> None:
        if target.has_live(self.schema, self.name):
            _execute(operations, statements.revert_hypertable(self.regclass))

    def undo(self) -> TimescaleOperation:
        return CreateHypertable(**self.common(), time_column=self.time_column, chunk_interval=self.chunk_interval)


@_operation
@dataclass
class SetChunkInterval(TimescaleOperation):
    """``op.set_chunk_interval(table, interval)``: for chunks that are made from now on."""

    operation: ClassVar[str] = "set_chunk_interval"

    chunk_interval: timedelta
    was: timedelta = field(default=timedelta(0), kw_only=True, metadata=INTERNAL)

    def apply(self, operations: Operations, target: Target) -> None:
        what = f"the chunk interval of {self.name}"
        if target.serves(Need.HYPERTABLES, what, TABLES) and target.is_hypertable(what, self.schema, self.name):
            _execute(operations, statements.set_chunk_interval(self.regclass, self.chunk_interval))

    def undo(self) -> TimescaleOperation:
        return SetChunkInterval(**self.common(), chunk_interval=self.was, was=self.chunk_interval)


@_operation
@dataclass
class EnableColumnstore(TimescaleOperation):
    """``op.enable_columnstore(table, segment_by=(…), order_by=(…))``; also to change the settings for new chunks.

    Without ``order_by`` the order stays as it is, TimescaleDB's own if there was none.
    """

    operation: ClassVar[str] = "enable_columnstore"

    segment_by: tuple[str, ...] = field(default=(), kw_only=True)
    order_by: tuple[str, ...] = field(default=(), kw_only=True)
    was: tuple[tuple[str, ...], tuple[str, ...]] | None = field(default=None, kw_only=True, metadata=INTERNAL)
    """Segment by and order by before, where it was enabled."""

    def apply(self, operations: Operations, target: Target) -> None:
        if self.can_change(target, "columnstore"):
            _execute(operations, statements.enable_columnstore(self.sql_name, self.segment_by, self.order_by))

    def undo(self) -> TimescaleOperation:
        now = (self.segment_by, self.order_by)
        if self.was is None:
            return DisableColumnstore(**self.common(), was=now)
        segment_by, order_by = self.was
        return EnableColumnstore(**self.common(), segment_by=segment_by, order_by=order_by, was=now)


@_operation
@dataclass
class DisableColumnstore(TimescaleOperation):
    """``op.disable_columnstore(table)``. Chunks that are columns become rows again, which takes its time and space."""

    operation: ClassVar[str] = "disable_columnstore"

    was: tuple[tuple[str, ...], tuple[str, ...]] = field(default=((), ()), kw_only=True, metadata=INTERNAL)

    def apply(self, operations: Operations, target: Target) -> None:
        if target.has_live(self.schema, self.name):
            for statement in statements.disable_columnstore(self.sql_name):
                _execute(operations, statement)

    def undo(self) -> TimescaleOperation:
        return EnableColumnstore(**self.common(), segment_by=self.was[0], order_by=self.was[1])


@_operation
@dataclass
class AddColumnstorePolicy(TimescaleOperation):
    """``op.add_columnstore_policy(table, after=…)``: chunks are converted once they are that old."""

    operation: ClassVar[str] = "add_columnstore_policy"

    after: timedelta = field(kw_only=True)

    def apply(self, operations: Operations, target: Target) -> None:
        if self.can_change(target, "columnstore policy"):
            _execute(operations, statements.add_columnstore_policy(self.regclass, self.after))

    def undo(self) -> TimescaleOperation:
        return RemoveColumnstorePolicy(**self.common(), after=self.after)


@_operation
@dataclass
class RemoveColumnstorePolicy(TimescaleOperation):
    """``op.remove_columnstore_policy(table)``."""

    operation: ClassVar[str] = "remove_columnstore_policy"

    after: timedelta = field(default=timedelta(0), kw_only=True, metadata=INTERNAL)

    def apply(self, operations: Operations, target: Target) -> None:
        if target.has_live(self.schema, self.name):
            _execute(operations, statements.remove_columnstore_policy(self.regclass))

    def undo(self) -> TimescaleOperation:
        return AddColumnstorePolicy(**self.common(), after=self.after)


@_operation
@dataclass
class AddRetentionPolicy(TimescaleOperation):
    """``op.add_retention_policy(table or aggregate, drop_after=…)``: chunks are dropped once they are that old."""

    operation: ClassVar[str] = "add_retention_policy"

    drop_after: timedelta = field(kw_only=True)

    def apply(self, operations: Operations, target: Target) -> None:
        if self.can_change(target, "retention"):
            _execute(operations, statements.add_retention_policy(self.regclass, self.drop_after))

    def undo(self) -> TimescaleOperation:
        return RemoveRetentionPolicy(**self.common(), drop_after=self.drop_after)


@_operation
@dataclass
class RemoveRetentionPolicy(TimescaleOperation):
    """``op.remove_retention_policy(table or aggregate)``."""

    operation: ClassVar[str] = "remove_retention_policy"

    drop_after: timedelta = field(default=timedelta(0), kw_only=True, metadata=INTERNAL)

    def apply(self, operations: Operations, target: Target) -> None:
        if target.has_live(self.schema, self.name):
            _execute(operations, statements.remove_retention_policy(self.regclass))

    def undo(self) -> TimescaleOperation:
        return AddRetentionPolicy(**self.common(), drop_after=self.drop_after)


@_operation
@dataclass
class CreateContinuousAggregate(TimescaleOperation):
    """``op.create_continuous_aggregate(name, "SELECT {bucket} …", source=…, time_column=…, bucket_width=…)``.

    ``source_schema`` is where the source is, if not in the aggregate's own schema. In real time, with nothing
    materialized yet. Where the database has no continuous aggregates: a plain view.
    """

    operation: ClassVar[str] = "create_continuous_aggregate"

    query: str = field(metadata={"sql": True})
    source: str = field(kw_only=True)
    source_schema: str | None = field(default=None, kw_only=True)
    time_column: str = field(kw_only=True)
    bucket_width: timedelta = field(kw_only=True)

    def __post_init__(self) -> None:
        self.query = textwrap.dedent(self.query).strip()
        if query.BUCKET not in self.query:
            raise ValueError(f"continuous aggregate {self.name}: its query has no {query.BUCKET}")

    def apply(self, operations: Operations, target: Target) -> None:
        if self.can_be_continuous(target):
            sql = query.for_timescale(self.query, self.bucket_width, self.time)
            _execute(operations, statements.create_continuous_aggregate(self.sql_name, sql))
        else:
            sql = query.for_postgresql(self.query, self.bucket_width, self.time)
            _execute(operations, f"CREATE VIEW {self.sql_name} AS\n{sql}")

    def can_be_continuous(self, target: Target) -> bool:
        """As the mode wants it; over an ordinary table it can't."""
        what = f"continuous aggregate {self.name}"
        return target.serves(Need.COMMUNITY, what, VIEWS) and target.is_hypertable(
            what, self.source_schema or self.schema, self.source
        )

    @property
    def time(self) -> str:
        """The time column, quoted."""
        return query.quoted(self.source_schema or self.schema, self.source, self.time_column)

    def undo(self) -> TimescaleOperation:
        return DropContinuousAggregate(**self.common(), was=self)


@_operation
@dataclass
class DropContinuousAggregate(TimescaleOperation):
    """``op.drop_continuous_aggregate(name)``, or the plain view in its place."""

    operation: ClassVar[str] = "drop_continuous_aggregate"

    was: CreateContinuousAggregate | None = field(default=None, kw_only=True, metadata=INTERNAL)
    """None: not one that :class:`CreateContinuousAggregate` can make again."""

    def apply(self, operations: Operations, target: Target) -> None:
        kind = "MATERIALIZED VIEW" if target.has_live(self.schema, self.name) else "VIEW"
        _execute(operations, f"DROP {kind} {self.sql_name}")

    def undo(self) -> TimescaleOperation:
        return self.was or CannotMakeAgain(**self.common())


@dataclass
class CannotMakeAgain(TimescaleOperation):
    """Says in a downgrade that a person has to write how to make an aggregate again."""

    operation: ClassVar[str] = "cannot_make_again"


@_operation
@dataclass
class AddContinuousAggregatePolicy(TimescaleOperation):
    """``op.add_continuous_aggregate_policy(name, start_offset=…, end_offset=…, schedule_interval=…)``."""

    operation: ClassVar[str] = "add_continuous_aggregate_policy"

    start_offset: timedelta | None = field(kw_only=True)
    end_offset: timedelta | None = field(kw_only=True)
    schedule_interval: timedelta = field(kw_only=True)

    def apply(self, operations: Operations, target: Target) -> None:
        if self.can_change(target, "refresh policy"):
            sql = statements.add_continuous_aggregate_policy(
                self.regclass, self.start_offset, self.end_offset, self.schedule_interval
            )
            _execute(operations, sql)

    def undo(self) -> TimescaleOperation:
        return RemoveContinuousAggregatePolicy(**self.common(), was=self)


@_operation
@dataclass
class RemoveContinuousAggregatePolicy(TimescaleOperation):
    """``op.remove_continuous_aggregate_policy(name)``."""

    operation: ClassVar[str] = "remove_continuous_aggregate_policy"

    was: AddContinuousAggregatePolicy | None = field(default=None, kw_only=True, metadata=INTERNAL)

    def apply(self, operations: Operations, target: Target) -> None:
        if target.has_live(self.schema, self.name):
            _execute(operations, statements.remove_continuous_aggregate_policy(self.regclass))

    def undo(self) -> TimescaleOperation:
        assert self.was is not None
        return self.was


@_operation
@dataclass
class RefreshContinuousAggregate(TimescaleOperation):
    """``op.refresh_continuous_aggregate(name)``: materializes all of it, outside the revision's transaction.

    For an aggregate over rows that are older than its policy's window: the policy alone would never reach them, and the
    aggregate would not show them. What the revision did before is committed. Nothing to do for a plain view.
    """

    operation: ClassVar[str] = "refresh_continuous_aggregate"

    ends_with_owner: bool = field(default=True, kw_only=True, metadata=INTERNAL)

    def apply(self, operations: Operations, target: Target) -> None:
        if target.has_live(self.schema, self.name):
            with operations.get_context().autocommit_block():
                _execute(operations, statements.refresh_continuous_aggregate(self.regclass))
