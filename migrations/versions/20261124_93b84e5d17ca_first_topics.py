"""Tables of emotion scores, GPS readings, liked tweets and archived tweets.

Revision 93b84e5d17ca, after 6f1d2a9c40b7.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.dialects.postgresql import JSONB

revision = "93b84e5d17ca"
down_revision = "6f1d2a9c40b7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "analysis_audio_emotion_scores_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("segment_id", sa.Text(), nullable=False),
        sa.Column("predicted_emotion", sa.Text(), nullable=False),
        sa.Column("confidence_score", sa.REAL(), nullable=False),
        sa.Column("valence_score", sa.REAL(), nullable=True),
        sa.Column("arousal_score", sa.REAL(), nullable=True),
        sa.Column("dominance_score", sa.REAL(), nullable=True),
        sa.Column("emotion_probabilities", JSONB(none_as_null=True), nullable=True),
        sa.Column("audio_features", JSONB(none_as_null=True), nullable=True),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "arousal_score BETWEEN -1 AND 1",
            name=op.f("analysis_audio_emotion_scores_raw_arousal_score_check"),
        ),
        sa.CheckConstraint(
            "confidence_score BETWEEN 0 AND 1",
            name=op.f("analysis_audio_emotion_scores_raw_confidence_score_check"),
        ),
        sa.CheckConstraint(
            "dominance_score BETWEEN -1 AND 1",
            name=op.f("analysis_audio_emotion_scores_raw_dominance_score_check"),
        ),
        sa.CheckConstraint(
            "valence_score BETWEEN -1 AND 1",
            name=op.f("analysis_audio_emotion_scores_raw_valence_score_check"),
        ),
        sa.UniqueConstraint(
            "device_id", "message_id", "segment_id", "timestamp", name="analysis_audio_emotion_scores_raw_key"
        ),
    )
    op.create_index(
        "analysis_audio_emotion_scores_raw_emotion_idx",
        "analysis_audio_emotion_scores_raw",
        ["predicted_emotion", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_index(
        "analysis_audio_emotion_scores_raw_valence_idx",
        "analysis_audio_emotion_scores_raw",
        ["valence_score", sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_table(
        "device_sensor_gps_raw",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("schema_version", sa.Text(), server_default=sa.text("'v1'"), nullable=False),
        sa.Column("latitude", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("longitude", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("altitude", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("accuracy", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("speed", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("bearing", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("metadata", JSONB(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("latitude BETWEEN -90 AND 90", name=op.f("device_sensor_gps_raw_latitude_check")),
        sa.CheckConstraint("longitude BETWEEN -180 AND 180", name=op.f("device_sensor_gps_raw_longitude_check")),
        sa.UniqueConstraint("device_id", "timestamp", name="device_sensor_gps_raw_key"),
    )
    op.create_table(
        "twitter_extraction_results",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("tweet_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("screenshot_path", sa.Text(), nullable=True),
        sa.Column("screenshot_size_bytes", sa.Integer(), nullable=True),
        sa.Column("screenshot_dimensions", JSONB(none_as_null=True), nullable=True),
        sa.Column("extracted_text", sa.Text(), nullable=True),
        sa.Column("extracted_links", JSONB(none_as_null=True), nullable=True),
        sa.Column("extracted_media", JSONB(none_as_null=True), nullable=True),
        sa.Column("extracted_metadata", JSONB(none_as_null=True), nullable=True),
        sa.Column("processor_version", sa.Text(), nullable=True),
        sa.Column("processing_duration_ms", sa.Integer(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("message_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tweet_id", name=op.f("twitter_extraction_results_pkey")),
    )
    op.create_index(
        op.f("twitter_extraction_results_timestamp_idx"),
        "twitter_extraction_results",
        [sa.literal_column("timestamp DESC")],
        unique=False,
    )
    op.create_table(
        "twitter_likes_with_embeddings",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("tweet_id", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("liked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tweet_url", sa.Text(), nullable=True),
        sa.Column("tweet_text", sa.Text(), nullable=True),
        sa.Column("author_username", sa.Text(), nullable=True),
        sa.Column("author_name", sa.Text(), nullable=True),
        sa.Column("author_profile_url", sa.Text(), nullable=True),
        sa.Column("embedding", VECTOR(384), nullable=True),
        sa.Column("embedding_model", sa.Text(), nullable=True),
        sa.Column("embedding_timestamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column("screenshot_url", sa.Text(), nullable=True),
        sa.Column("extracted_content", JSONB(none_as_null=True), nullable=True),
        sa.Column("extraction_timestamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column("metadata", JSONB(none_as_null=True), nullable=True),
        sa.Column("message_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tweet_id", name=op.f("twitter_likes_with_embeddings_pkey")),
        sa.UniqueConstraint("trace_id", name=op.f("twitter_likes_with_embeddings_trace_id_key")),
    )
    op.create_index(
        op.f("twitter_likes_with_embeddings_author_username_idx"),
        "twitter_likes_with_embeddings",
        ["author_username"],
        unique=False,
    )
    op.create_index(
        op.f("twitter_likes_with_embeddings_embedding_idx"),
        "twitter_likes_with_embeddings",
        ["embedding"],
        unique=False,
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "vector_cosine_ops"},
    )
    op.create_index(
        op.f("twitter_likes_with_embeddings_timestamp_idx"),
        "twitter_likes_with_embeddings",
        [sa.literal_column("timestamp DESC")],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index(op.f("twitter_likes_with_embeddings_timestamp_idx"), table_name="twitter_likes_with_embeddings")
    op.drop_index(
        op.f("twitter_likes_with_embeddings_embedding_idx"),
        table_name="twitter_likes_with_embeddings",
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "vector_cosine_ops"},
    )
    op.drop_index(op.f("twitter_likes_with_embeddings_author_username_idx"), table_name="twitter_likes_with_embeddings")
    op.drop_table("twitter_likes_with_embeddings")
    op.drop_index(op.f("twitter_extraction_results_timestamp_idx"), table_name="twitter_extraction_results")
    op.drop_table("twitter_extraction_results")
    op.drop_table("device_sensor_gps_raw")
    op.drop_index("analysis_audio_emotion_scores_raw_valence_idx", table_name="analysis_audio_emotion_scores_raw")
    op.drop_index("analysis_audio_emotion_scores_raw_emotion_idx", table_name="analysis_audio_emotion_scores_raw")
    op.drop_table("analysis_audio_emotion_scores_raw")
    # Somebody else's tables may use the extension: then it stays.
    op.execute(
        """
        DO $$ BEGIN
            DROP EXTENSION IF EXISTS vector;
        EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
        END $$
        """
    )
