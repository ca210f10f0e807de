"""Voice, words, images and sensors: their tables, as hypertables.

Revision e3a4efb8b0fa, after eaa178a88c85.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "e3a4efb8b0fa"
down_revision = "eaa178a88c85"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_sensor_accelerometer_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("x", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("y", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("z", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("unit", sa.Text(), server_default=sa.text("'m/s²'"), nullable=False),
        sa.Column("metadata", JSONB(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "octet_length(device_id) <= 1000", name=op.f("device_sensor_accelerometer_raw_device_id_check")
        ),
        sa.UniqueConstraint("device_id", "timestamp", name="device_sensor_accelerometer_raw_key"),
    )
    op.create_index(
        "device_sensor_accelerometer_raw_timestamp_idx",
        "device_sensor_accelerometer_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_table(
        "media_audio_voice_segments_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("segment_start_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("segment_end_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("confidence_score", sa.REAL(), nullable=False),
        sa.Column("audio_sample_rate", sa.Integer(), nullable=True),
        sa.Column("audio_channels", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("voice_activity_threshold", sa.REAL(), nullable=True),
        sa.Column("segment_audio_data", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "confidence_score BETWEEN 0 AND 1", name=op.f("media_audio_voice_segments_raw_confidence_score_check")
        ),
        sa.CheckConstraint("duration_ms >= 0", name=op.f("media_audio_voice_segments_raw_duration_ms_check")),
        sa.CheckConstraint(
            "octet_length(device_id) <= 1000", name=op.f("media_audio_voice_segments_raw_device_id_check")
        ),
        sa.UniqueConstraint("device_id", "message_id", "timestamp", name="media_audio_voice_segments_raw_key"),
    )
    op.create_index(
        "media_audio_voice_segments_raw_confidence_idx",
        "media_audio_voice_segments_raw",
        ["confidence_score", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "media_audio_voice_segments_raw_duration_idx",
        "media_audio_voice_segments_raw",
        ["duration_ms", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "media_audio_voice_segments_raw_timestamp_idx",
        "media_audio_voice_segments_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_table(
        "media_image_vision_annotations_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("annotation_id", sa.Text(), nullable=False),
        sa.Column("object_class", sa.Text(), nullable=False),
        sa.Column("confidence_score", sa.REAL(), nullable=False),
        sa.Column("bounding_box", JSONB(none_as_null=True), nullable=True),
        sa.Column("object_attributes", JSONB(none_as_null=True), nullable=True),
        sa.Column("ocr_text", sa.Text(), nullable=True),
        sa.Column("scene_description", sa.Text(), nullable=True),
        sa.Column("image_width", sa.Integer(), nullable=True),
        sa.Column("image_height", sa.Integer(), nullable=True),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "confidence_score BETWEEN 0 AND 1", name=op.f("media_image_vision_annotations_raw_confidence_score_check")
        ),
        sa.CheckConstraint(
            "octet_length(device_id) <= 1000", name=op.f("media_image_vision_annotations_raw_device_id_check")
        ),
        sa.CheckConstraint(
            "octet_length(object_class) <= 1000", name=op.f("media_image_vision_annotations_raw_object_class_check")
        ),
        sa.UniqueConstraint(
            "device_id", "message_id", "annotation_id", "timestamp", name="media_image_vision_annotations_raw_key"
        ),
    )
    op.create_index(
        "media_image_vision_annotations_raw_class_idx",
        "media_image_vision_annotations_raw",
        ["object_class", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "media_image_vision_annotations_raw_ocr_text_idx",
        "media_image_vision_annotations_raw",
        [sa.literal_column("to_tsvector('simple', left(ocr_text, 50000))")],
        unique=False,
        postgresql_using="gin",
    )
    op.create_index(
        "media_image_vision_annotations_raw_timestamp_idx",
        "media_image_vision_annotations_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_table(
        "media_text_word_timestamps_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("word_sequence", sa.Integer(), nullable=False),
        sa.Column("word_text", sa.Text(), nullable=False),
        sa.Column("start_time_ms", sa.Integer(), nullable=False),
        sa.Column("end_time_ms", sa.Integer(), nullable=False),
        sa.Column("confidence_score", sa.REAL(), nullable=False),
        sa.Column("speaker_id", sa.Text(), nullable=True),
        sa.Column("language_code", sa.Text(), server_default=sa.text("'en'"), nullable=False),
        sa.Column("phonetic_transcription", sa.Text(), nullable=True),
        sa.Column("word_boundaries", JSONB(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "confidence_score BETWEEN 0 AND 1", name=op.f("media_text_word_timestamps_raw_confidence_score_check")
        ),
        sa.CheckConstraint(
            "octet_length(device_id) <= 1000", name=op.f("media_text_word_timestamps_raw_device_id_check")
        ),
        sa.CheckConstraint("word_sequence >= 0", name=op.f("media_text_word_timestamps_raw_word_sequence_check")),
        sa.UniqueConstraint(
            "device_id", "message_id", "word_sequence", "timestamp", name="media_text_word_timestamps_raw_key"
        ),
    )
    op.create_index(
        "media_text_word_timestamps_raw_speaker_idx",
        "media_text_word_timestamps_raw",
        ["speaker_id", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "media_text_word_timestamps_raw_timestamp_idx",
        "media_text_word_timestamps_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_index(
        "media_text_word_timestamps_raw_word_idx",
        "media_text_word_timestamps_raw",
        ["word_text", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "device_sensor_gps_raw_timestamp_idx",
        "device_sensor_gps_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_check_constraint(
        op.f("device_sensor_gps_raw_device_id_check"), "device_sensor_gps_raw", "octet_length(device_id) <= 1000"
    )
    op.create_hypertable("device_sensor_accelerometer_raw", "timestamp", chunk_interval=timedelta(days=1))
    op.enable_columnstore("device_sensor_accelerometer_raw", segment_by=("device_id",), order_by=("timestamp DESC",))
    op.add_columnstore_policy("device_sensor_accelerometer_raw", after=timedelta(days=1))
    op.add_retention_policy("device_sensor_accelerometer_raw", drop_after=timedelta(days=30))
    op.create_hypertable("device_sensor_gps_raw", "timestamp", chunk_interval=timedelta(days=1))
    op.enable_columnstore("device_sensor_gps_raw", segment_by=("device_id",), order_by=("timestamp DESC",))
    op.add_columnstore_policy("device_sensor_gps_raw", after=timedelta(days=1))
    op.create_hypertable("media_audio_voice_segments_raw", "timestamp", chunk_interval=timedelta(days=1))
    op.enable_columnstore("media_audio_voice_segments_raw", segment_by=("device_id",), order_by=("timestamp DESC",))
    op.add_columnstore_policy("media_audio_voice_segments_raw", after=timedelta(days=1))
    op.add_retention_policy("media_audio_voice_segments_raw", drop_after=timedelta(days=7))
    op.create_hypertable("media_image_vision_annotations_raw", "timestamp", chunk_interval=timedelta(days=3))
    op.enable_columnstore(
        "media_image_vision_annotations_raw",
        segment_by=("device_id", "object_class"),
        order_by=("timestamp DESC",),
    )
    op.add_columnstore_policy("media_image_vision_annotations_raw", after=timedelta(days=3))
    op.add_retention_policy("media_image_vision_annotations_raw", drop_after=timedelta(days=15))
    op.create_hypertable("media_text_word_timestamps_raw", "timestamp", chunk_interval=timedelta(days=3))
    op.enable_columnstore("media_text_word_timestamps_raw", segment_by=("device_id",), order_by=("timestamp DESC",))
    op.add_columnstore_policy("media_text_word_timestamps_raw", after=timedelta(days=3))
    op.add_retention_policy("media_text_word_timestamps_raw", drop_after=timedelta(days=15))


def downgrade() -> None:
    op.remove_columnstore_policy("device_sensor_gps_raw")
    op.disable_columnstore("device_sensor_gps_raw")
    op.revert_hypertable("device_sensor_gps_raw")
    op.drop_constraint(op.f("device_sensor_gps_raw_device_id_check"), "device_sensor_gps_raw")
    op.drop_index("device_sensor_gps_raw_timestamp_idx", table_name="device_sensor_gps_raw", postgresql_using="brin")
    op.drop_index("media_text_word_timestamps_raw_word_idx", table_name="media_text_word_timestamps_raw")
    op.drop_index(
        "media_text_word_timestamps_raw_timestamp_idx",
        table_name="media_text_word_timestamps_raw",
        postgresql_using="brin",
    )
    op.drop_index("media_text_word_timestamps_raw_speaker_idx", table_name="media_text_word_timestamps_raw")
    op.drop_table("media_text_word_timestamps_raw")
    op.drop_index(
        "media_image_vision_annotations_raw_timestamp_idx",
        table_name="media_image_vision_annotations_raw",
        postgresql_using="brin",
    )
    op.drop_index(
        "media_image_vision_annotations_raw_ocr_text_idx",
        table_name="media_image_vision_annotations_raw",
        postgresql_using="gin",
    )
    op.drop_index("media_image_vision_annotations_raw_class_idx", table_name="media_image_vision_annotations_raw")
    op.drop_table("media_image_vision_annotations_raw")
    op.drop_index(
        "media_audio_voice_segments_raw_timestamp_idx",
        table_name="media_audio_voice_segments_raw",
        postgresql_using="brin",
    )
    op.drop_index("media_audio_voice_segments_raw_duration_idx", table_name="media_audio_voice_segments_raw")
    op.drop_index("media_audio_voice_segments_raw_confidence_idx", table_name="media_audio_voice_segments_raw")
    op.drop_table("media_audio_voice_segments_raw")
    op.drop_index(
        "device_sensor_accelerometer_raw_timestamp_idx",
        table_name="device_sensor_accelerometer_raw",
        postgresql_using="brin",
    )
    op.drop_table("device_sensor_accelerometer_raw")
