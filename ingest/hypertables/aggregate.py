"""Continuous aggregates over a hypertable, and over one another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from sqlalchemy import ColumnClause, ColumnElement, MetaData, Select, Table, TableClause, literal_column
from sqlalchemy import column as column_named
from sqlalchemy import table as table_named
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import Label
from sqlalchemy.sql.functions import FunctionElement

from ingest.hypertables.intervals import interval, positive
from ingest.hypertables.table import Hypertable, hypertable_of

MAX_NAME_BYTES = 63
"""PostgreSQL cuts longer names, silently."""
CHUNKS_OF_TABLE = 10
"""How many chunks of its table one chunk of an aggregate spans, by TimescaleDB's default."""
_AGGREGATES = "continuous_aggregates"


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
    >>> from ingest.hypertables import minutes
    >>> print(time_bucket(minutes(5), column("timestamp")))
    time_bucket(INTERVAL '5 minutes', timestamp)
    """
    positive("bucket width", width)
    return TimeBucket(width, column)


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """Every ``schedule_interval``, the buckets between now − ``start_offset`` and now − ``end_offset`` are made anew.

    >>> from ingest.hypertables import days, hours
    >>> RefreshPolicy(start_offset=days(3), end_offset=hours(1), schedule_interval=hours(1)).end_offset
    datetime.timedelta(seconds=3600)
    """

    start_offset: timedelta
    end_offset: timedelta
    schedule_interval: timedelta

    def __post_init__(self) -> None:
        positive("start_offset", self.start_offset)
        positive("schedule_interval", self.schedule_interval)
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

    Raises ValueError or TypeError, one line, for what TimescaleDB would refuse, and for a refresh window, a retention
    or chunks that do not fit one another: see :meth:`check_periods`.
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
            positive(f"continuous aggregate {name}: retention", retention)
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
        self.check_periods()
        registered[name] = self

    @property
    def c(self) -> ReadOnlyColumnCollection[str, Any]:
        """The columns of its view."""
        return self.view.c

    def __repr__(self) -> str:
        return f"ContinuousAggregate({self.name!r})"

    def check_periods(self) -> None:
        """Raises ValueError, one line, where the lengths of time do not fit one another.

        - The refresh window lies inside what the source's retention keeps, and inside what its own keeps: a bucket
          whose rows are gone would be made anew from nothing, and one that is gone would be made again.
        - It reaches over at least a whole chunk of the table. A refresh reads whole chunks, for hypertables are made
          without an index on time; and rows that come late, but into the chunk that is being written, would never
          show. A longer window costs little: only buckets that changed are made anew. What reads an aggregate has the
          index on its bucket.
        - Its own retention is longer than a chunk of the aggregate, which goes as a whole. TimescaleDB gives that ten
          times the table's interval, however many aggregates are between.
        """
        kept = _retention_of(self.source)
        table = self._table
        what = f"continuous aggregate {self.name}"
        if isinstance(self.source, ContinuousAggregate):
            finer = self.source.bucket_width
            if self.bucket_width <= finer or self.bucket_width % finer:
                raise ValueError(
                    f"{what}: bucket {interval(self.bucket_width)} is not a multiple of {interval(finer)}, the "
                    f"bucket of {self.source.name}"
                )
        chunk_interval = _hypertable(table).chunk_interval
        if self.refresh is not None:
            start_offset = self.refresh.start_offset
            window = start_offset - self.refresh.end_offset
            if window < 2 * self.bucket_width:
                raise ValueError(
                    f"{what}: the refresh window of {interval(window)} is shorter than two buckets of "
                    f"{interval(self.bucket_width)}"
                )
            if kept is not None and start_offset >= kept:
                raise ValueError(
                    f"{what}: start_offset {interval(start_offset)} reaches behind the retention of "
                    f"{self.source.fullname}, {interval(kept)}: refreshing would delete history"
                )
            if self.retention is not None and start_offset >= self.retention:
                raise ValueError(
                    f"{what}: start_offset {interval(start_offset)} reaches behind its own retention, "
                    f"{interval(self.retention)}: refreshing would make again what that drops"
                )
            if self.source is table and start_offset < chunk_interval:
                raise ValueError(
                    f"{what}: start_offset {interval(start_offset)} is shorter than the chunk_interval of "
                    f"{table.fullname}, {interval(chunk_interval)}: every refresh would read more than it makes anew"
                )
        if self.retention is not None:
            if kept is not None and self.retention <= kept:
                raise ValueError(
                    f"{what}: retention {interval(self.retention)} is not longer than that of {self.source.fullname}, "
                    f"{interval(kept)}"
                )
            if self.retention <= CHUNKS_OF_TABLE * chunk_interval:
                raise ValueError(
                    f"{what}: retention {interval(self.retention)} is not longer than its chunks of "
                    f"{interval(CHUNKS_OF_TABLE * chunk_interval)}, {CHUNKS_OF_TABLE} times the chunk_interval of "
                    f"{table.fullname}: rows go by whole chunks"
                )

    @property
    def _table(self) -> Table:
        """The hypertable under it all."""
        source = self.source
        while isinstance(source, ContinuousAggregate):
            source = source.source
        return source


Source: TypeAlias = Table | ContinuousAggregate


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
        names = ", ".join(each.fullname for each in found) or "none"
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
        raise ValueError(f"{what}: its bucket is of {bucket.column}, not of {expected}, the time of {source.fullname}")
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
    return _hypertable(source).time_column


def _retention_of(source: Source) -> timedelta | None:
    return source.retention if isinstance(source, ContinuousAggregate) else _hypertable(source).retention


def _hypertable(table: Table) -> Hypertable:
    """Of a table that is known to be declared one."""
    declared = hypertable_of(table)
    assert declared is not None
    return declared
