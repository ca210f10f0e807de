"""The parts that contracts are written with: the base class and the field types.

Strict where a silent coercion would hide a producer's fault: text for a number, a float for an integer, a timestamp
without zone, NaN, a value that the column can't hold. Tolerant where it would not: unknown fields are kept aside and
counted, an integer serves as a float.

>>> class DoorEvent(Contract):
...     door: Text
...     opened: bool
...     battery: Fraction | None = None
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema, from_json, to_json

ISO_8601 = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d"
"""What a timestamp begins with. pydantic alone would also read ``"1700000000"`` as one: a guess."""


def in_utc(moment: datetime) -> datetime:
    """The same moment in Python's own UTC: with any other zone the driver asks for its offset several times a value,
    which takes longer than all else that it does."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment  # in the year 1 or 9999: the range says so, or the database


def _in_utc_at_once(text: str, validate: ValidatorFunctionWrapHandler) -> Any:
    """What most producers send, a time in UTC, Python reads with its own zone object; the rest is pydantic's."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return validate(text)
    return moment if moment.tzinfo is UTC else validate(text)


class _IsoTimestamp:
    """Core schema of :data:`Timestamp`: text is checked against ISO 8601 first, then parsed, with a zone."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        parsed = core_schema.datetime_schema(tz_constraint="aware", strict=False)
        aware = core_schema.no_info_after_validator_function(in_utc, parsed)
        read = core_schema.no_info_wrap_validator_function(_in_utc_at_once, aware)
        text = core_schema.chain_schema([core_schema.str_schema(pattern=ISO_8601, strict=True), read])
        return core_schema.json_or_python_schema(json_schema=text, python_schema=aware)


class _Base64:
    """Core schema of :data:`Base64`."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(strict=True)
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(cls._decode, text),
            python_schema=core_schema.bytes_schema(strict=True),
        )

    @staticmethod
    def _decode(text: str) -> bytes:
        with suppress(ValueError):
            content = binascii.a2b_base64(text, strict_mode=True)
            # Even the strict mode overlooks padding too much, and bits that no byte has.
            if binascii.b2a_base64(content, newline=False).decode() == text:
                return content
        raise PydanticCustomError(
            "base64",
            "Input should be base64 by RFC 4648, section 4: letters, digits, + and /, padded with =, "
            "without line breaks",
        )


Text = str
Texts = list[str]
"""PostgreSQL's ``text[]``: one dimension, no NULL in it."""
Timestamp = Annotated[datetime, _IsoTimestamp]
Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
"""PostgreSQL's ``integer``."""
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Float32 = Annotated[float, Field(ge=-3.4028234663852886e38, le=3.4028234663852886e38)]
"""PostgreSQL's ``real``."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Signed = Annotated[float, Field(ge=-1, le=1)]
Base64 = Annotated[bytes, _Base64]
"""Bytes, which JSON carries as base64. Nothing is repaired: what a lenient reader skips may be half of a sound."""
Embedding = Annotated[list[Float32], Field(min_length=384, max_length=384)]
"""A sentence embedding of all-MiniLM-L6-v2: 384 numbers."""


class JsonText(str):
    """A JSON value as the text that PostgreSQL's ``jsonb`` takes, a plain ``str``: encoded once, when it is validated.

    A contract that an older one is lifted to takes what the older one encoded, or an object or array that is not
    encoded yet.
    """

    __slots__ = ()
    _shape: ClassVar[CoreSchema] = core_schema.any_schema()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        encoded = core_schema.no_info_after_validator_function(_encode, cls._shape)
        return core_schema.json_or_python_schema(
            json_schema=encoded,
            python_schema=core_schema.no_info_before_validator_function(_decoded, encoded),
        )


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError as error:
        raise PydanticCustomError("json_text", "A text that a lift gives is taken as JSON, and this is none") from error


def _encode(value: Any) -> str:
    text = to_json(value).decode()
    # What jsonb refuses can only hide where these letters stand; a single one is found much faster than several.
    maybe_nan = ("N" in text and "NaN" in text) or ("I" in text and "Infinity" in text)
    if maybe_nan and any(_not_finite(leaf) for leaf in _leaves(value)):
        raise PydanticCustomError("finite_number", "JSON for the database has no NaN or Infinity")
    if "\\" in text and "\\u0000" in text and any(isinstance(leaf, str) and "\0" in leaf for leaf in _leaves(value)):
        raise PydanticCustomError("nul_in_text", "The database can't hold a NUL character (\\u0000)")
    return text


class JsonObject(JsonText):
    """A JSON object for a ``jsonb`` column."""

    __slots__ = ()
    _shape: ClassVar[CoreSchema] = core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())


class JsonArray(JsonText):
    """A JSON array for a ``jsonb`` column."""

    __slots__ = ()
    _shape = core_schema.list_schema(core_schema.any_schema())


class JsonDocument(JsonText):
    """Any JSON object or array for a ``jsonb`` column."""

    __slots__ = ()
    _shape = core_schema.union_schema(
        [core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()), core_schema.list_schema()],
        mode="left_to_right",
        custom_error_type="json_document_type",
        custom_error_message="Input should be a JSON object or array",
    )


def _as_it_came(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    validate(value)
    return value


class BoundingBox(JsonObject):
    """A box in an image, ``{x, y, width, height}``: numbers in the unit that the model speaks; none is negative in
    width or height. More members are kept."""

    __slots__ = ()
    _coordinate = core_schema.typed_dict_field(core_schema.float_schema(strict=True, allow_inf_nan=False))
    _length = core_schema.typed_dict_field(core_schema.float_schema(strict=True, allow_inf_nan=False, ge=0))
    # Only looked at: as a float, an integer would be written in another way than it was sent.
    _shape = core_schema.no_info_wrap_validator_function(
        _as_it_came,
        core_schema.typed_dict_schema(
            {"x": _coordinate, "y": _coordinate, "width": _length, "height": _length},
            extra_behavior="allow",
        ),
    )


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not -float("inf") < value < float("inf")


def _leaves(value: Any) -> Iterator[Any]:
    """Every scalar inside a JSON value, names of objects' members included. Depth is bounded by the parser (200)."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _leaves(member)
    elif isinstance(value, list):
        for member in value:
            yield from _leaves(member)
    else:
        yield value


class Contract(BaseModel):
    """What one version of a topic's message must be. Subclass it; every field it does not know is counted."""

    model_config = ConfigDict(
        strict=True,
        extra="allow",
        allow_inf_nan=False,
        val_json_bytes="base64",
        frozen=True,
    )

    timestamp: Timestamp
    """The message's own time. It may not lie far ahead of the broker's (``LOOM_MAX_CLOCK_SKEW``)."""
    schema_version: str = "v1"

    @classmethod
    def unknown_fields(cls, fields: Mapping[str, Any], others: Sequence[str]) -> tuple[str, ...]:
        """Names of a message's fields that this contract doesn't know: ``others``, unless a contract keeps a field of
        which it knows only parts. ``fields`` holds the values of those that it knows."""
        return tuple(others)
