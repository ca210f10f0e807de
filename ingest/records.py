"""What travels through the service: a message, and the record or the rejection that decoding makes of it.

Nothing in this module imports anything of the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

Row: TypeAlias = dict[str, Any]
"""Column name → value, as SQLAlchemy's types take it. Every row of one table carries the same keys."""

Stage = Literal["decode", "contract", "database"]
"""Where a message failed: its bytes are no JSON, the contract refuses it, or the database does."""


class Message(Protocol):
    """One record as Kafka holds it. aiokafka's ``ConsumerRecord`` is one already; nothing is copied."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, as the broker holds it (the producer's or the log's clock)."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(slots=True)  # not frozen: that would cost each message more than all of its other bookkeeping
class Record:
    """A message that keeps its topic's contract, with the rows it becomes: one for each write of its topic.

    Two rows may be one dict: nobody changes them.
    """

    message: Message
    rows: tuple[Row, ...]
    unknown_fields: tuple[str, ...] = ()
    """Names of fields that the contract doesn't know. They are counted, never silently dropped."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message that can't be written, and why. It becomes one dead letter."""

    message: Message
    stage: Stage
    reason: str
    """A short code for grouping: pydantic's error type, ``json_invalid``, or an SQLSTATE."""
    error: str
    """One line for a person."""
    field_path: str | None = None
    """Where in the message, as ``data.latitude`` or ``embedding[3]``."""
    contract: str | None = None
    """The contract and version that refused it, as ``GpsReading v1``."""
    sqlstate: str | None = None
    constraint_name: str | None = None
    attempts: int = 1
    """How often it was tried; the first counts."""

    @property
    def cause(self) -> tuple[str, ...]:
        """What two rejections share when they have one cause (see ``ingest.fuse``)."""
        return (self.stage, self.reason, self.field_path or "", self.constraint_name or "")


Item: TypeAlias = Record | Rejection
