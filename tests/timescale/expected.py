"""Which operations a change is, said once more: from the two declarations alone, without a database."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from ingest.hypertables import RefreshPolicy, days, hours, minutes
from tests.timescale.doors import Doors

Told: TypeAlias = tuple[str, str, dict[str, Any]]
"""The operation, what it is about, and its arguments."""

RUNS_AT_ONCE = ("continuous_aggregate_policy", "retention_policy")
"""Policies whose first run comes when they are added."""


@dataclass(frozen=True)
class View:
    """An aggregate, as far as it is varied."""

    source: str
    time_column: str
    bucket_width: timedelta
    query: bool
    refresh: RefreshPolicy | None
    retention: timedelta | None


def told(difference: Any) -> Told:
    """One of Alembic's differences, or of ours. How SQL is written is not looked at."""
    kind, *what = difference
    match kind:
        case "add_index" | "remove_index":
            return kind, what[0].name, {}
        case "add_column" | "remove_column":
            return kind, what[2].name, {}
        case "enable_columnstore" if not what[1]["order_by"]:  # which is TimescaleDB's default
            return kind, what[0], {**what[1], "order_by": ("timestamp DESC",)}
        case _:
            name, arguments = what
            return kind, name, {key: value for key, value in arguments.items() if key != "query"}


def expected(before: Doors, after: Doors) -> list[Told]:
    """In their order."""
    there, wanted = _views(before), _views(after)
    anew: list[str] = []
    for name, view in wanted.items():
        if name not in there or there[name].query != view.query or view.source in anew:
            anew.append(name)
    dropped = {name: view for name, view in reversed(there.items()) if name not in wanted or name in anew}
    done: list[Told] = []
    for name, view in dropped.items():
        done += _refresh("remove", name, view.refresh) + _retention("remove", name, view.retention)
        done.append(("drop_continuous_aggregate", name, {}))
    early, late = _table(before, after)
    done += early + _columns(before, after)
    for name, view in wanted.items():
        late += _created(name, view) if name in anew else _adjusted(name, there[name], view)
    done += late
    if any(view.refresh is not None for view in dropped.values()):
        # The downgrade refreshes them, and what runs at once waits for that.
        going = [each for kind in RUNS_AT_ONCE[::-1] for each in done if each[0] == f"remove_{kind}"]
        done = going + [each for each in done if each not in going]
    refreshed = [name for name in anew if wanted[name].refresh is not None]
    if refreshed:  # for the same reason
        coming = [each for kind in RUNS_AT_ONCE for each in done if each[0] == f"add_{kind}"]
        done = [each for each in done if each not in coming]
        done += [("refresh_continuous_aggregate", name, {}) for name in refreshed] + coming
    return done


def _views(doors: Doors) -> dict[str, View]:
    """From fine to coarse."""
    views: dict[str, View] = {}
    if doors.per_minute:
        refresh = RefreshPolicy(days(3), minutes(1), minutes(1))
        views["doors_per_minute"] = View("doors", "timestamp", minutes(1), doors.longest, refresh, doors.kept)
        if doors.per_hour:
            views["doors_per_hour"] = View("doors_per_minute", "bucket", hours(1), doors.busiest, doors.refresh, None)
    return views


def _table(before: Doors, after: Doors) -> tuple[list[Told], list[Told]]:
    """What comes before the columns change, and after that."""
    if not before.hypertable:
        return [], _made(after) if after.hypertable else []
    if not after.hypertable:
        return _reverted(before), []
    early: list[Told] = []
    late: list[Told] = []
    if before.chunk_interval != after.chunk_interval:
        late.append(("set_chunk_interval", "doors", {"chunk_interval": after.chunk_interval}))
    same_policy = _after(before) == _after(after)
    if not same_policy:
        late += _columnstore_policy("remove", before)
    if after.columnstore is None and before.columnstore is not None:
        late.append(("disable_columnstore", "doors", {}))
    elif after.columnstore is not None and _settings(before) != _settings(after):
        # A column can go only when the columnstore has let go of it.
        lets_go = before.floor and not after.floor
        (early if lets_go else late).append(("enable_columnstore", "doors", _settings(after)))
    if not same_policy:
        late += _columnstore_policy("add", after)
    if before.retention != after.retention:
        late += _retention("remove", "doors", before.retention) + _retention("add", "doors", after.retention)
    return early, late


def _made(doors: Doors) -> list[Told]:
    arguments = {"time_column": "timestamp", "chunk_interval": doors.chunk_interval}
    done: list[Told] = [("create_hypertable", "doors", arguments)]
    if doors.columnstore is not None:
        done.append(("enable_columnstore", "doors", _settings(doors)))
    return done + _columnstore_policy("add", doors) + _retention("add", "doors", doors.retention)


def _reverted(doors: Doors) -> list[Told]:
    done = _retention("remove", "doors", doors.retention) + _columnstore_policy("remove", doors)
    if doors.columnstore is not None:
        done.append(("disable_columnstore", "doors", {}))
    return [*done, ("revert_hypertable", "doors", {})]


def _columns(before: Doors, after: Doors) -> list[Told]:
    done: list[Told] = []
    if before.floor != after.floor:
        done.append(("add_column" if after.floor else "remove_column", "floor", {}))
    if before.indexed != after.indexed:
        done.append(("add_index" if after.indexed else "remove_index", "doors_door_opened_idx", {}))
    return done


def _created(name: str, view: View) -> list[Told]:
    arguments = {"source": view.source, "time_column": view.time_column, "bucket_width": view.bucket_width}
    return [
        ("create_continuous_aggregate", name, arguments),
        *_refresh("add", name, view.refresh),
        *_retention("add", name, view.retention),
    ]


def _adjusted(name: str, before: View, after: View) -> list[Told]:
    done: list[Told] = []
    if before.refresh != after.refresh:
        done += _refresh("remove", name, before.refresh) + _refresh("add", name, after.refresh)
    if before.retention != after.retention:
        done += _retention("remove", name, before.retention) + _retention("add", name, after.retention)
    return done


def _refresh(verb: str, name: str, policy: RefreshPolicy | None) -> list[Told]:
    return _policy(verb, "continuous_aggregate", name, asdict(policy) if policy is not None else None)


def _retention(verb: str, name: str, drop_after: timedelta | None) -> list[Told]:
    return _policy(verb, "retention", name, {"drop_after": drop_after} if drop_after is not None else None)


def _columnstore_policy(verb: str, doors: Doors) -> list[Told]:
    after = _after(doors)
    return _policy(verb, "columnstore", "doors", {"after": after} if after is not None else None)


def _policy(verb: str, kind: str, name: str, arguments: dict[str, Any] | None) -> list[Told]:
    if arguments is None:
        return []
    return [(f"{verb}_{kind}_policy", name, arguments if verb == "add" else {})]


def _after(doors: Doors) -> timedelta | None:
    return None if doors.columnstore is None else doors.columnstore.after


def _settings(doors: Doors) -> dict[str, Any]:
    if doors.columnstore is None:
        return {}
    order_by = tuple(str(each) for each in doors.columnstore.ordering)
    if not any(each.startswith("timestamp") for each in order_by):
        order_by += ("timestamp DESC",)  # which TimescaleDB adds
    return {"segment_by": doors.columnstore.segment_by, "order_by": order_by}
