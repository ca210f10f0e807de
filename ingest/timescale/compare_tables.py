"""One table's declaration against the hypertable that is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import Table

from ingest.hypertables import Hypertable, hypertable_of
from ingest.timescale import operations as ops
from ingest.timescale.catalog import LiveColumnstore, LiveHypertable, Relation


def compare_table(
    table: Table, live: LiveHypertable | None, *, is_new: bool, adopt: bool, community: bool
) -> Iterator[ops.TimescaleOperation]:
    """What makes it what it is declared to be.

    ``is_new``: the same revision creates the table. ``adopt``: where it is an ordinary table, it becomes a hypertable.
    ``community``: whether the database has columnstore and retention.
    """
    declared = hypertable_of(table)
    relation: Relation = {"name": table.name, "schema": table.schema}
    if declared is not None:
        declared.check(table)  # an index may have come after the table was made
    wanted = _state(declared) if declared is not None else None
    if wanted is not None and is_new:
        yield from _make(relation, wanted, ends_with_table=True)
    elif wanted is not None and live is not None and wanted.time_column == live.time_column:
        yield from _adjust(relation, wanted, live, community=community)
    else:
        if live is not None:
            yield from _revert(relation, live)
        if wanted is not None and (adopt or live is not None):
            yield from _make(relation, wanted, community=community)


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


def _adjust(
    relation: Relation, wanted: LiveHypertable, live: LiveHypertable, *, community: bool
) -> Iterator[ops.TimescaleOperation]:
    if wanted.chunk_interval != live.chunk_interval:
        yield ops.SetChunkInterval(**relation, chunk_interval=wanted.chunk_interval, was=live.chunk_interval)
    if community:
        yield from _adjust_columnstore(relation, wanted, live)
        yield from compare_retention(relation, wanted.retention, live.retention)


def _adjust_columnstore(
    relation: Relation, wanted: LiveHypertable, live: LiveHypertable
) -> Iterator[ops.TimescaleOperation]:
    there, to_be = live.columnstore, wanted.columnstore
    after_there = there.after if there is not None else None
    after_to_be = to_be.after if to_be is not None else None
    if after_there is not None and after_there != after_to_be:
        yield ops.RemoveColumnstorePolicy(**relation, after=after_there)
    if to_be is None and there is not None:
        yield ops.DisableColumnstore(**relation, was=_settings(there, live.time_column))
    elif to_be is not None and (there is None or not _same_settings(to_be, there, wanted.time_column)):
        yield ops.EnableColumnstore(
            **relation,
            segment_by=to_be.segment_by,
            order_by=_order(to_be, wanted.time_column),
            was=None if there is None else _settings(there, live.time_column),
        )
    if after_to_be is not None and after_there != after_to_be:
        yield ops.AddColumnstorePolicy(**relation, after=after_to_be)


def _same_settings(wanted: LiveColumnstore, live: LiveColumnstore, time_column: str) -> bool:
    if wanted.segment_by != live.segment_by:
        return False
    return live.order_by in (wanted.order_by, _order(wanted, time_column))


def _settings(columnstore: LiveColumnstore, time_column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return columnstore.segment_by, _order(columnstore, time_column)


def _order(columnstore: LiveColumnstore, time_column: str) -> tuple[str, ...]:
    """Without an order of its own a columnstore has TimescaleDB's: the newest first.

    Spelled out, for an order that is not given leaves in place the one that was there; unless no order_by can name it.
    """
    own = (f"{time_column} DESC",) if time_column.isidentifier() else ()
    return columnstore.order_by or own


def _revert(relation: Relation, live: LiveHypertable) -> Iterator[ops.TimescaleOperation]:
    if live.retention is not None:
        yield ops.RemoveRetentionPolicy(**relation, drop_after=live.retention)
    if live.columnstore is not None:
        if live.columnstore.after is not None:
            yield ops.RemoveColumnstorePolicy(**relation, after=live.columnstore.after)
        yield ops.DisableColumnstore(**relation, was=_settings(live.columnstore, live.time_column))
    yield ops.RevertHypertable(**relation, time_column=live.time_column, chunk_interval=live.chunk_interval)
