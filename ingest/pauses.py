"""Pauses: an operator holds a topic's lane in every pod, through the database, until it is resumed.

A paused lane keeps its partitions and its place; it writes no messages. From where it is to read is still looked up.
"""

from __future__ import annotations

from sqlalchemy import Column, DateTime, PrimaryKeyConstraint, Table, Text, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.tables import service_metadata

pauses = Table(
    "ingest_pauses",
    service_metadata,
    Column("consumer_group", Text),
    Column("topic", Text),
    Column("paused_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("consumer_group", "topic"),
    comment="topics whose lanes an operator holds, in every process of the group",
)


async def pause(connection: AsyncConnection, group: str, topic: str) -> bool:
    """Holds the topic's lane in every process of the group. False: it is paused already."""
    found = await connection.execute(
        insert(pauses).values(consumer_group=group, topic=topic).on_conflict_do_nothing().returning(pauses.c.topic)
    )
    return found.first() is not None


async def resume(connection: AsyncConnection, group: str, topic: str) -> bool:
    """Lets it go on. False: it is not paused."""
    found = await connection.execute(
        delete(pauses).where(pauses.c.consumer_group == group, pauses.c.topic == topic).returning(pauses.c.topic)
    )
    return found.first() is not None


async def paused(connection: AsyncConnection, group: str) -> set[str]:
    """The group's topics that are paused."""
    return set(await connection.scalars(select(pauses.c.topic).where(pauses.c.consumer_group == group)))
