"""What the tables of Loom's topics share: their ``MetaData`` and the columns that most of them begin with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, Column, DateTime, MetaData, Text, func, text
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
