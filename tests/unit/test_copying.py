"""Which columns COPY can fill: those whose values the driver sends in binary as they are."""

from __future__ import annotations

from typing import Any

import pytest
from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    Time,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT, HSTORE, INT4RANGE, JSONB, TSVECTOR
from sqlalchemy.types import TypeDecorator

from ingest.copying import DIALECT, travels_as
from tests.support.topics import LOOM, PLAIN


class Shouted(TypeDecorator[str]):
    """Somebody's own type."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and value.upper()


class Lowered(TypeDecorator[str]):
    """One that puts SQL around its parameter."""

    impl = Text
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        return func.lower(bindparam)


def test_a_type_with_sql_around_its_parameter_does_not_travel() -> None:
    assert (travels_as(Lowered()), travels_as(ARRAY(Lowered))) == (None, None)


@pytest.mark.parametrize(
    "kind",
    [
        *(BigInteger(), Integer(), SmallInteger(), Boolean(), REAL(), Float(), Double(), Numeric(9, 2)),
        *(String(20), Text(), LargeBinary(), Uuid(), JSONB(none_as_null=True)),
        *(DateTime(timezone=True), DateTime(), Date(), Time(), Interval(), ARRAY(Text), ARRAY(Integer)),
    ],
    ids=str,
)
def test_a_type_that_the_driver_knows_travels_as_itself(kind: Any) -> None:
    assert travels_as(kind) is kind


@pytest.mark.parametrize(
    "kind",
    [
        CITEXT(),
        TSVECTOR(),
        HSTORE(),
        INT4RANGE(),
        HALFVEC(3),
        Enum("a", name="letters"),
        Shouted(),
        JSONB(),
        ARRAY(JSONB),
    ],
    ids=lambda kind: type(kind).__name__,
)
def test_a_type_that_only_sqlalchemy_can_send_stays_with_insert(kind: Any) -> None:
    assert travels_as(kind) is None


def test_a_vector_travels_as_an_array_of_reals() -> None:
    kind = travels_as(VECTOR(384))
    assert kind is not None
    assert kind.compile(dialect=DIALECT) == "REAL[]"


@pytest.mark.parametrize("topic", [*LOOM.values(), PLAIN], ids=lambda topic: topic.name)
def test_every_topic_of_loom_can_go_by_copy(topic: Any) -> None:
    for write in topic.writes:
        assert all(travels_as(write.table.c[name].type) is not None for name in topic.columns_of(write))
