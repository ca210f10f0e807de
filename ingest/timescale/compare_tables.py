"""One table's declaration against the hypertable that is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Table

from ingest.hypertables import Hypertable, OrderBy, hypertable_of
from ingest.timescale import operations as ops
from ingest.timescale.catalog import LiveColumnstore, LiveHypertable, Relation


@dataclass(slots=True)
class TableChanges:
    """What is to be done to one table ``before`` and ``after`` its columns and keys themselves."""

    before: list[ops.TimescaleOperation] = field(default_factory=list)
    after: list[ops.TimescaleOperation] = field(default_factory=list)


def compare_table(
    table: Table, live: LiveHypertable | None, *, is_new: bool, adopt: bool, community: bool
) -> TableChanges:
    """What makes it what it is declared to be.

    ``is_new``: the same revision creates the table. ``adopt``: where it is an ordinary table, it becomes a hypertable.
    ``community``: whether the database has columnstore and retention.
    """
    declared = hypertable_of(table)
    relation: Relation = {"name": table.name, "schema": table.schema}
    if declared is not None:
        declared.check(table)  # a column appended to the primary key tells nobody that it came
    wanted = _state(declared) if declared is not None else None
    found = TableChanges()
    if wanted is not None and is_new:
        found.after += _make(relation, wanted, ends_with_table=True)
    elif wanted is not None and live is not None and wanted.time_column == live.time_column:
        if wanted.chunk_interval != live.chunk_interval:
            found.after.append(
                ops.SetChunkInterval(**relation, chunk_interval=wanted.chunk_interval, was=live.chunk_interval)
            )
        if community:
            _adjust_columnstore(found, relation, wanted, live, {column.name for column in table.columns})
            found.after += compare_retention(relation, wanted.retention, live.retention)
    else:
        if live is not None:
            found.before += _revert(relation, live)  # an ordinary table may have keys without the time
        if wanted is not None and (adopt or live is not None):
            found.after += _make(relation, wanted, community=community)
    return found


def forget_table(relation: Relation, live: LiveHypertable) -> Iterator[ops.Nothing]:
    """A table that is dropped: nothing to do, but the downgrade makes it a hypertable again."""
    for each in reversed(list(_make(relation, live, ends_with_table=True))):
        yield ops.Nothing(each)


def compare_retention(
    relation: Relation, wanted: timedelta | None, live: timedelta | None
) -> Iterator[ops.TimescaleOperation]:
    """Of a table or an aggregate. A policy can't be changed, only removed and added."""
    if wanted == live:
        return
    if live is not None:
        yield ops.RemoveRetentionPolicy(**relation, drop_after=live)
    if wanted is not None:
        yield ops.AddRetentionPolicy(**relation, drop_after=wanted)


def _state(declared: Hypertable) -> LiveHypertable:
    """What the catalog says of a hypertable that is as declared."""
    columnstore = None
    if declared.columnstore is not None:
        columnstore = LiveColumnstore(
            declared.columnstore.after,
            declared.columnstore.segment_by,
            tuple(str(each) for each in declared.columnstore.ordering),
        )
    return LiveHypertable(declared.time_column, declared.chunk_interval, columnstore, declared.retention)


def _make(
    relation: Relation, wanted: LiveHypertable, *, ends_with_table: bool = False, community: bool = True
) -> Iterator[ops.TimescaleOperation]:
    yield ops.CreateHypertable(
        **relation,
        time_column=wanted.time_column,
        chunk_interval=wanted.chunk_interval,
        ends_with_owner=ends_with_table,
    )
    if not community:
        return
    if wanted.columnstore is not None:
        yield ops.EnableColumnstore(
            **relation,
            segment_by=wanted.columnstore.segment_by,
            order_by=_order(wanted.columnstore, wanted.time_column),
            ends_with_owner=ends_with_table,
        )
        if wanted.columnstore.after is not None:
            yield ops.AddColumnstorePolicy(**relation, after=wanted.columnstore.after, ends_with_owner=ends_with_table)
    if wanted.retention is not None:
        yield ops.AddRetentionPolicy(**relation, drop_after=wanted.retention, ends_with_owner=ends_with_table)


def _adjust_columnstore(
    found: TableChanges, relation: Relation, wanted: LiveHypertable, live: LiveHypertable, columns: Collection[str]
) -> None:
    """``columns`` are the declared ones. No column can go while the columnstore's settings name it."""
    there, to_be, time = live.columnstore, wanted.columnstore, wanted.time_column
    let_go = there is not None and not _named(there) <= {*columns}
    early = found.before if let_go else found.after
    if there is not None and there.after is not None and (to_be is None or there.after != to_be.after):
        early.append(ops.RemoveColumnstorePolicy(**relation, after=there.after))
    if to_be is None:
        if there is not None:
            early.append(ops.DisableColumnstore(**relation, was=_settings(there, time)))
        return
    if there is not None and let_go and not _named(to_be) <= {*_named(there), time}:
        # The new settings may name a column that is only coming.
        kept = LiveColumnstore(
            there.after,
            tuple(each for each in there.segment_by if each in columns),
            tuple(each for each in there.order_by if _named(LiveColumnstore(order_by=(each,))) <= {*columns}),
        )
        early.append(_enable(relation, kept, there, time))
        there, early = kept, found.after
    if there is None or not _same_settings(to_be, there, time):
        early.append(_enable(relation, to_be, there, time))
    if to_be.after is not None and (there is None or there.after != to_be.after):
        found.after.append(ops.AddColumnstorePolicy(**relation, after=to_be.after))


def _enable(
    relation: Relation, wanted: LiveColumnstore, live: LiveColumnstore | None, time_column: str
) -> ops.EnableColumnstore:
    return ops.EnableColumnstore(
        **relation,
        segment_by=wanted.segment_by,
        order_by=_order(wanted, time_column),
        was=None if live is None else _settings(live, time_column),
    )


def _named(columnstore: LiveColumnstore) -> set[str]:
    """The columns in its settings."""
    named = set(columnstore.segment_by)
    for each in columnstore.order_by:
        with suppress(ValueError):  # a name that no declaration can have
            named.add(OrderBy.parse(each).column)
    return named


def _same_settings(wanted: LiveColumnstore, live: LiveColumnstore, time_column: str) -> bool:
    if wanted.segment_by != live.segment_by:
        return False
    if not OrderBy.can_name(time_column):
        # No revision could ask for TimescaleDB's own order, which names the time: the one that is there stays.
        return wanted.order_by in ((), _order(live, time_column))
    return live.order_by in (wanted.order_by, _order(wanted, time_column))


def _settings(columnstore: LiveColumnstore, time_column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return columnstore.segment_by, _order(columnstore, time_column)


def _order(columnstore: LiveColumnstore, time_column: str) -> tuple[str, ...]:
    """With what TimescaleDB adds where it does not name the time column: the newest first.

    Spelled out, for an order that is not given leaves in place the one that was there. What no order_by can name is
    left to TimescaleDB.
    """
    newest_first = f"{time_column} DESC"
    if not OrderBy.can_name(time_column):
        return tuple(each for each in columnstore.order_by if each != newest_first)
    if time_column in _named(columnstore):
        return columnstore.order_by
    return (*columnstore.order_by, newest_first)


def _revert(relation: Relation, live: LiveHypertable) -> Iterator[ops.TimescaleOperation]:
    if live.retention is not None:
        yield ops.RemoveRetentionPolicy(**relation, drop_after=live.retention)
    if live.columnstore is not None:
        if live.columnstore.after is not None:
            yield ops.RemoveColumnstorePolicy(**relation, after=live.columnstore.after)
        yield ops.DisableColumnstore(**relation, was=_settings(live.columnstore, live.time_column))
    yield ops.RevertHypertable(**relation, time_column=live.time_column, chunk_interval=live.chunk_interval)
