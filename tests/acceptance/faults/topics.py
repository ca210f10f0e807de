"""What the matrix sends: four rules of writing, one topic each, loaded by import path as a user's own would be.

The service loads this module by ``LOOM_TOPICS``; ``LOOM_TEST_SUFFIX`` makes the names a world's own. Imported without
it, it holds the same topics under their plain names.
"""

from __future__ import annotations

import os

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Integer, MetaData, Table, Text

from ingest.topics import Append, Topic, Version, Write, contract
from tests.support import topics

metadata = MetaData()


def _keyless(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("identity", Text, nullable=False),
        Column("timestamp", DateTime(timezone=True), nullable=False),
        Column("amount", Integer, nullable=False),
        CheckConstraint("amount >= 0", name=f"{name}_amount"),
    )


heads, tails, idle = _keyless("fault_heads"), _keyless("fault_tails"), _keyless("fault_idle")


class Pair(contract.Contract):
    identity: contract.Text
    amount: contract.Int32
    """The tables refuse a negative one; the contract does not."""


_suffix = os.environ.get("LOOM_TEST_SUFFIX", "")


def _named(topic: Topic) -> Topic:
    return topics.renamed(topic, _suffix) if _suffix else topic


PLAIN = _named(topics.PLAIN)
"""One table without a unique key."""
PAIR = _named(
    Topic(
        name="test.pair",
        versions=(Version("v1", Pair),),
        writes=(Write(heads, Append()), Write(tails, Append())),
        not_stored=frozenset({"schema_version"}),
    )
)
"""Two tables without a unique key: a message is in both, once, or in none."""
FIRST = _named(topics.GPS)
"""The first message of a key stays."""
NEWEST = _named(topics.EMAILS)
"""The newest message of a key, by its own time, stays."""
IDLE = _named(
    Topic(
        name="test.idle",
        versions=(Version("v1", Pair),),
        writes=(Write(idle, Append()),),
        not_stored=frozenset({"schema_version"}),
    )
)
"""Nothing is sent to it."""

ALL = (PLAIN, PAIR, FIRST, NEWEST)
