"""From bytes to rows: a message becomes a record, or a rejection that says where and why. Pure: no I/O,
and the clock, for records without a time of their own, is passed in.

>>> decode = Decoder(topic, TimestampLimits(max_skew_s=86_400, oldest=datetime(2000, 1, 1, tzinfo=UTC)))
>>> decode(message)
Record(...)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from ingest.records import Item, Message, Record, Rejection, Row, Stage
from ingest.topics import Contract, Topic, Version
from ingest.topics.contract import in_utc
from ingest.topics.fields import fields_validator

_BACKSLASH = ord("\\")
MAX_ERRORS = 3
"""Faults of one message that its rejection names; the rest are counted."""


@dataclass(frozen=True, slots=True)
class TimestampLimits:
    """Between what a message's own timestamp may lie. One wrong clock would make chunks of years to come, and win
    every last-wins row."""

    max_skew_s: float
    """Seconds ahead of the broker's timestamp."""
    oldest: datetime


class Decoder:
    """One topic's way from bytes to rows."""

    def __init__(self, topic: Topic, limits: TimestampLimits, *, clock: Callable[[], float] = time.time) -> None:
        self._topic = topic
        self._clock = clock
        self._newest = topic.versions[-1]
        self._max_skew_s = limits.max_skew_s
        self._oldest = in_utc(limits.oldest)  # with the zone object of the messages' times they are compared faster
        self._not_ahead, self._seen_from = self._oldest, 0
        """What no message that the broker has from then on (ms) says too much with: a whole day asks it once."""
        contract = self._newest.contract
        self._fields_of = fields_validator(contract)
        self._known = frozenset(contract.model_fields)
        self._count = len(self._known)
        self._knows_parts = contract.unknown_fields.__func__ is not Contract.unknown_fields.__func__  # type: ignore[attr-defined]
        columns = [topic.columns_of(write) for write in topic.writes]
        self._to_rows = [_row_maker(each) for each in columns]
        self._is_row = len(columns) == 1 and columns[0] == {name: name for name in self._known}
        """The fields are the only row already."""

    def __call__(self, message: Message) -> Item:
        try:
            return self._decode(message)
        except Exception as error:  # noqa: BLE001 - a contract's own code (a validator, a lift) may raise anything
            return Rejection(
                message=message,
                stage="contract",
                reason=type(error).__name__,
                error=f"the contract's own code failed: {type(error).__name__}: {error}",
                contract=f"{self._newest.contract.__name__} {self._newest.name}",
            )

    def _decode(self, message: Message) -> Item:
        value = message.value
        if value is None:
            return _reject(message, "decode", "no_value", "the message has no value (a tombstone)")
        if self._fields_of is not None:
            try:
                fields = self._fields_of(value)
            except ValidationError:
                pass  # the contract itself says what is wrong, or that it is an older version
            else:
                if fields["schema_version"] == self._newest.name:
                    others = () if len(fields) == self._count else self._take_others(fields)
                    return self._record(message, value, fields, others)
        try:
            contract = self._newest.contract.model_validate_json(value)
        except ValidationError as error:
            return self._reject_invalid(message, value, error)
        if contract.schema_version != self._newest.name:
            return self._lifted_record(message, value, contract.schema_version)
        return self._record(message, value, contract.__dict__, tuple(contract.__pydantic_extra__ or ()))

    def _take_others(self, fields: dict[str, Any]) -> tuple[str, ...]:
        """Takes the fields that the contract doesn't know out of the others; returns their names."""
        others = tuple([name for name in fields if name not in self._known])
        for name in others:
            del fields[name]
        return others

    def _record(self, message: Message, value: bytes, fields: dict[str, Any], others: tuple[str, ...]) -> Item:
        timestamp: datetime = fields["timestamp"]
        if not self._oldest <= timestamp <= self._not_ahead or message.timestamp < self._seen_from:
            wrong = self._check_time(message, timestamp)
            if wrong is not None:
                return wrong
        # Only with this escape can a text hold a NUL: raw ones are no JSON. One byte is looked for much faster.
        if _BACKSLASH in value and b"\\u0000" in value:
            for name, content in fields.items():
                if _holds_nul(content):
                    return self._reject_field(
                        message, name, "nul_in_text", "the database can't hold a NUL character (\\u0000)"
                    )
        if others or self._knows_parts:
            others = self._newest.contract.unknown_fields(fields, others)
        if self._is_row:
            return Record(message, (fields,), others)
        return Record(message, tuple([make(fields) for make in self._to_rows]), others)

    def _check_time(self, message: Message, timestamp: datetime) -> Rejection | None:
        # -1: the producer gave the record no time, and the broker kept that.
        broker_s = message.timestamp / 1000 if message.timestamp >= 0 else self._clock()
        if timestamp.timestamp() > broker_s + self._max_skew_s:
            return self._reject_field(
                message,
                "timestamp",
                "timestamp_ahead",
                f"{timestamp.isoformat()} is more than {self._max_skew_s:g} s ahead of the broker's time",
            )
        if timestamp < self._oldest:
            return self._reject_field(
                message,
                "timestamp",
                "timestamp_too_old",
                f"{timestamp.isoformat()} is before {self._oldest.isoformat()}",
            )
        if message.timestamp >= 0:
            self._not_ahead, self._seen_from = timestamp, message.timestamp
            with suppress(OverflowError, ValueError):  # beyond the year 9999: then no message's own time is
                self._not_ahead = datetime.fromtimestamp(broker_s + self._max_skew_s, UTC)
        return None

    def _lifted_record(self, message: Message, value: bytes, name: str) -> Item:
        lifted = self._lift(message, value, name)
        if isinstance(lifted, Rejection):
            return lifted
        return self._record(message, value, lifted.__dict__, tuple(lifted.__pydantic_extra__ or ()))

    def _lift(self, message: Message, value: bytes, name: str) -> Contract | Rejection:
        """The newest contract's instance of a message in an older version."""
        names = [version.name for version in self._topic.versions]
        if name not in names:
            return self._reject_field(
                message,
                "schema_version",
                "unknown_schema_version",
                f"{name[:40]!r} is unknown; known are {', '.join(names)}",
            )
        position = names.index(name)
        version = self._topic.versions[position]
        try:
            contract = version.contract.model_validate_json(value)
            extra = contract.__pydantic_extra__
            for version in self._topic.versions[position + 1 :]:
                assert version.lift is not None  # Topic checks it
                contract = version.lift(contract)
        except ValidationError as error:
            return self._reject_errors(message, version, error.errors(include_url=False, include_input=False))
        if extra:
            contract.__pydantic_extra__.update(extra)  # type: ignore[union-attr] # the base class allows extras
        return contract

    def _reject_invalid(self, message: Message, value: bytes, error: ValidationError) -> Item:
        """What the newest contract refuses: bad JSON, an older version, or a fault."""
        errors = error.errors(include_url=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            field_path, reason, text = _explain_bad_json(value, errors[0]["msg"])
            return _reject(message, "decode", reason, text, field_path)
        name = self._schema_version(value)
        if isinstance(name, str) and name != self._newest.name:
            return self._lifted_record(message, value, name)
        return self._reject_errors(message, self._newest, errors)

    def _schema_version(self, value: bytes) -> Any:
        """The version that a message says it is of. One that says nothing is of the first."""
        parsed = from_json(value)
        return parsed.get("schema_version", self._topic.versions[0].name) if isinstance(parsed, dict) else None

    @staticmethod
    def _reject_errors(message: Message, version: Version, errors: list[ErrorDetails]) -> Rejection:
        described = [f"{_path(each['loc']) or 'the message'}: {each['msg']}" for each in errors[:MAX_ERRORS]]
        if len(errors) > MAX_ERRORS:
            described.append(f"and {len(errors) - MAX_ERRORS} more")
        return Rejection(
            message=message,
            stage="contract",
            reason=errors[0]["type"],
            error="; ".join(described),
            field_path=_path(errors[0]["loc"]) or None,
            contract=f"{version.contract.__name__} {version.name}",
        )

    def _reject_field(self, message: Message, field_path: str, reason: str, error: str) -> Rejection:
        return Rejection(
            message=message,
            stage="contract",
            reason=reason,
            error=f"{field_path}: {error}",
            field_path=field_path,
            contract=f"{self._newest.contract.__name__} {self._newest.name}",
        )


def _reject(message: Message, stage: Stage, reason: str, error: str, field_path: str | None = None) -> Rejection:
    return Rejection(message=message, stage=stage, reason=reason, error=error, field_path=field_path)


def _row_maker(columns: dict[str, str]) -> Callable[[dict[str, Any]], Row]:
    names = tuple(columns)
    # Twice one field: the getter of a single one would give no tuple.
    values_of = itemgetter(*columns.values(), *islice(columns.values(), 1))

    def make(fields: dict[str, Any]) -> Row:
        return dict(zip(names, values_of(fields), strict=False))

    return make


def _holds_nul(content: Any) -> bool:
    # A JsonText was checked when it was encoded: there a NUL is an escape, and a text is no place for one.
    if type(content) is str:
        return "\0" in content
    if isinstance(content, list):
        return any(_holds_nul(each) for each in content)
    return False


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _explain_bad_json(value: bytes, parser_message: str) -> tuple[str | None, str, str]:
    """Field path, reason and text for bytes that the strict parser refuses.

    A lone surrogate is the one fault for which Python's own parser, which takes it, can say where it stands.
    """
    if not value.strip():
        return None, "empty", "the message's value is empty"
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return None, "not_utf8", f"the bytes are not UTF-8 (at byte {error.start})"
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return None, "json_invalid", parser_message
    for path, text in _texts(parsed, ""):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            where = path or "a field's name"
            return path or None, "lone_surrogate", f"{where}: a lone surrogate (half of a character) is no text"
    return None, "json_invalid", parser_message


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with its path; iterative, for the nesting is the sender's choice."""
    waiting = [(path, value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, list):
            waiting += [(f"{path}[{position}]", each) for position, each in enumerate(value)]
        elif isinstance(value, dict):
            for name, member in value.items():
                yield path, name
                waiting.append((f"{path}.{name}" if path else name, member))
