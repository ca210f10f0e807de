"""Declarations that are drawn, and each way to change one thing in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from hypothesis import strategies as st

from ingest.hypertables import Columnstore, RefreshPolicy, days, hours, minutes
from tests.timescale.doors import COLUMNSTORE, REFRESH, Doors

Strategy: TypeAlias = st.SearchStrategy[Any]
Draw: TypeAlias = Callable[[Strategy], Any]
Change: TypeAlias = Callable[[Doors, Draw], tuple[Doors, Doors]]
"""From what was drawn to a declaration that can be changed so, and the changed one."""

chunk_intervals = st.sampled_from([days(1), hours(12), hours(36), days(2)])
afters = st.just(days(7)) | st.none() | st.integers(1, 9).map(days)
segments = st.sampled_from([("door",), ()])
orders = st.sampled_from(
    [("timestamp desc",), ("timestamp", "opened desc nulls last"), ("opened", "timestamp"), ("opened",), ()]
)
columnstores = st.builds(Columnstore, afters, segments, orders)
retentions = st.just(days(30)) | st.none() | st.integers(25, 90).map(days)
start_offsets = st.just(days(3)) | st.integers(2, 9).map(days)
end_offsets = st.just(hours(1)) | st.integers(0, 24).map(hours)
schedules = st.just(hours(1)) | st.integers(1, 600).map(minutes)
refreshes = st.builds(RefreshPolicy, start_offsets, end_offsets, schedules)
keeps = st.just(days(365)) | st.none() | st.integers(100, 1000).map(days)
declarations = st.builds(
    Doors,
    chunk_interval=chunk_intervals,
    columnstore=columnstores | st.none(),
    retention=retentions,
    longest=st.booleans(),
    busiest=st.booleans(),
    refresh=refreshes | st.none(),
    kept=keeps,
    floor=st.booleans(),
    indexed=st.booleans(),
)
PLAINEST = Doors(columnstore=replace(COLUMNSTORE, order_by=("timestamp desc",)))
"""What is drawn first, and what a failure is simplified to."""


def other(strategy: Strategy, than: Any) -> Strategy:
    return strategy.filter(lambda drawn: drawn != than)


def of(name: str, strategy: Strategy, *, default: Any = None) -> Change:
    """Changes one field; with ``default``, where it is declared at all: that is put where it isn't."""

    def change(doors: Doors, draw: Draw) -> tuple[Doors, Doors]:
        was = getattr(doors, name)
        before = replace(doors, **{name: default if was is None else was})
        return before, replace(before, **{name: draw(other(strategy, getattr(before, name)))})

    return change


def within(name: str, part: str, strategy: Strategy, *, default: Any) -> Change:
    """Changes one part of a field."""

    def change(doors: Doors, draw: Draw) -> tuple[Doors, Doors]:
        was = getattr(doors, name) or default
        drawn = draw(other(strategy, getattr(was, part)))
        return replace(doors, **{name: was}), replace(doors, **{name: replace(was, **{part: drawn})})

    return change


def between(before: dict[str, Any], after: dict[str, Any]) -> Change:
    return lambda doors, _: (replace(doors, **before), replace(doors, **after))


def backwards(change: Change) -> Change:
    return lambda doors, draw: change(doors, draw)[::-1]


no_columnstore = of("columnstore", st.none(), default=COLUMNSTORE)
no_refresh = of("refresh", st.none(), default=REFRESH)
no_hour = between({"per_hour": True}, {"per_hour": False})
no_aggregates = between({}, {"per_minute": False, "per_hour": False})
no_hypertable = between({}, {"hypertable": False, "per_minute": False, "per_hour": False})
# A column that chunks are already ordered by can't go before they are rows again.
with_floor = {"floor": True, "columnstore": Columnstore(None, ("door",), ("floor", "timestamp desc"))}
without_floor = {"floor": False, "columnstore": Columnstore(None, ("door",), ("timestamp desc",))}

CHANGES: dict[str, Change] = {
    "chunk interval": of("chunk_interval", chunk_intervals),
    "retention": of("retention", retentions),
    "no columnstore": no_columnstore,
    "a columnstore": backwards(no_columnstore),
    "columnstore after": within("columnstore", "after", afters, default=COLUMNSTORE),
    "segment by": within("columnstore", "segment_by", segments, default=COLUMNSTORE),
    "order by": within(
        "columnstore", "order_by", orders.filter(bool), default=Columnstore(days(7), (), ("opened", "timestamp"))
    ),
    "the default order": between(
        {"columnstore": Columnstore(days(7), ("door",), ("opened", "timestamp"))},
        {"columnstore": Columnstore(days(7), ("door",))},
    ),
    "no refresh policy": no_refresh,
    "a refresh policy": backwards(no_refresh),
    "start offset": within("refresh", "start_offset", start_offsets, default=REFRESH),
    "end offset": within("refresh", "end_offset", end_offsets, default=REFRESH),
    "schedule": within("refresh", "schedule_interval", schedules, default=REFRESH),
    "retention of an aggregate": of("kept", keeps),
    "an index": of("indexed", st.booleans()),
    "a column": of("floor", st.booleans()),
    "query of the finer aggregate": of("longest", st.booleans()),
    "query of the coarser aggregate": of("busiest", st.booleans()),
    "no coarser aggregate": no_hour,
    "a coarser aggregate": backwards(no_hour),
    "no aggregates": no_aggregates,
    "aggregates": backwards(no_aggregates),
    "no hypertable": no_hypertable,
    "a hypertable": backwards(no_hypertable),
    "no column in the columnstore's order": between(with_floor, without_floor),
    "a column in the columnstore's order": between(without_floor, with_floor),
}
