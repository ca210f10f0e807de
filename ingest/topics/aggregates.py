"""The continuous aggregates of Loom's tables: counts, sums, averages, first and last, in buckets of time.

An average of averages is wrong. So each aggregate keeps sums and counts, a coarser one adds up those of a finer one,
and the average that stands beside them is theirs.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import DOUBLE_PRECISION, REAL, BigInteger, ColumnElement, Integer, Numeric, Table, cast, func, select

from ingest.hypertables import ContinuousAggregate, RefreshPolicy, time_bucket
from ingest.topics.columns import metadata


def aggregate(
    name: str,
    source: Table,
    *,
    bucket: timedelta,
    by: tuple[str, ...],
    averages: tuple[str, ...] = (),
    extremes: tuple[str, ...] = (),
    refresh: RefreshPolicy,
    retention: timedelta,
) -> ContinuousAggregate:
    """An aggregate of a table's rows.

    Columns: ``bucket`` (its beginning), ``by``, ``messages``, ``first_timestamp``, ``last_timestamp``; of each column
    in ``averages`` its ``_sum``, ``_count`` (of values that are not NULL) and ``_avg``; of each in ``extremes`` its
    ``_min`` and ``_max``.
    """
    begin = time_bucket(bucket, source.c.timestamp)
    selected: list[ColumnElement[Any]] = [
        begin.label("bucket"),
        *(source.c[each] for each in by),
        func.count(type_=BigInteger).label("messages"),
        func.min(source.c.timestamp).label("first_timestamp"),
        func.max(source.c.timestamp).label("last_timestamp"),
    ]
    for each in averages:
        count = func.count(source.c[each], type_=BigInteger)
        selected += _average(each, _sum(source.c[each]), count)
    for each in extremes:
        selected += [func.min(source.c[each]).label(f"{each}_min"), func.max(source.c[each]).label(f"{each}_max")]
    query = select(*selected).group_by("bucket", *(source.c[each] for each in by))
    return ContinuousAggregate(name, metadata, query, refresh=refresh, retention=retention)


def coarser(
    name: str,
    finer: ContinuousAggregate,
    *,
    bucket: timedelta,
    by: tuple[str, ...],
    averages: tuple[str, ...] = (),
    refresh: RefreshPolicy,
    retention: timedelta,
) -> ContinuousAggregate:
    """The same columns in wider buckets, from the finer aggregate's sums and counts."""
    begin = time_bucket(bucket, finer.c.bucket)
    selected: list[ColumnElement[Any]] = [
        begin.label("bucket"),
        *(finer.c[each] for each in by),
        _total(finer.c.messages).label("messages"),
        func.min(finer.c.first_timestamp).label("first_timestamp"),
        func.max(finer.c.last_timestamp).label("last_timestamp"),
    ]
    for each in averages:
        selected += _average(each, _total(finer.c[f"{each}_sum"]), _total(finer.c[f"{each}_count"]))
    query = select(*selected).group_by("bucket", *(finer.c[each] for each in by))
    return ContinuousAggregate(name, metadata, query, refresh=refresh, retention=retention)


def _sum(column: ColumnElement[Any]) -> ColumnElement[Any]:
    match column.type:
        case REAL():
            return func.sum(cast(column, DOUBLE_PRECISION))  # a sum of reals is a real, of seven digits
        case DOUBLE_PRECISION():
            # A sum of doubles can overflow, and the aggregate would not be refreshed any more: a numeric can't.
            return func.sum(cast(column, Numeric))
        case Integer():
            return func.sum(column, type_=BigInteger)
    raise TypeError(f"{column}: no average of {column.type}")


def _total(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The sum of sums, or of counts, in the type that those have."""
    total = func.sum(column)
    return cast(total, BigInteger) if isinstance(column.type, BigInteger) else total


def _average(name: str, total: ColumnElement[Any], count: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    dividend = cast(total, DOUBLE_PRECISION) if isinstance(total.type, BigInteger) else total
    average = (dividend / func.nullif(count, 0, type_=dividend.type)).label(f"{name}_avg")
    return [total.label(f"{name}_sum"), count.label(f"{name}_count"), average]
