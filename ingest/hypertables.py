"""What a table is in TimescaleDB, declared beside its columns: hypertable, columnstore, retention, aggregates.

Plain data in the terms of TimescaleDB's documentation. A declaration checks itself when it is made or attached, and
says what is wrong in one line. What it means for a database is :mod:`ingest.timescale`'s business.

>>> from sqlalchemy import Column, DateTime, MetaData, Text, UniqueConstraint, func, select
>>> metadata = MetaData()
>>> doors = Table(
...     "doors",
...     metadata,
...     Column("door", Text, nullable=False),
...     Column("timestamp", DateTime(timezone=True), nullable=False),
...     UniqueConstraint("door", "timestamp"),
...     Hypertable(
...         "timestamp",
...         chunk_interval=days(1),
...         columnstore=Columnstore(after=days(1), segment_by=("door",), order_by=("timestamp DESC",)),
...         retention=days(30),
...     ),
... )
>>> per_hour = ContinuousAggregate(
...     "doors_per_hour",
...     metadata,
...     select(time_bucket(hours(1), doors.c.timestamp).label("bucket"), doors.c.door, func.count().label("events"))
...     .group_by("bucket", doors.c.door),
...     refresh=RefreshPolicy(start_offset=days(2), end_offset=hours(1), schedule_interval=hours(1)),
...     retention=days(365),
... )
>>> [column.name for column in per_hour.c]
['bucket', 'door', 'events']
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    DateTime,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    Table,
    TableClause,
    UniqueConstraint,
    event,
    literal_column,
)
from sqlalchemy import column as column_named
from sqlalchemy import table as table_named
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import SchemaItem
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import Label
from sqlalchemy.sql.functions import FunctionElement

MAX_NAME_BYTES = 63
"""PostgreSQL cuts longer names, silently."""
INFO_KEY = "hypertable"
"""Where a table's ``info`` has its declaration."""
_AGGREGATES = "continuous_aggregates"
_ORDER = re.compile(r"(\w+)(?: (ASC|DESC))?(?: (NULLS FIRST|NULLS LAST))?", re.IGNORECASE)


def days(count: float) -> timedelta:
    """So many days."""
    return timedelta(days=count)


def hours(count: float) -> timedelta:
    """So many hours."""
    return timedelta(hours=count)


def minutes(count: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=count)


def interval(length: timedelta) -> str:
    """A length as PostgreSQL's interval reads it.

    >>> interval(timedelta(days=1, hours=6)), interval(timedelta(minutes=5)), interval(timedelta(milliseconds=1500))
    ('1 day 6 hours', '5 minutes', '1.5 seconds')
    """
    left, seconds = divmod(length.seconds, 60)
    parts = [
        (length.days, "day"),
        (left // 60, "hour"),
        (left % 60, "minute"),
        (seconds + length.microseconds / 1_000_000, "second"),
    ]
    written = [
        f"{f'{count:f}'.rstrip('0').rstrip('.')} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count
    ]
    return " ".join(written) or "0 seconds"


@dataclass(frozen=True, slots=True)
class OrderBy:
    """One column of a columnstore's order, with its defaults spelled out as PostgreSQL has them."""

    column: str
    descending: bool
    nulls_first: bool

    @classmethod
    def parse(cls, text: str) -> OrderBy:
        """``column [ASC|DESC] [NULLS FIRST|NULLS LAST]``. Raises ValueError."""
        found = _ORDER.fullmatch(" ".join(text.split()))
        if found is None:
            raise ValueError(f"order_by {text!r} is not `column [ASC|DESC] [NULLS FIRST|NULLS LAST]`")
        descending = (found[2] or "").upper() == "DESC"
        nulls_first = found[3].upper() == "NULLS FIRST" if found[3] else descending
        return cls(found[1], descending, nulls_first)

    def __str__(self) -> str:
        order = f"{self.column} DESC" if self.descending else self.column
        if self.nulls_first == self.descending:
            return order
        return f"{order} NULLS {'FIRST' if self.nulls_first else 'LAST'}"


@dataclass(frozen=True, slots=True)
class Columnstore:
    """How old chunks are kept as columns, and from when on.

    ``segment_by`` names columns that queries ask for by equality, ``order_by`` is ``column [ASC|DESC]
    [NULLS FIRST|NULLS LAST]`` each. Chunks are converted once all of their rows are older than ``after``; without it
    somebody else converts them.

    >>> Columnstore(after=days(7), segment_by=("device_id",), order_by=("timestamp DESC",)).segment_by
    ('device_id',)
    """

    after: timedelta | None = None
    segment_by: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.segment_by, str) or isinstance(self.order_by, str):
            raise TypeError("segment_by and order_by take several names: write ('device_id',)")
        object.__setattr__(self, "segment_by", tuple(self.segment_by))
        object.__setattr__(self, "order_by", tuple(self.order_by))
        if self.after is not None:
            _positive("columnstore after", self.after)
        both = {each.column for each in self.ordering} & set(self.segment_by)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} can't be in segment_by and order_by")

    @property
    def ordering(self) -> tuple[OrderBy, ...]:
        """``order_by``, read."""
        return tuple(OrderBy.parse(text) for text in self.order_by)


class Hypertable(SchemaItem):
    """The table is a hypertable: partitioned by ``time_column`` into chunks of ``chunk_interval``.

    Stands beside the table's columns and is then ``hypertable_of(table)``. ``retention`` drops chunks all of whose rows
    are older; None keeps everything. Raises ValueError or TypeError when the table is made and can't be a hypertable.

    >>> Hypertable("timestamp", chunk_interval=days(7), retention=days(90)).chunk_interval
    datetime.timedelta(days=7)
    """

    __visit_name__ = "schema_item"

    def __init__(
        self,
        time_column: str,
        *,
        chunk_interval: timedelta,
        columnstore: Columnstore | None = None,
        retention: timedelta | None = None,
    ) -> None:
        _positive("chunk_interval", chunk_interval)
        if retention is not None:
            _positive("retention", retention)
            if chunk_interval >= retention:
                raise ValueError(
                    f"chunk_interval {interval(chunk_interval)} is not shorter than retention {interval(retention)}: "
                    "rows go by whole chunks"
                )
            if columnstore is not None and columnstore.after is not None and columnstore.after >= retention:
                raise ValueError(
                    f"columnstore after {interval(columnstore.after)} is not before retention {interval(retention)}: "
                    "a chunk would be dropped before it is converted"
                )
        self.time_column = time_column
        self.chunk_interval = chunk_interval
        self.columnstore = columnstore
        self.retention = retention

    def __repr__(self) -> str:
        return (
            f"Hypertable({self.time_column!r}, chunk_interval={self.chunk_interval!r}, "
            f"columnstore={self.columnstore!r}, retention={self.retention!r})"
        )

    def check(self, table: Table) -> None:
        """Raises ValueError or TypeError, one line, when the table can't be this hypertable."""
        time = table.columns.get(self.time_column)
        if time is None:
            raise ValueError(f"table {table.fullname} has no column {self.time_column!r} to be a hypertable by")
        if not isinstance(time.type, DateTime) or not time.type.timezone:
            raise TypeError(
                f"{table.fullname}.{time.name} is {time.type!r}: a hypertable's time is a DateTime(timezone=True)"
            )
        if time.nullable:
            raise ValueError(f"{table.fullname}.{time.name} must be NOT NULL to be a hypertable's time column")
        for name, columns in _unique_keys(table):
            if self.time_column not in columns:
                raise ValueError(
                    f"{name} of {table.fullname} ({', '.join(columns)}) lacks {self.time_column}: every unique key of "
                    "a hypertable contains its time column"
                )
        if self.columnstore is not None:
            named = (*self.columnstore.segment_by, *(each.column for each in self.columnstore.ordering))
            missing = [name for name in named if name not in table.columns]
            if missing:
                raise ValueError(f"columnstore of {table.fullname}: there is no column {', '.join(missing)}")
            if self.time_column in self.columnstore.segment_by:
                raise ValueError(f"columnstore of {table.fullname}: segment_by can't hold the time column")

    def _set_parent(self, parent: Any, **_: Any) -> None:
        if not isinstance(parent, Table):
            raise TypeError("a Hypertable stands among the arguments of a Table")
        if INFO_KEY in parent.info:
            raise ValueError(f"table {parent.fullname} is declared a hypertable twice")
        parent.info[INFO_KEY] = self
        # Keys may come after this in the table's arguments: looked at once it is complete.
        event.listen(parent, "after_parent_attach", lambda table, _metadata: self.check(table))


class TimeBucket(FunctionElement[Any]):
    """``time_bucket(width, column)``; made by :func:`time_bucket`."""

    inherit_cache = True

    def __init__(self, width: timedelta, column: ColumnElement[Any]) -> None:
        self.width = width
        self.column = column
        super().__init__(literal_column(f"INTERVAL '{interval(width)}'"), column)
        self.type = column.type


@compiles(TimeBucket)
def _compile_time_bucket(element: TimeBucket, compiler: Any, **kw: Any) -> str:
    return f"time_bucket{compiler.process(element.clause_expr, **kw)}"


def time_bucket(width: timedelta, column: ColumnElement[Any]) -> TimeBucket:
    """The start of the bucket that a time is in. Buckets are counted from Monday 2000-01-03 UTC.

    >>> from sqlalchemy import column
    >>> print(time_bucket(minutes(5), column("timestamp")))
    time_bucket(INTERVAL '5 minutes', timestamp)
    """
    _positive("bucket width", width)
    return TimeBucket(width, column)


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """Every ``schedule_interval``, the buckets between now − ``start_offset`` and now − ``end_offset`` are made anew.

    >>> RefreshPolicy(start_offset=days(3), end_offset=hours(1), schedule_interval=hours(1)).end_offset
    datetime.timedelta(seconds=3600)
    """

    start_offset: timedelta
    end_offset: timedelta
    schedule_interval: timedelta

    def __post_init__(self) -> None:
        _positive("start_offset", self.start_offset)
        _positive("schedule_interval", self.schedule_interval)
        if self.end_offset < timedelta(0):
            raise ValueError(f"end_offset {self.end_offset} is negative")
        if self.end_offset >= self.start_offset:
            raise ValueError(
                f"start_offset {interval(self.start_offset)} is not before end_offset {interval(self.end_offset)}: "
                "the refresh window is empty"
            )


class ContinuousAggregate:
    """A view that TimescaleDB keeps up to date: ``query`` grouped by one ``time_bucket``.

    Reads one hypertable or one other aggregate. Registers itself in its ``metadata``; ``c`` are the columns of its
    view, for queries and for aggregates built on it. Recent buckets that the refresh has not reached are computed when
    asked (real-time aggregation). Averages of averages are wrong: a coarser aggregate is built from sums and counts.
    The module's docstring has an example.

    Raises ValueError or TypeError, one line, for what TimescaleDB would refuse, and for a refresh window or a retention
    that would delete what is kept.
    """

    def __init__(
        self,
        name: str,
        metadata: MetaData,
        query: Select[Any],
        *,
        refresh: RefreshPolicy | None = None,
        retention: timedelta | None = None,
    ) -> None:
        if len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"{name}: a name has at most {MAX_NAME_BYTES} bytes")
        registered: dict[str, ContinuousAggregate] = metadata.info.setdefault(_AGGREGATES, {})
        self.name = name
        self.metadata = metadata
        self.schema = metadata.schema
        self.fullname = f"{self.schema}.{name}" if self.schema else name
        if name in registered or self.fullname in metadata.tables:
            raise ValueError(f"continuous aggregate {name}: there is a table or an aggregate of that name")
        if retention is not None:
            _positive(f"continuous aggregate {name}: retention", retention)
        self.query = query
        self.refresh = refresh
        self.retention = retention
        self.source = _source_of(self)
        label, self.time_bucket = _bucket_of(self)
        self.bucket_column = label.name
        self.bucket_width = self.time_bucket.width
        self.view: TableClause = table_named(
            name,
            *(
                column_named(each.name, each.type)
                for each in query.selected_columns
                if isinstance(each, ColumnClause | Label)
            ),
            schema=self.schema,
        )
        unnamed = len(list(query.selected_columns)) - len(self.view.columns)
        if unnamed:
            raise ValueError(
                f"continuous aggregate {name}: {unnamed} of its columns have no name; give them a .label()"
            )
        self._check_periods()
        registered[name] = self

    @property
    def c(self) -> ReadOnlyColumnCollection[str, Any]:
        """The columns of its view."""
        return self.view.c

    def __repr__(self) -> str:
        return f"ContinuousAggregate({self.name!r})"

    def _check_periods(self) -> None:
        kept = _retention_of(self.source)
        what = f"continuous aggregate {self.name}"
        if isinstance(self.source, ContinuousAggregate):
            finer = self.source.bucket_width
            if self.bucket_width <= finer or self.bucket_width % finer:
                raise ValueError(
                    f"{what}: bucket {interval(self.bucket_width)} is not a multiple of {interval(finer)}, the "
                    f"bucket of {self.source.name}"
                )
        if self.refresh is not None:
            window = self.refresh.start_offset - self.refresh.end_offset
            if window < 2 * self.bucket_width:
                raise ValueError(
                    f"{what}: the refresh window of {interval(window)} is shorter than two buckets of "
                    f"{interval(self.bucket_width)}"
                )
            if kept is not None and self.refresh.start_offset >= kept:
                raise ValueError(
                    f"{what}: start_offset {interval(self.refresh.start_offset)} reaches behind the retention of "
                    f"{_name_of(self.source)}, {interval(kept)}: refreshing would delete history"
                )
        if self.retention is not None and kept is not None and self.retention <= kept:
            raise ValueError(
                f"{what}: retention {interval(self.retention)} is not longer than that of {_name_of(self.source)}, "
                f"{interval(kept)}"
            )


Source: TypeAlias = Table | ContinuousAggregate


def hypertable_of(table: Table) -> Hypertable | None:
    """The table's declaration, if it has one."""
    found = table.info.get(INFO_KEY)
    return found if isinstance(found, Hypertable) else None


def aggregates_of(metadata: MetaData) -> tuple[ContinuousAggregate, ...]:
    """The metadata's continuous aggregates; one that is built on another comes after it."""
    # An aggregate needs the columns of what it reads, so none can be made before its source.
    return tuple(metadata.info.get(_AGGREGATES, {}).values())


def _source_of(aggregate: ContinuousAggregate) -> Source:
    known = {each.view: each for each in aggregates_of(aggregate.metadata)}
    found: list[Source] = []
    for clause in aggregate.query.get_final_froms():
        for part in visitors.iterate(clause):
            if isinstance(part, Table) and hypertable_of(part) is not None:
                found.append(part)
            elif isinstance(part, TableClause) and part in known:
                found.append(known[part])
    if len(found) != 1:
        names = ", ".join(_name_of(each) for each in found) or "none"
        raise ValueError(
            f"continuous aggregate {aggregate.name} reads exactly one hypertable or continuous aggregate of its "
            f"metadata, not {names}"
        )
    return found[0]


def _bucket_of(aggregate: ContinuousAggregate) -> tuple[Label[Any], TimeBucket]:
    what = f"continuous aggregate {aggregate.name}"
    buckets = [
        (each, each.element)
        for each in aggregate.query.selected_columns
        if isinstance(each, Label) and isinstance(each.element, TimeBucket)
    ]
    if len(buckets) != 1:
        raise ValueError(f"{what} selects exactly one time_bucket(…).label(…), not {len(buckets)}")
    label, bucket = buckets[0]
    source = aggregate.source
    expected = source.c[hypertable_time(source)]
    if bucket.column is not expected:
        raise ValueError(f"{what}: its bucket is of {bucket.column}, not of {expected}, the time of {_name_of(source)}")
    if bucket not in group_by_of(aggregate.query):
        raise ValueError(f"{what} is not grouped by its bucket {label.name!r}")
    return label, bucket


def group_by_of(query: Select[Any]) -> list[ColumnElement[Any]]:
    """What a select is grouped by, with labels resolved to what they stand for.

    PostgreSQL reads ``GROUP BY bucket`` as a column of the source where it has one: an aggregate built on another would
    be grouped by the finer bucket.
    """
    selected = {each.name: each for each in query.selected_columns if isinstance(each, Label)}
    resolved = []
    for clause in query._group_by_clauses:
        name = getattr(clause, "element", None)
        if isinstance(name, str) and name in selected:
            clause = selected[name]
        elif isinstance(name, Label):
            clause = name
        resolved.append(clause.element if isinstance(clause, Label) else clause)
    return resolved


def hypertable_time(source: Source) -> str:
    """The name of a source's time column: a hypertable's own, an aggregate's bucket."""
    if isinstance(source, ContinuousAggregate):
        return source.bucket_column
    declared = hypertable_of(source)
    assert declared is not None
    return declared.time_column


def _retention_of(source: Source) -> timedelta | None:
    if isinstance(source, ContinuousAggregate):
        return source.retention
    declared = hypertable_of(source)
    return declared.retention if declared is not None else None


def _name_of(source: Source) -> str:
    return source.fullname


def _unique_keys(table: Table) -> Iterable[tuple[str, list[str]]]:
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint) and constraint.columns:
            yield "the primary key", [column.name for column in constraint.columns]
        elif isinstance(constraint, UniqueConstraint):
            yield f"unique key {constraint.name or ''}".rstrip(), [column.name for column in constraint.columns]
    for index in table.indexes:
        if index.unique:
            yield f"unique index {index.name}", [column.name for column in index.columns]


def _positive(what: str, length: timedelta) -> None:
    if not isinstance(length, timedelta):
        raise TypeError(f"{what} is a timedelta such as days(1), not {length!r}")
    if length <= timedelta(0):
        raise ValueError(f"{what} {length} is not positive")
