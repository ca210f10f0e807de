"""Messages are validated to plain fields exactly as their contract would, or by an instance of it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, AliasPath, ConfigDict, Field, ValidationError, field_validator, model_validator

from ingest.decode import Decoder
from ingest.topics import Contract, contract
from ingest.topics.fields import fields_validator
from tests.support.messages import FakeMessage, at
from tests.support.mutations import mutated
from tests.unit.examples import EXAMPLES, LIMITS, Example

every_topic = pytest.mark.parametrize("example", EXAMPLES, ids=str)


def by_contract(model: type[Contract], raw: bytes) -> dict[str, Any] | None:
    try:
        instance = model.model_validate_json(raw)
    except ValidationError:
        return None
    return instance.__dict__ | (instance.__pydantic_extra__ or {})


def by_fields(model: type[Contract], raw: bytes) -> dict[str, Any] | None:
    validate = fields_validator(model)
    assert validate is not None
    try:
        return validate(raw)
    except ValidationError:
        return None


def check(model: type[Contract], raw: bytes) -> None:
    expected, found = by_contract(model, raw), by_fields(model, raw)
    # As texts: NaN is not equal to itself. And 1 is equal to 1.0, which is another row.
    assert (found is None) == (expected is None)
    if expected is not None and found is not None:
        assert sorted(map(repr, found.items())) == sorted(map(repr, expected.items()))


@every_topic
@settings(max_examples=200)
@given(data=st.data())
def test_fields_of_any_message_are_what_its_contract_makes_of_it(example: Example, data: st.DataObject) -> None:
    check(example.topic.contract, data.draw(mutated(example.valid)))


@every_topic
@settings(max_examples=100)
@given(data=st.data())
def test_records_and_rejections_are_the_same_without_the_short_way(example: Example, data: st.DataObject) -> None:
    message = FakeMessage(data.draw(mutated(example.valid)), topic=example.topic.name)
    short, long = Decoder(example.topic, LIMITS), Decoder(example.topic, LIMITS)
    assert short._fields_of is not None
    long._fields_of = None
    assert repr(short(message)) == repr(long(message))


def test_a_field_named_twice_counts_as_the_contract_counts_it() -> None:
    example = EXAMPLES[0]
    raw = json.dumps(example.valid).encode()
    check(example.topic.contract, raw[:-1] + b', "device_id": "other"}')
    check(example.topic.contract, raw[:-1] + b', "unknown": 1, "unknown": 2}')


class Plain(Contract):
    name: contract.Text
    tags: list[contract.Text] = Field(default_factory=list)
    nested: Annotated[int | None, Field(validation_alias=AliasChoices("nested", AliasPath("data", "nested")))] = None

    @field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > 5:
            raise ValueError("too long")
        return name.upper()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": "too long"},
        {"tags": ["a"]},
        {"tags": None},
        {"data": {"nested": 1}},
        {"data": {"nested": 1}, "nested": 2},
        {"data": 7, "other": [1]},
        {"nested": "1"},
        {"schema_version": None},
    ],
    ids=str,
)
def test_defaults_validators_and_aliases_of_fields_hold(changes: dict[str, Any]) -> None:
    check(Plain, json.dumps({"timestamp": at(0), "name": "ada"} | changes).encode())


class Renamed(Contract):
    name: Annotated[str, Field(validation_alias="called")]


class NestedFirst(Contract):
    name: Annotated[str, Field(validation_alias=AliasChoices(AliasPath("data", "name"), "name"))]


class Inside(Contract):
    name: Annotated[str, Field(validation_alias=AliasPath("name", "first"))]


class Checked(Contract):
    low: int = 0
    high: int = 0

    @model_validator(mode="after")
    def _ordered(self) -> Checked:
        assert self.low <= self.high
        return self


class Finished(Contract):
    def model_post_init(self, context: Any) -> None:
        assert self.schema_version


class Typed(Contract):
    __pydantic_extra__: dict[str, int]


class Built(Contract):
    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)


@pytest.mark.parametrize("model", [Renamed, NestedFirst, Inside, Checked, Finished, Typed, Built])
def test_a_contract_that_is_more_than_its_fields_is_always_made(model: type[Contract]) -> None:
    assert fields_validator(model) is None


def test_a_contract_that_allows_nothing_else_stays_as_strict() -> None:
    class Closed(Contract):
        model_config = ConfigDict(extra="forbid")

    check(Closed, json.dumps({"timestamp": at(0), "other": 1}).encode())
    check(Closed, json.dumps({"timestamp": at(0)}).encode())
