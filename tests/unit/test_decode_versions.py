"""``schema_version`` picks the contract; an older message is lifted, step by step, to the newest."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text

from ingest.topics import Append, Contract, Topic, Version, Write, contract
from tests.support.messages import at
from tests.unit.examples import EXAMPLES, Example, accepted, rejected


class DoorV1(Contract):
    door: contract.Text
    state: contract.Text


class DoorV2(Contract):
    door: contract.Text
    opened: bool
    details: contract.JsonObject | None = None


class DoorV3(Contract):
    door: contract.Text
    floor: contract.Int32
    opened: bool
    details: contract.JsonObject | None = None


def to_v2(old: DoorV1) -> DoorV2:
    return DoorV2(timestamp=old.timestamp, schema_version="v2", door=old.door, opened=old.state == "open")


def to_v3(old: DoorV2) -> DoorV3:
    floor, _, door = old.door.partition("/")
    return DoorV3.model_validate(
        {
            "timestamp": old.timestamp,
            "schema_version": "v3",
            "door": door,
            "floor": int(floor) if floor.isdigit() else floor,
            "opened": old.opened,
            "details": old.details,
        }
    )


doors = Table(
    "doors",
    MetaData(),
    Column("timestamp", DateTime(timezone=True)),
    Column("schema_version", Text),
    Column("door", Text),
    Column("floor", Integer),
    Column("opened", Text),
    Column("details", Text),
)
V1, V2, V3 = Version("v1", DoorV1), Version("v2", DoorV2, lift=to_v2), Version("v3", DoorV3, lift=to_v3)
TWO = Topic("acme.doors", (V1, V2), (Write(doors, Append()),))
THREE = Topic("acme.doors", (V1, V2, V3), (Write(doors, Append()),))


def body(version: str | None, **fields: Any) -> dict[str, Any]:
    return {"timestamp": at(0), **({} if version is None else {"schema_version": version}), **fields}


def test_newest_version_is_read_as_it_is() -> None:
    row = accepted(TWO, body("v2", door="1/a", opened=True)).rows[0]
    assert (row["door"], row["opened"], row["schema_version"]) == ("1/a", True, "v2")


def test_older_version_is_lifted_to_the_newest() -> None:
    row = accepted(TWO, body("v1", door="1/a", state="open")).rows[0]
    assert (row["door"], row["opened"], row["schema_version"]) == ("1/a", True, "v2")


@pytest.mark.parametrize(
    "message",
    [
        body("v1", door="1/a", state="open"),
        body("v2", door="1/a", opened=True),
        body("v3", door="a", floor=1, opened=True),
    ],
    ids=["from v1", "from v2", "as v3"],
)
def test_every_version_ends_as_the_same_row(message: dict[str, Any]) -> None:
    row = accepted(THREE, message).rows[0]
    assert {name: row[name] for name in ("door", "floor", "opened", "details", "schema_version")} == {
        "door": "a",
        "floor": 1,
        "opened": True,
        "details": None,
        "schema_version": "v3",
    }


def test_message_without_a_version_is_of_the_first() -> None:
    assert (
        accepted(THREE, body(None, door="1/a", state="open")).rows
        == accepted(THREE, body("v1", door="1/a", state="open")).rows
    )


def test_version_decides_also_where_the_newest_contract_would_take_the_message() -> None:
    message = body("v1", door="1/a", state="open", opened=False, floor=7)
    assert accepted(THREE, message).rows[0]["opened"] is True
    assert accepted(THREE, message).rows[0]["floor"] == 1


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_unknown_fields_survive_the_lifting(version: str) -> None:
    fields: dict[str, dict[str, Any]] = {"v1": {"door": "1/a", "state": "open"}, "v2": {"door": "1/a", "opened": True}}
    known = fields.get(version, {"door": "a", "floor": 1, "opened": True})
    assert accepted(THREE, body(version, **known, colour="red", size=2)).unknown_fields == ("colour", "size")


def test_jsonb_is_encoded_once_however_often_it_is_lifted() -> None:
    message = body("v2", door="1/a", opened=True, details={"a": ["ä", None]})
    assert accepted(THREE, message).rows[0]["details"] == '{"a":["ä",null]}'


@pytest.mark.parametrize(
    ("message", "contract_name", "path", "reason"),
    [
        (body("v1", door="1/a"), "DoorV1 v1", "state", "missing"),
        (body("v1", door="1/a", state=5), "DoorV1 v1", "state", "string_type"),
        (body("v2", door="1/a"), "DoorV2 v2", "opened", "missing"),
        (body("v2", door="1/a", opened=1), "DoorV2 v2", "opened", "bool_type"),
        (body("v3", door="a", opened=True), "DoorV3 v3", "floor", "missing"),
        (body("v2", door="cellar/a", opened=True), "DoorV3 v3", "floor", "int_type"),
        (body("v1", door="cellar/a", state="open"), "DoorV3 v3", "floor", "int_type"),
    ],
)
def test_fault_names_the_contract_that_refuses(
    message: dict[str, Any], contract_name: str, path: str, reason: str
) -> None:
    rejection = rejected(THREE, message)
    assert (rejection.stage, rejection.contract) == ("contract", contract_name)
    assert (rejection.field_path, rejection.reason) == (path, reason)


@pytest.mark.parametrize("timestamp", ["2099-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
def test_limits_of_timestamps_hold_for_older_versions(timestamp: str) -> None:
    message = body("v1", door="1/a", state="open") | {"timestamp": timestamp}
    assert rejected(THREE, message).field_path == "timestamp"


def test_nul_in_an_older_version_is_rejected_with_the_field_that_would_hold_it() -> None:
    rejection = rejected(THREE, body("v1", door="1/a\0", state="open"))
    assert (rejection.reason, rejection.field_path) == ("nul_in_text", "door")


@pytest.mark.parametrize("error", [ValueError("no such state"), KeyError("state")])
def test_lift_that_fails_rejects_the_message_rather_than_stop_the_topic(error: Exception) -> None:
    def fail(_: DoorV1) -> DoorV2:
        raise error

    topic = Topic("acme.doors", (V1, Version("v2", DoorV2, lift=fail)), (Write(doors, Append()),))
    rejection = rejected(topic, body("v1", door="1/a", state="open"))
    assert (rejection.stage, rejection.contract) == ("contract", "DoorV2 v2")


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.parametrize("version", ["v2", "v0", "", "V1", "v1 ", "v\0", "x" * 10_000])
def test_unknown_version_is_rejected_and_the_known_ones_are_named(example: Example, version: str) -> None:
    rejection = rejected(example.topic, example.valid | {"schema_version": version})
    assert (rejection.stage, rejection.reason) == ("contract", "unknown_schema_version")
    assert rejection.field_path == "schema_version"
    assert rejection.error.startswith("schema_version: ") and rejection.error.endswith("known are v1")
    assert len(rejection.error) < 200


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_unknown_version_is_the_reason_whatever_else_is_wrong(example: Example) -> None:
    rejection = rejected(example.topic, {"schema_version": "v9"})
    assert rejection.reason == "unknown_schema_version"


@pytest.mark.parametrize("version", [1, None, True, ["v1"], {}])
def test_version_must_be_a_text(version: Any) -> None:
    rejection = rejected(TWO, (body("v2", door="1/a", opened=True)) | {"schema_version": version})
    assert (rejection.stage, rejection.reason, rejection.field_path) == ("contract", "string_type", "schema_version")
