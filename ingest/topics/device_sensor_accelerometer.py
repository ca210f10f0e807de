"""``device.sensor.accelerometer.raw``: how a device is moved, 10–100 times a second. First one wins."""

from __future__ import annotations

from sqlalchemy import DOUBLE_PRECISION, Column, Table, Text, UniqueConstraint, text

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, minutes
from ingest.topics import contract
from ingest.topics.aggregates import aggregate
from ingest.topics.columns import by_time, created_at, jsonb, message_columns, metadata, segments
from ingest.topics.topic import FirstWins, Topic, Version, Write


class AccelerometerReading(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text | None = None
    x: float
    y: float
    z: float
    unit: contract.Text | None = None
    metadata: contract.JsonDocument | None = None


KEY = ("device_id", "timestamp")

accelerometer = Table(
    "device_sensor_accelerometer_raw",
    metadata,
    *message_columns(message_id_required=False),
    Column("x", DOUBLE_PRECISION, nullable=False),
    Column("y", DOUBLE_PRECISION, nullable=False),
    Column("z", DOUBLE_PRECISION, nullable=False),
    Column("unit", Text, nullable=False, server_default=text("'m/s²'")),
    jsonb("metadata"),
    created_at(),
    UniqueConstraint(*KEY, name="device_sensor_accelerometer_raw_key"),
    *segments("device_id"),
    Hypertable(
        "timestamp",
        chunk_interval=days(1),
        columnstore=Columnstore(after=days(1), segment_by=("device_id",), order_by=("timestamp DESC",)),
        retention=days(30),
    ),
)
by_time(accelerometer)

per_minute = aggregate(
    "device_sensor_accelerometer_per_minute",
    accelerometer,
    bucket=minutes(1),
    by=("device_id",),
    averages=("x", "y", "z"),
    extremes=("x", "y", "z"),
    refresh=RefreshPolicy(start_offset=days(28), end_offset=minutes(1), schedule_interval=minutes(1)),
    retention=days(365),
)

TOPIC = Topic(
    name="device.sensor.accelerometer.raw",
    versions=(Version("v1", AccelerometerReading),),
    writes=(Write(accelerometer, FirstWins(KEY)),),
)
