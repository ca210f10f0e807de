"""Dead letters: messages that can't be written, kept whole, with the reason, in the transaction that skips them.

Promise kept here: writing a dead letter does not fail. Bytes stay bytes; texts are cut, and what PostgreSQL's text
can't hold in them is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.records import Rejection
from ingest.tables import service_metadata

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
MAX_TEXT = 2_000
"""Characters of a text column."""

dead_letters = Table(
    "ingest_dead_letters",
    service_metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("consumer_group", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("kafka_offset", BigInteger, nullable=False),
    Column("kafka_timestamp", BigInteger, nullable=False, comment="ms since 1970, as the broker holds it"),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column(
        "headers",
        LargeBinary,
        comment="each header: length and bytes of its name, then of its value (-1: null)",
    ),
    Column("stage", Text, nullable=False, comment="decode, contract or database"),
    Column("reason", Text, nullable=False),
    Column("field_path", Text),
    Column("sqlstate", Text),
    Column("constraint_name", Text),
    Column("error", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("contract", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("resolution", Text, comment="what became of it: empty while it waits"),
    comment="messages that could not be written, whole, with the reason",
)
# Not unique: a topic made anew, or read again, brings other messages at the same offsets; the ledger keeps them apart.
Index(
    "ingest_dead_letters_message_idx",
    *(dead_letters.c[name] for name in ("consumer_group", "topic", "partition", "kafka_offset")),
)
Index(None, dead_letters.c.created_at)

_INSERT = insert(dead_letters)


async def write(connection: AsyncConnection, group: str, rejections: Sequence[Rejection]) -> None:
    """Adds one dead letter for each rejection, in the caller's transaction."""
    if rejections:
        await connection.execute(_INSERT, [_row(group, rejection) for rejection in rejections])


async def find(connection: AsyncConnection, *, topic: str | None = None, limit: int = 20) -> Sequence[Any]:
    """The newest dead letters, without their bodies: rows with every other column."""
    columns = [column for column in dead_letters.c if column.name not in ("key", "value", "headers")]
    query = select(*columns).order_by(dead_letters.c.id.desc()).limit(limit)
    if topic is not None:
        query = query.where(dead_letters.c.topic == topic)
    return (await connection.execute(query)).all()


async def get(connection: AsyncConnection, identifier: int) -> Any | None:
    """One dead letter with its bodies, or None."""
    found = await connection.execute(select(dead_letters).where(dead_letters.c.id == identifier))
    return found.one_or_none()


def _row(group: str, rejection: Rejection) -> dict[str, Any]:
    message = rejection.message
    return {
        "consumer_group": group,
        "topic": message.topic,
        "partition": message.partition,
        "kafka_offset": message.offset,
        "kafka_timestamp": message.timestamp,
        "key": message.key,
        "value": message.value,
        "headers": encode_headers(message.headers),
        "stage": rejection.stage,
        "reason": storable(rejection.reason),
        "field_path": storable(rejection.field_path),
        "sqlstate": rejection.sqlstate,
        "constraint_name": storable(rejection.constraint_name),
        "error": storable(rejection.error),
        "attempts": rejection.attempts,
        "contract": storable(rejection.contract),
    }


def storable(text: str | None) -> str | None:
    """A text that PostgreSQL takes: NUL and lone surrogates become U+FFFD, and it is cut at 2,000 characters."""
    if text is None:
        return None
    return _UNSTORABLE.sub("\ufffd", text[:MAX_TEXT])


def encode_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    """Headers as one byte string that loses nothing: for each, length and bytes of its name, then of its value.

    Lengths are four bytes, big-endian and signed; −1 stands for a value that is null. No headers give None.
    """
    if not headers:
        return None
    parts: list[bytes] = []
    for name, value in headers:
        raw = _header_name(name)
        parts += [len(raw).to_bytes(4, "big"), raw]
        parts.append((-1 if value is None else len(value)).to_bytes(4, "big", signed=True))
        parts.append(value or b"")
    return b"".join(parts)


def _header_name(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")  # as ingest.lenient decoded it
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")


def decode_headers(raw: bytes | None) -> list[tuple[str, bytes | None]]:
    """The headers that :func:`encode_headers` packed."""
    headers: list[tuple[str, bytes | None]] = []
    rest = memoryview(raw or b"")

    def take() -> bytes | None:
        nonlocal rest
        length = int.from_bytes(rest[:4], "big", signed=True)
        rest = rest[4:]
        if length < 0:
            return None
        taken, rest = bytes(rest[:length]), rest[length:]
        return taken

    while rest:
        name = take() or b""
        headers.append((name.decode("utf-8", "surrogateescape"), take()))
    return headers
