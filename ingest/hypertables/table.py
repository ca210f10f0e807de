"""A table that is a hypertable, with its columnstore and retention."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import DateTime, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Table, UniqueConstraint, event
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.schema import SchemaItem

from ingest.hypertables.intervals import interval, positive

INFO_KEY = "hypertable"
"""Where a table's ``info`` has its declaration."""
_NAME = re.compile(r"\w+")
_ORDER = re.compile(rf"({_NAME.pattern})(?: (ASC|DESC))?(?: (NULLS FIRST|NULLS LAST))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OrderBy:
    """One column of a columnstore's order, with its defaults spelled out as PostgreSQL has them."""

    column: str
    descending: bool
    nulls_first: bool

    @staticmethod
    def can_name(column: str) -> bool:
        """Whether an order can be written that names the column: of letters, digits and underscores.

        >>> OrderBy.can_name("timestamp"), OrderBy.can_name("event time")
        (True, False)
        """
        return _NAME.fullmatch(column) is not None

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

    >>> from ingest.hypertables import days
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
            positive("columnstore after", self.after)
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
    are older; None keeps everything. Raises ValueError or TypeError when the table is made and can't be a hypertable,
    or when a key is added to it that a hypertable can't have.

    >>> from ingest.hypertables import days
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
        positive("chunk_interval", chunk_interval)
        if retention is not None:
            positive("retention", retention)
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
        self._check_keys(table)
        if self.columnstore is not None:
            named = (*self.columnstore.segment_by, *(each.column for each in self.columnstore.ordering))
            missing = [name for name in named if name not in table.columns]
            if missing:
                raise ValueError(f"columnstore of {table.fullname}: there is no column {', '.join(missing)}")
            if self.time_column in self.columnstore.segment_by:
                raise ValueError(f"columnstore of {table.fullname}: segment_by can't hold the time column")

    def _check_keys(self, table: Table) -> None:
        for name, columns in _unique_keys(table):
            if self.time_column not in columns:
                raise ValueError(
                    f"{name} of {table.fullname} ({', '.join(columns)}) lacks {self.time_column}: every unique key of "
                    "a hypertable contains its time column"
                )
        for child, parent in _references(table):
            if child is not parent and hypertable_of(child) is not None and hypertable_of(parent) is not None:
                raise ValueError(
                    f"{child.fullname} has a foreign key to {parent.fullname}: a hypertable can't refer to another one"
                )

    def _set_parent(self, parent: Any, **_: Any) -> None:
        if not isinstance(parent, Table):
            raise TypeError("a Hypertable stands among the arguments of a Table")
        # Columns and keys may come after this in the table's arguments: looked at once it is complete.
        event.listen(parent, "after_parent_attach", lambda table, _metadata: self._declare(table))

    def _declare(self, table: Table) -> None:
        if INFO_KEY in table.info:
            raise ValueError(f"table {table.fullname} is declared a hypertable twice")
        table.info[INFO_KEY] = self
        self.check(table)


@event.listens_for(Index, "after_parent_attach")
@event.listens_for(UniqueConstraint, "after_parent_attach")
@event.listens_for(PrimaryKeyConstraint, "after_parent_attach")
@event.listens_for(ForeignKeyConstraint, "after_parent_attach")
def _check_late_key(_: Any, parent: Any) -> None:
    """A key that comes when its table is complete is refused as it comes."""
    declared = hypertable_of(parent) if isinstance(parent, Table) else None
    if declared is not None:
        declared._check_keys(parent)


def hypertable_of(table: Table) -> Hypertable | None:
    """The table's declaration, if it has one."""
    found = table.info.get(INFO_KEY)
    return found if isinstance(found, Hypertable) else None


def _references(table: Table) -> Iterable[tuple[Table, Table]]:
    """From which table to which: those of its metadata that begin or end in ``table``."""
    for child in table.metadata.tables.values():
        for key in child.foreign_key_constraints:
            try:
                parent = key.referred_table
            except NoReferenceError:  # to a table that comes later, and looks then
                continue
            if table in (child, parent):
                yield child, parent


def _unique_keys(table: Table) -> Iterable[tuple[str, list[str]]]:
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint) and constraint.columns:
            yield "the primary key", [column.name for column in constraint.columns]
        elif isinstance(constraint, UniqueConstraint):
            yield f"unique key {constraint.name or ''}".rstrip(), [column.name for column in constraint.columns]
    for index in table.indexes:
        if index.unique:
            yield f"unique index {index.name}", [column.name for column in index.columns]
