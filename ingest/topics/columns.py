"""What the tables of Loom's topics share: their ``MetaData`` and the columns that most of them begin with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, Column, ColumnElement, DateTime, Index, MetaData, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from ingest.tables import NAMING_CONVENTION

metadata = MetaData(naming_convention=NAMING_CONVENTION)


def message_columns(*, message_id_required: bool = True) -> list[Column[Any]]:
    """The four columns of every message of a stream: device_id, message_id, timestamp, schema_version."""
    return [
        Column("device_id", Text, nullable=False),
        Column("message_id", Text, nullable=not message_id_required),
        Column("timestamp", DateTime(timezone=True), nullable=False),
        Column("schema_version", Text, nullable=False, server_default=text("'v1'")),
    ]


def created_at() -> Column[Any]:
    """When the row was written, by the database's clock."""
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def jsonb(name: str, *, nullable: bool = True) -> Column[Any]:
    """A jsonb column in which an absent value is SQL's NULL, not JSON's null."""
    return Column(name, JSONB(none_as_null=True), nullable=nullable)


def between(column: str, low: float, high: float) -> CheckConstraint:
    """The contract's range again, for whoever else writes to the table."""
    return CheckConstraint(f"{column} BETWEEN {low:g} AND {high:g}", name=column)


def at_least(column: str, low: int) -> CheckConstraint:
    """The contract's lower bound again."""
    return CheckConstraint(f"{column} >= {low}", name=column)


SEGMENT_BYTES = 1_000


def segments(*columns: str) -> list[CheckConstraint]:
    """Keeps the texts short by which a columnstore is segmented.

    A converted chunk has them all in one B-tree, whose rows have 2,704 bytes at most: a single row with longer ones
    would keep its chunk from ever being converted.
    """
    return [CheckConstraint(f"octet_length({column}) <= {SEGMENT_BYTES}", name=column) for column in columns]


def newest_first(name: str, column: Column[Any]) -> Index:
    """Rows with one value of a column, the newest first."""
    return Index(name, column, column.table.c.timestamp.desc())


def by_time(table: Table) -> Index:
    """Finds the rows of a time in a chunk, for a few pages of space: what a continuous aggregate's refresh reads.

    BRIN, for rows arrive nearly in the order of time, and a B-tree more would cost every insert.
    """
    return Index(f"{table.name}_timestamp_idx", table.c.timestamp, postgresql_using="brin")


FULL_TEXT_CHARACTERS = 50_000
"""How much of a text is searched. PostgreSQL refuses a row whose ``tsvector`` is over 1 MB, and with it the message;
the worst that so many characters can make is about half of that."""


def full_text(configuration: str, column: Column[Any]) -> ColumnElement[Any]:
    """What a full-text index holds, and what a query must ask for to use it.

    >>> print(full_text("simple", Column("page", Text)))
    to_tsvector('simple', left(page, 50000))
    """
    return func.to_tsvector(text(f"'{configuration}'"), func.left(column, text(str(FULL_TEXT_CHARACTERS))))
