"""Analyses, pages and emails: their tables; those of streams as hypertables.

Revision 5c8d17f0a9e2, after e3a4efb8b0fa.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.dialects.postgresql import JSONB

revision = "5c8d17f0a9e2"
down_revision = "e3a4efb8b0fa"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "analysis_context_reasoning_chains_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("reasoning_id", sa.Text(), nullable=False),
        sa.Column("context_type", sa.Text(), nullable=False),
        sa.Column("reasoning_chain", JSONB(none_as_null=True), nullable=False),
        sa.Column("conclusion_text", sa.Text(), nullable=False),
        sa.Column("confidence_score", sa.REAL(), nullable=False),
        sa.Column("input_sources", JSONB(none_as_null=True), nullable=True),
        sa.Column("key_topics", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("entities_mentioned", JSONB(none_as_null=True), nullable=True),
        sa.Column("temporal_context", JSONB(none_as_null=True), nullable=True),
        sa.Column("spatial_context", JSONB(none_as_null=True), nullable=True),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "confidence_score BETWEEN 0 AND 1",
            name=op.f("analysis_context_reasoning_chains_raw_confidence_score_check"),
        ),
        sa.CheckConstraint(
            "octet_length(context_type) <= 1000", name=op.f("analysis_context_reasoning_chains_raw_context_type_check")
        ),
        sa.CheckConstraint(
            "octet_length(device_id) <= 1000", name=op.f("analysis_context_reasoning_chains_raw_device_id_check")
        ),
        sa.UniqueConstraint(
            "device_id", "message_id", "reasoning_id", "timestamp", name="analysis_context_reasoning_chains_raw_key"
        ),
    )
    op.create_index(
        "analysis_context_reasoning_chains_raw_conclusion_idx",
        "analysis_context_reasoning_chains_raw",
        [sa.literal_column("to_tsvector('english', left(conclusion_text, 50000))")],
        unique=False,
        postgresql_using="gin",
    )
    op.create_index(
        "analysis_context_reasoning_chains_raw_context_idx",
        "analysis_context_reasoning_chains_raw",
        ["context_type", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "analysis_context_reasoning_chains_raw_timestamp_idx",
        "analysis_context_reasoning_chains_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_index(
        "analysis_context_reasoning_chains_raw_topics_idx",
        "analysis_context_reasoning_chains_raw",
        ["key_topics"],
        unique=False,
        postgresql_using="gin",
    )
    op.create_table(
        "analysis_image_face_emotions_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("face_id", sa.Text(), nullable=False),
        sa.Column("emotion_label", sa.Text(), nullable=False),
        sa.Column("confidence_score", sa.REAL(), nullable=False),
        sa.Column("face_bounding_box", JSONB(none_as_null=True), nullable=True),
        sa.Column("facial_landmarks", JSONB(none_as_null=True), nullable=True),
        sa.Column("age_estimate", sa.Integer(), nullable=True),
        sa.Column("gender_estimate", sa.Text(), nullable=True),
        sa.Column("emotion_intensities", JSONB(none_as_null=True), nullable=True),
        sa.Column("face_quality_score", sa.REAL(), nullable=True),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "confidence_score BETWEEN 0 AND 1", name=op.f("analysis_image_face_emotions_raw_confidence_score_check")
        ),
        sa.CheckConstraint(
            "octet_length(device_id) <= 1000", name=op.f("analysis_image_face_emotions_raw_device_id_check")
        ),
        sa.CheckConstraint(
            "octet_length(emotion_label) <= 1000", name=op.f("analysis_image_face_emotions_raw_emotion_label_check")
        ),
        sa.UniqueConstraint(
            "device_id", "message_id", "face_id", "timestamp", name="analysis_image_face_emotions_raw_key"
        ),
    )
    op.create_index(
        "analysis_image_face_emotions_raw_age_idx",
        "analysis_image_face_emotions_raw",
        ["age_estimate", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "analysis_image_face_emotions_raw_emotion_idx",
        "analysis_image_face_emotions_raw",
        ["emotion_label", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "analysis_image_face_emotions_raw_timestamp_idx",
        "analysis_image_face_emotions_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_table(
        "emails_with_embeddings",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("sender_name", sa.Text(), nullable=True),
        sa.Column("sender_email", sa.Text(), nullable=True),
        sa.Column("recipient_email", sa.Text(), nullable=True),
        sa.Column("body_text", sa.Text(), nullable=True),
        sa.Column("body_html", sa.Text(), nullable=True),
        sa.Column("headers", JSONB(none_as_null=True), nullable=True),
        sa.Column("attachments", JSONB(none_as_null=True), nullable=True),
        sa.Column("folder", sa.Text(), nullable=True),
        sa.Column("email_source", sa.Text(), nullable=True),
        sa.Column("embedding", VECTOR(384), nullable=True),
        sa.Column("embedding_model", sa.Text(), nullable=True),
        sa.Column("embedding_timestamp", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("metadata", JSONB(none_as_null=True), nullable=True),
        sa.Column("message_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("trace_id", name=op.f("emails_with_embeddings_pkey")),
    )
    op.create_index(
        op.f("emails_with_embeddings_embedding_idx"),
        "emails_with_embeddings",
        ["embedding"],
        unique=False,
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "vector_cosine_ops"},
    )
    op.create_index(
        op.f("emails_with_embeddings_sender_email_idx"), "emails_with_embeddings", ["sender_email"], unique=False
    )
    op.create_index(
        op.f("emails_with_embeddings_timestamp_idx"),
        "emails_with_embeddings",
        [sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_table(
        "task_url_processed_content_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("url_id", sa.Text(), nullable=False),
        sa.Column("original_url", sa.Text(), nullable=False),
        sa.Column("final_url", sa.Text(), nullable=True),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("content_text", sa.Text(), nullable=True),
        sa.Column("content_summary", sa.Text(), nullable=True),
        sa.Column("extracted_metadata", JSONB(none_as_null=True), nullable=True),
        sa.Column("content_length", sa.Integer(), nullable=True),
        sa.Column("language_detected", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("processing_duration_ms", sa.Integer(), nullable=True),
        sa.Column("processor_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "octet_length(content_type) <= 1000", name=op.f("task_url_processed_content_raw_content_type_check")
        ),
        sa.CheckConstraint(
            "octet_length(device_id) <= 1000", name=op.f("task_url_processed_content_raw_device_id_check")
        ),
        sa.UniqueConstraint(
            "device_id", "message_id", "url_id", "timestamp", name="task_url_processed_content_raw_key"
        ),
    )
    op.create_index(
        "task_url_processed_content_raw_category_idx",
        "task_url_processed_content_raw",
        ["category", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "task_url_processed_content_raw_content_text_idx",
        "task_url_processed_content_raw",
        [sa.literal_column("to_tsvector('simple', left(content_text, 50000))")],
        unique=False,
        postgresql_using="gin",
    )
    op.create_index(
        "task_url_processed_content_raw_content_type_idx",
        "task_url_processed_content_raw",
        ["content_type", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "task_url_processed_content_raw_domain_idx",
        "task_url_processed_content_raw",
        ["domain", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "task_url_processed_content_raw_timestamp_idx",
        "task_url_processed_content_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_index(
        "analysis_audio_emotion_scores_raw_timestamp_idx",
        "analysis_audio_emotion_scores_raw",
        ["timestamp"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_check_constraint(
        op.f("analysis_audio_emotion_scores_raw_device_id_check"),
        "analysis_audio_emotion_scores_raw",
        "octet_length(device_id) <= 1000",
    )
    op.create_check_constraint(
        op.f("analysis_audio_emotion_scores_raw_predicted_emotion_check"),
        "analysis_audio_emotion_scores_raw",
        "octet_length(predicted_emotion) <= 1000",
    )
    op.create_hypertable("analysis_audio_emotion_scores_raw", "timestamp", chunk_interval=timedelta(days=7))
    op.enable_columnstore(
        "analysis_audio_emotion_scores_raw",
        segment_by=("device_id", "predicted_emotion"),
        order_by=("timestamp DESC",),
    )
    op.add_columnstore_policy("analysis_audio_emotion_scores_raw", after=timedelta(days=7))
    op.create_hypertable("analysis_context_reasoning_chains_raw", "timestamp", chunk_interval=timedelta(days=7))
    op.enable_columnstore(
        "analysis_context_reasoning_chains_raw",
        segment_by=("device_id", "context_type"),
        order_by=("timestamp DESC",),
    )
    op.add_columnstore_policy("analysis_context_reasoning_chains_raw", after=timedelta(days=14))
    op.add_retention_policy("analysis_context_reasoning_chains_raw", drop_after=timedelta(days=90))
    op.create_hypertable("analysis_image_face_emotions_raw", "timestamp", chunk_interval=timedelta(days=7))
    op.enable_columnstore(
        "analysis_image_face_emotions_raw",
        segment_by=("device_id", "emotion_label"),
        order_by=("timestamp DESC",),
    )
    op.add_columnstore_policy("analysis_image_face_emotions_raw", after=timedelta(days=7))
    op.add_retention_policy("analysis_image_face_emotions_raw", drop_after=timedelta(days=30))
    op.create_hypertable("task_url_processed_content_raw", "timestamp", chunk_interval=timedelta(days=7))
    op.enable_columnstore(
        "task_url_processed_content_raw",
        segment_by=("device_id", "content_type"),
        order_by=("timestamp DESC",),
    )
    op.add_columnstore_policy("task_url_processed_content_raw", after=timedelta(days=30))
    op.add_retention_policy("task_url_processed_content_raw", drop_after=timedelta(days=180))


def downgrade() -> None:
    op.remove_columnstore_policy("analysis_audio_emotion_scores_raw")
    op.disable_columnstore("analysis_audio_emotion_scores_raw")
    op.revert_hypertable("analysis_audio_emotion_scores_raw")
    op.drop_constraint(
        op.f("analysis_audio_emotion_scores_raw_predicted_emotion_check"), "analysis_audio_emotion_scores_raw"
    )
    op.drop_constraint(op.f("analysis_audio_emotion_scores_raw_device_id_check"), "analysis_audio_emotion_scores_raw")
    op.drop_index(
        "analysis_audio_emotion_scores_raw_timestamp_idx",
        table_name="analysis_audio_emotion_scores_raw",
        postgresql_using="brin",
    )
    op.drop_index(
        "task_url_processed_content_raw_timestamp_idx",
        table_name="task_url_processed_content_raw",
        postgresql_using="brin",
    )
    op.drop_index("task_url_processed_content_raw_domain_idx", table_name="task_url_processed_content_raw")
    op.drop_index("task_url_processed_content_raw_content_type_idx", table_name="task_url_processed_content_raw")
    op.drop_index(
        "task_url_processed_content_raw_content_text_idx",
        table_name="task_url_processed_content_raw",
        postgresql_using="gin",
    )
    op.drop_index("task_url_processed_content_raw_category_idx", table_name="task_url_processed_content_raw")
    op.drop_table("task_url_processed_content_raw")
    op.drop_index(op.f("emails_with_embeddings_timestamp_idx"), table_name="emails_with_embeddings")
    op.drop_index(op.f("emails_with_embeddings_sender_email_idx"), table_name="emails_with_embeddings")
    op.drop_index(
        op.f("emails_with_embeddings_embedding_idx"),
        table_name="emails_with_embeddings",
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "vector_cosine_ops"},
    )
    op.drop_table("emails_with_embeddings")
    op.drop_index(
        "analysis_image_face_emotions_raw_timestamp_idx",
        table_name="analysis_image_face_emotions_raw",
        postgresql_using="brin",
    )
    op.drop_index("analysis_image_face_emotions_raw_emotion_idx", table_name="analysis_image_face_emotions_raw")
    op.drop_index("analysis_image_face_emotions_raw_age_idx", table_name="analysis_image_face_emotions_raw")
    op.drop_table("analysis_image_face_emotions_raw")
    op.drop_index(
        "analysis_context_reasoning_chains_raw_topics_idx",
        table_name="analysis_context_reasoning_chains_raw",
        postgresql_using="gin",
    )
    op.drop_index(
        "analysis_context_reasoning_chains_raw_timestamp_idx",
        table_name="analysis_context_reasoning_chains_raw",
        postgresql_using="brin",
    )
    op.drop_index(
        "analysis_context_reasoning_chains_raw_context_idx", table_name="analysis_context_reasoning_chains_raw"
    )
    op.drop_index(
        "analysis_context_reasoning_chains_raw_conclusion_idx",
        table_name="analysis_context_reasoning_chains_raw",
        postgresql_using="gin",
    )
    op.drop_table("analysis_context_reasoning_chains_raw")
