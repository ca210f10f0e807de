"""An aggregate's query as readable SQL that serves TimescaleDB and plain PostgreSQL alike.

Where the bucket goes the text says ``{bucket}``: ``time_bucket(…)`` for a continuous aggregate, ``date_bin(…)`` for the
plain view in its place, which counts from the same origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ClauseElement, Join, Select, literal_column
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import visitors

from ingest.hypertables import ContinuousAggregate, TimeBucket, group_by_of, interval

BUCKET = "{bucket}"
ORIGIN = "TIMESTAMPTZ '2000-01-03 00:00:00+00'"
"""Where ``time_bucket`` counts from for buckets shorter than a month: a Monday."""
_COLUMNS, _GROUPS = "{columns}", "{groups}"
_dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]  # doubles no percent sign
preparer = _dialect.identifier_preparer


def query_text(aggregate: ContinuousAggregate) -> str:
    """The aggregate's select as SQL, a column a line, with ``{bucket}`` where it is grouped by time."""
    query = aggregate.query
    columns = [
        _compiled(getattr(each, "element", each), aggregate)
        + (f" AS {preparer.quote(each.name)}" if hasattr(each, "element") else "")
        for each in query.selected_columns
    ]
    groups = [_compiled(each, aggregate) for each in group_by_of(query)]
    rest: Select[Any] = query.with_only_columns(literal_column(_COLUMNS), maintain_column_froms=True)
    rest = rest.group_by(None).group_by(literal_column(_GROUPS))
    return "\n".join(
        line.rstrip()
        for line in _compiled(rest, aggregate)
        .replace(f" {_COLUMNS}", "\n    " + ",\n    ".join(columns))
        .replace(f" GROUP BY {_GROUPS}", "\nGROUP BY " + ", ".join(groups))
        .splitlines()
    )


def for_timescale(query: str, width: timedelta, time: str) -> str:
    """The query of a continuous aggregate. ``time`` is the time column, quoted."""
    return query.replace(BUCKET, f"time_bucket(INTERVAL '{interval(width)}', {time})")


def for_postgresql(query: str, width: timedelta, time: str) -> str:
    """The query of a plain view with the same columns and buckets."""
    return query.replace(BUCKET, f"date_bin(INTERVAL '{interval(width)}', {time}, {ORIGIN})")


def quoted(schema: str | None, *names: str) -> str:
    """A name as SQL writes it: ``schema.table.column``, each quoted where it must be."""
    return ".".join(preparer.quote(name) for name in ((schema,) if schema else ()) + names)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A live view's query with ``{bucket}``, the bucket's width as PostgreSQL writes it, and its column."""

    query: str
    width: str
    bucket_column: str


def parse_definition(definition: str) -> Parsed | None:
    """Reads what PostgreSQL says a view is.

    None where the bucket is not one that :func:`query_text` writes: a month, a timezone, an offset.
    """
    for function, arguments in (("time_bucket(", 2), ("date_bin(", 3)):
        begin = definition.find(function)
        if begin < 0:
            continue
        call = definition[begin : _closing(definition, begin + len(function))]
        given = call[len(function) : -1].split(", ")
        width = given[0].removeprefix("'").removesuffix("'::interval")
        if len(given) != arguments or not given[0].endswith("'::interval") or "mon" in width or "year" in width:
            return None
        query = definition.strip().rstrip(";").replace(f"({call})", BUCKET).replace(call, BUCKET)
        column = query.partition(f"{BUCKET} AS ")[2].split("\n")[0].rstrip(",").strip('"')
        return Parsed(query, width, column)
    return None


def _closing(text: str, position: int) -> int:
    """The position after the parenthesis that closes the one before ``position``."""
    depth = 1
    while depth and position < len(text):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        position += 1
    return position


def _compiled(clause: ClauseElement, aggregate: ContinuousAggregate) -> str:
    def bucket(element: Any, **_: Any) -> Any:
        if not isinstance(element, TimeBucket):
            return None
        if element.width != aggregate.bucket_width:
            raise ValueError(f"continuous aggregate {aggregate.name} has buckets of two widths")
        return literal_column(BUCKET, element.type)

    replaced: Any = visitors.replacement_traverse(clause, {}, bucket)
    joined = len(aggregate.query.get_final_froms()) > 1 or isinstance(aggregate.query.get_final_froms()[0], Join)
    # Where only one table is read, its name before each column is noise.
    options = {"literal_binds": True, "include_table": joined}
    return str(replaced.compile(dialect=_dialect, compile_kwargs=options))
