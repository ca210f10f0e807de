"""Declared aggregates against the continuous aggregates and plain views that are there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Column, Connection, Table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors

from ingest.errors import FatalError
from ingest.hypertables import ContinuousAggregate, hypertable_of, hypertable_time
from ingest.timescale import catalog, query
from ingest.timescale import operations as ops
from ingest.timescale.catalog import Key, LiveAggregate, LiveHypertable, LiveRefresh, Relation
from ingest.timescale.compare_tables import compare_retention


@dataclass
class Aggregates:
    """The comparison. ``live`` and ``declared`` have what is built on another after it.

    ``new`` and ``dropped`` are tables that the same revision makes and drops, ``existing`` those that are there.
    ``continuous``: a plain view in the place of a continuous aggregate is a difference. ``kept``: whether continuous
    aggregates are compared at all; else those that are there are left alone. ``altered``: columns of tables whose type
    the same revision changes, which PostgreSQL refuses while a view reads them.
    """

    connection: Connection
    declared: Mapping[Key, ContinuousAggregate]
    live: Mapping[Key, LiveAggregate]
    tables: Mapping[Key, Table]
    hypertables: Mapping[Key, LiveHypertable]
    existing: Collection[Key]
    new: Collection[Key]
    dropped: Collection[Key]
    altered: Collection[tuple[Key, str]]
    continuous: bool
    kept: bool
    included: Callable[[str, str], bool]

    def drops(self) -> Iterator[ops.TimescaleOperation]:
        """From coarse to fine: those that are made anew or not declared any more, and what is built on them."""
        for key in self._gone:
            yield from self._drop(key, self.live[key])

    def refreshes_of_downgrade(self) -> Iterator[ops.Nothing]:
        """Of those that are dropped: made again, they would show only what their policy's window reaches."""
        for key in self._gone:
            live = self.live[key]
            if live.refresh is not None and self._root_of(live) not in self.dropped:
                yield ops.Nothing(ops.RefreshContinuousAggregate(**catalog.relation_of(self.connection, key)))

    @cached_property
    def _gone(self) -> list[Key]:
        """Those to be dropped, from coarse to fine. Raises FatalError for one that would take somebody else's along."""
        gone: list[Key] = []
        for key, live in self.live.items():
            if self._left_alone(live):
                continue
            undeclared = key not in self.declared
            included = self.included(key[1], key[0])
            ours = self._root_of(live) in self.tables or self._root_of(live) in self.dropped
            if undeclared and not included and live.source in gone:
                raise FatalError(
                    f"{key[1]} reads {live.source[1]}, which is to be dropped, perhaps to be made anew. It is not "
                    "declared: drop it, and make it again afterwards"
                )
            if key in self._fresh or (undeclared and included and ours) or live.source in gone:
                gone.append(key)
        return gone[::-1]

    def creations(self) -> Iterator[ops.TimescaleOperation]:
        """From raw to coarse, with their policies; then policies that changed."""
        for key, aggregate in self.declared.items():
            relation: Relation = {"name": aggregate.name, "schema": aggregate.schema}
            live = self.live.get(key)
            if key in self._fresh:
                yield self._creation(aggregate)
                if aggregate.refresh is not None:
                    yield _policy(relation, _refresh_of(aggregate), ends_with_owner=True)
                if aggregate.retention is not None:
                    yield ops.AddRetentionPolicy(**relation, drop_after=aggregate.retention, ends_with_owner=True)
            elif live is not None and not live.plain and self.kept:
                wanted = _refresh_of(aggregate)
                if live.refresh is not None and wanted != live.refresh:
                    yield ops.RemoveContinuousAggregatePolicy(**relation, was=_policy(relation, live.refresh))
                if wanted is not None and wanted != live.refresh:
                    yield _policy(relation, wanted)
                yield from compare_retention(relation, aggregate.retention, live.retention)

    def refreshes(self) -> Iterator[ops.TimescaleOperation]:
        """Of those that are made over rows from before: their policy reaches back only so far."""
        for key, has_rows in self._fresh.items():
            aggregate = self.declared[key]
            if has_rows and aggregate.refresh is not None:
                yield ops.RefreshContinuousAggregate(name=aggregate.name, schema=aggregate.schema)

    @cached_property
    def _fresh(self) -> dict[Key, bool]:
        """Those to be created, and whether what they read may have rows from before."""
        fresh: dict[Key, bool] = {}
        for key, aggregate in self.declared.items():
            source = self._key(aggregate.source)
            live = self.live.get(key)
            if self._left_alone(live):
                continue
            if source in self.new:
                fresh[key] = False
            elif source in fresh:
                fresh[key] = fresh[source]
            elif source not in self.existing and source not in self.live:
                continue  # what it reads is not there, and nobody makes it now
            elif live is None or self._reads_altered(aggregate) or self._differs(aggregate, live):
                fresh[key] = True
        return fresh

    def _left_alone(self, live: LiveAggregate | None) -> bool:
        return live is not None and not live.plain and not self.kept

    def _reads_altered(self, aggregate: ContinuousAggregate) -> bool:
        return any(
            isinstance(part, Column) and (self._key(part.table), part.name) in self.altered
            for part in visitors.iterate(aggregate.query)
        )

    def _differs(self, aggregate: ContinuousAggregate, live: LiveAggregate) -> bool:
        if live.plain and self.continuous:
            return True
        if not live.plain and live.source != self._key(aggregate.source):
            return True
        made = self._creation(aggregate)
        sql = query.for_postgresql if live.plain else query.for_timescale
        return _as_stored(self.connection, sql(made.query, made.bucket_width, made.time)) != live.definition

    def _drop(self, key: Key, live: LiveAggregate) -> Iterator[ops.TimescaleOperation]:
        relation = catalog.relation_of(self.connection, key)
        if live.refresh is not None:
            yield ops.RemoveContinuousAggregatePolicy(**relation, was=_policy(relation, live.refresh))
        if live.retention is not None:
            yield ops.RemoveRetentionPolicy(**relation, drop_after=live.retention)
        yield ops.DropContinuousAggregate(**relation, was=self._as_made(key, live))

    def _creation(self, aggregate: ContinuousAggregate) -> ops.CreateContinuousAggregate:
        (schema, _), source = self._key(aggregate), self._key(aggregate.source)
        return ops.CreateContinuousAggregate(
            name=aggregate.name,
            schema=aggregate.schema,
            query=query.query_text(aggregate),
            source=source[1],
            source_schema=source[0] if source[0] != schema else None,
            time_column=hypertable_time(aggregate.source),
            bucket_width=aggregate.bucket_width,
        )

    def _as_made(self, key: Key, live: LiveAggregate) -> ops.CreateContinuousAggregate | None:
        """The operation that makes a live aggregate again, where it is one that an operation can make."""
        declared = self.declared.get(key)
        source = live.source or (self._key(declared.source) if declared is not None else None)
        parsed = query.parse_definition(live.definition)
        time_column = self._time_of(source) if source is not None else None
        if source is None or parsed is None or time_column is None:
            return None
        return ops.CreateContinuousAggregate(
            **catalog.relation_of(self.connection, key),
            query=parsed.query,
            source=source[1],
            source_schema=source[0] if source[0] != key[0] else None,
            time_column=time_column,
            bucket_width=catalog.interval_of(self.connection, parsed.width),
        )

    def _time_of(self, source: Key) -> str | None:
        """The time column that is there now."""
        if source in self.hypertables:
            return self.hypertables[source].time_column
        if source in self.live:
            parsed = query.parse_definition(self.live[source].definition)
            return parsed.bucket_column if parsed is not None else None
        table = self.tables.get(source)
        return hypertable_time(table) if table is not None and hypertable_of(table) is not None else None

    def _root_of(self, live: LiveAggregate) -> Key | None:
        """The hypertable under it all."""
        source = live.source
        while source is not None and source in self.live:
            source = self.live[source].source
        return source

    def _key(self, what: Table | ContinuousAggregate) -> Key:
        return catalog.key_of(self.connection, what.schema, what.name)


def _refresh_of(aggregate: ContinuousAggregate) -> LiveRefresh | None:
    """What the catalog says of a refresh policy that is as declared."""
    declared = aggregate.refresh
    if declared is None:
        return None
    return LiveRefresh(declared.start_offset, declared.end_offset, declared.schedule_interval)


def _policy(
    relation: Relation, refresh: LiveRefresh | None, *, ends_with_owner: bool = False
) -> ops.AddContinuousAggregatePolicy:
    assert refresh is not None
    return ops.AddContinuousAggregatePolicy(
        **relation,
        start_offset=refresh.start_offset,
        end_offset=refresh.end_offset,
        schedule_interval=refresh.schedule_interval,
        ends_with_owner=ends_with_owner,
    )


def _as_stored(connection: Connection, sql: str) -> str | None:
    """What PostgreSQL would say of a view with this query; None if it can't be made as things are."""
    attempt = connection.begin_nested()
    try:
        connection.execute(text(f"CREATE TEMPORARY VIEW timescale_declared AS {sql}".replace(":", r"\:")))
        return str(connection.scalar(text("SELECT pg_get_viewdef(CAST('pg_temp.timescale_declared' AS regclass))")))
    except DBAPIError:  # a column that is only coming
        return None
    finally:
        attempt.rollback()
