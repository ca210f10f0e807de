"""``media.image.vision_annotations``: an object that a model saw in an image. First one wins."""

from __future__ import annotations

from sqlalchemy import REAL, Column, Index, Integer, Table, Text, UniqueConstraint

from ingest.hypertables import Columnstore, Hypertable, RefreshPolicy, days, hours, minutes
from ingest.topics import contract
from ingest.topics.aggregates import aggregate, coarser
from ingest.topics.columns import (
    between,
    by_time,
    created_at,
    full_text,
    jsonb,
    message_columns,
    metadata,
    newest_first,
    segments,
)
from ingest.topics.topic import FirstWins, Topic, Version, Write


class VisionAnnotation(contract.Contract):
    device_id: contract.Text
    message_id: contract.Text
    annotation_id: contract.Text
    object_class: contract.Text
    confidence_score: contract.Fraction
    bounding_box: contract.BoundingBox | None = None
    object_attributes: contract.JsonDocument | None = None
    ocr_text: contract.Text | None = None
    scene_description: contract.Text | None = None
    image_width: contract.Int32 | None = None
    image_height: contract.Int32 | None = None
    model_version: contract.Text | None = None


KEY = ("device_id", "timestamp", "message_id", "annotation_id")

vision_annotations = Table(
    "media_image_vision_annotations_raw",
    metadata,
    *message_columns(),
    Column("annotation_id", Text, nullable=False),
    Column("object_class", Text, nullable=False),
    Column("confidence_score", REAL, nullable=False),
    jsonb("bounding_box"),
    jsonb("object_attributes"),
    Column("ocr_text", Text),
    Column("scene_description", Text),
    Column("image_width", Integer),
    Column("image_height", Integer),
    Column("model_version", Text),
    created_at(),
    UniqueConstraint(*KEY, name="media_image_vision_annotations_raw_key"),
    between("confidence_score", 0, 1),
    *segments("device_id", "object_class"),
    Hypertable(
        "timestamp",
        chunk_interval=days(3),
        columnstore=Columnstore(after=days(3), segment_by=("device_id", "object_class"), order_by=("timestamp DESC",)),
        retention=days(15),
    ),
)
newest_first("media_image_vision_annotations_raw_class_idx", vision_annotations.c.object_class)
Index(
    "media_image_vision_annotations_raw_ocr_text_idx",
    # Signs, screens and receipts of any language: words as they stand, none stemmed or left out.
    full_text("simple", vision_annotations.c.ocr_text),
    postgresql_using="gin",
)
by_time(vision_annotations)

per_10_minutes = aggregate(
    "media_image_vision_annotations_per_10_minutes",
    vision_annotations,
    bucket=minutes(10),
    by=("device_id", "object_class"),
    averages=("confidence_score",),
    refresh=RefreshPolicy(start_offset=days(11), end_offset=minutes(10), schedule_interval=minutes(10)),
    retention=days(90),
)
per_hour = coarser(
    "media_image_vision_annotations_per_hour",
    per_10_minutes,
    bucket=hours(1),
    by=("device_id", "object_class"),
    averages=("confidence_score",),
    refresh=RefreshPolicy(start_offset=days(12), end_offset=hours(1), schedule_interval=hours(1)),
    retention=days(365),
)

TOPIC = Topic(
    name="media.image.vision_annotations",
    versions=(Version("v1", VisionAnnotation),),
    writes=(Write(vision_annotations, FirstWins(KEY)),),
)
