"""``device.sensor.gps.raw``: where a device is, 10–100 times a second. First one wins.

Older apps nest the values under ``data`` (``data.latitude``); both forms are valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, AliasPath, Field
from sqlalchemy import DOUBLE_PRECISION, Column, Table, UniqueConstraint

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, minutes
from ingest.topics import contract
from ingest.topics.aggregates import aggregate
from ingest.topics.columns import between, by_time, created_at, jsonb, message_columns, metadata, segments
from ingest.topics.topic import FirstWins, Topic, Version, Write


def flat_or_nested(name: str, **constraints: Any) -> Any:
    """A field that stands at the top of the message, or under ``data`` as older apps send it."""
    return Field(validation_alias=AliasChoices(name, AliasPath("data", name)), **constraints)


class GpsReading(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text | None = None
    latitude: Annotated[float, flat_or_nested("latitude", ge=-90, le=90)]
    longitude: Annotated[float, flat_or_nested("longitude", ge=-180, le=180)]
    altitude: Annotated[float | None, flat_or_nested("altitude")] = None
    accuracy: Annotated[float | None, flat_or_nested("accuracy")] = None
    speed: Annotated[float | None, flat_or_nested("speed")] = None
    bearing: Annotated[float | None, flat_or_nested("bearing")] = None
    metadata: Annotated[contract.JsonDocument | None, flat_or_nested("metadata")] = None
    data: Any = None
    """The nested form as it came, to see what else was in it."""

    @classmethod
    def unknown_fields(cls, fields: Mapping[str, Any], others: Sequence[str]) -> tuple[str, ...]:
        nested = fields["data"] if isinstance(fields["data"], dict) else {}
        return (*others, *(f"data.{name}" for name in nested if name not in cls.model_fields))


KEY = ("device_id", "timestamp")

gps = Table(
    "device_sensor_gps_raw",
    metadata,
    *message_columns(message_id_required=False),
    Column("latitude", DOUBLE_PRECISION, nullable=False),
    Column("longitude", DOUBLE_PRECISION, nullable=False),
    Column("altitude", DOUBLE_PRECISION),
    Column("accuracy", DOUBLE_PRECISION),
    Column("speed", DOUBLE_PRECISION),
    Column("bearing", DOUBLE_PRECISION),
    jsonb("metadata"),
    created_at(),
    UniqueConstraint(*KEY, name="device_sensor_gps_raw_key"),
    between("latitude", -90, 90),
    between("longitude", -180, 180),
    *segments("device_id"),
    Hypertable(
        "timestamp",
        chunk_interval=days(1),
        columnstore=Columnstore(after=days(1), segment_by=("device_id",), order_by=("timestamp DESC",)),
        retention=days(30),
    ),
)
by_time(gps)

per_minute = aggregate(
    "device_sensor_gps_per_minute",
    gps,
    bucket=minutes(1),
    by=("device_id",),
    averages=("altitude", "accuracy", "speed"),
    # Of angles there is no plain average: between 179° and -179° lies 180°.
    extremes=("latitude", "longitude"),
    refresh=RefreshPolicy(start_offset=days(28), end_offset=minutes(1), schedule_interval=minutes(1)),
    retention=days(365),
)

TOPIC = Topic(
    name="device.sensor.gps.raw",
    versions=(Version("v1", GpsReading),),
    writes=(Write(gps, FirstWins(KEY)),),
    not_stored=frozenset({"data"}),
)
