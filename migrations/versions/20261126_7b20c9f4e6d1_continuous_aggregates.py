"""Continuous aggregates of the streams: counts, sums and averages, kept longer than the rows.

Revision 7b20c9f4e6d1, after 5c8d17f0a9e2.
"""

from __future__ import annotations

from datetime import timedelta

from alembic import op

revision = "7b20c9f4e6d1"
down_revision = "5c8d17f0a9e2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_continuous_aggregate(
        "analysis_audio_emotion_scores_per_hour",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            predicted_emotion,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) AS confidence_score_sum,
            count(confidence_score) AS confidence_score_count,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) / CAST(nullif(count(confidence_score), 0) AS DOUBLE PRECISION) AS confidence_score_avg,
            sum(CAST(valence_score AS DOUBLE PRECISION)) AS valence_score_sum,
            count(valence_score) AS valence_score_count,
            sum(CAST(valence_score AS DOUBLE PRECISION)) / CAST(nullif(count(valence_score), 0) AS DOUBLE PRECISION) AS valence_score_avg,
            sum(CAST(arousal_score AS DOUBLE PRECISION)) AS arousal_score_sum,
            count(arousal_score) AS arousal_score_count,
            sum(CAST(arousal_score AS DOUBLE PRECISION)) / CAST(nullif(count(arousal_score), 0) AS DOUBLE PRECISION) AS arousal_score_avg,
            sum(CAST(dominance_score AS DOUBLE PRECISION)) AS dominance_score_sum,
            count(dominance_score) AS dominance_score_count,
            sum(CAST(dominance_score AS DOUBLE PRECISION)) / CAST(nullif(count(dominance_score), 0) AS DOUBLE PRECISION) AS dominance_score_avg
        FROM analysis_audio_emotion_scores_raw
        GROUP BY {bucket}, device_id, predicted_emotion
        """,
        source="analysis_audio_emotion_scores_raw",
        time_column="timestamp",
        bucket_width=timedelta(hours=1),
    )
    op.add_retention_policy("analysis_audio_emotion_scores_per_hour", drop_after=timedelta(days=365))
    op.create_continuous_aggregate(
        "analysis_context_reasoning_chains_per_day",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            context_type,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) AS confidence_score_sum,
            count(confidence_score) AS confidence_score_count,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) / CAST(nullif(count(confidence_score), 0) AS DOUBLE PRECISION) AS confidence_score_avg
        FROM analysis_context_reasoning_chains_raw
        GROUP BY {bucket}, device_id, context_type
        """,
        source="analysis_context_reasoning_chains_raw",
        time_column="timestamp",
        bucket_width=timedelta(days=1),
    )
    op.add_continuous_aggregate_policy(
        "analysis_context_reasoning_chains_per_day",
        start_offset=timedelta(days=82),
        end_offset=timedelta(days=1),
        schedule_interval=timedelta(hours=6),
    )
    op.add_retention_policy("analysis_context_reasoning_chains_per_day", drop_after=timedelta(days=730))
    op.create_continuous_aggregate(
        "analysis_image_face_emotions_per_hour",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            emotion_label,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) AS confidence_score_sum,
            count(confidence_score) AS confidence_score_count,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) / CAST(nullif(count(confidence_score), 0) AS DOUBLE PRECISION) AS confidence_score_avg,
            sum(age_estimate) AS age_estimate_sum,
            count(age_estimate) AS age_estimate_count,
            CAST(sum(age_estimate) AS DOUBLE PRECISION) / CAST(nullif(count(age_estimate), 0) AS DOUBLE PRECISION) AS age_estimate_avg,
            sum(CAST(face_quality_score AS DOUBLE PRECISION)) AS face_quality_score_sum,
            count(face_quality_score) AS face_quality_score_count,
            sum(CAST(face_quality_score AS DOUBLE PRECISION)) / CAST(nullif(count(face_quality_score), 0) AS DOUBLE PRECISION) AS face_quality_score_avg
        FROM analysis_image_face_emotions_raw
        GROUP BY {bucket}, device_id, emotion_label
        """,
        source="analysis_image_face_emotions_raw",
        time_column="timestamp",
        bucket_width=timedelta(hours=1),
    )
    op.add_continuous_aggregate_policy(
        "analysis_image_face_emotions_per_hour",
        start_offset=timedelta(days=22),
        end_offset=timedelta(hours=1),
        schedule_interval=timedelta(hours=1),
    )
    op.add_retention_policy("analysis_image_face_emotions_per_hour", drop_after=timedelta(days=365))
    op.create_continuous_aggregate(
        "device_sensor_accelerometer_per_minute",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(CAST(x AS NUMERIC)) AS x_sum,
            count(x) AS x_count,
            sum(CAST(x AS NUMERIC)) / CAST(nullif(count(x), 0) AS NUMERIC) AS x_avg,
            sum(CAST(y AS NUMERIC)) AS y_sum,
            count(y) AS y_count,
            sum(CAST(y AS NUMERIC)) / CAST(nullif(count(y), 0) AS NUMERIC) AS y_avg,
            sum(CAST(z AS NUMERIC)) AS z_sum,
            count(z) AS z_count,
            sum(CAST(z AS NUMERIC)) / CAST(nullif(count(z), 0) AS NUMERIC) AS z_avg,
            min(x) AS x_min,
            max(x) AS x_max,
            min(y) AS y_min,
            max(y) AS y_max,
            min(z) AS z_min,
            max(z) AS z_max
        FROM device_sensor_accelerometer_raw
        GROUP BY {bucket}, device_id
        """,
        source="device_sensor_accelerometer_raw",
        time_column="timestamp",
        bucket_width=timedelta(minutes=1),
    )
    op.add_continuous_aggregate_policy(
        "device_sensor_accelerometer_per_minute",
        start_offset=timedelta(days=28),
        end_offset=timedelta(minutes=1),
        schedule_interval=timedelta(minutes=1),
    )
    op.add_retention_policy("device_sensor_accelerometer_per_minute", drop_after=timedelta(days=365))
    op.create_continuous_aggregate(
        "device_sensor_gps_per_minute",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(CAST(altitude AS NUMERIC)) AS altitude_sum,
            count(altitude) AS altitude_count,
            sum(CAST(altitude AS NUMERIC)) / CAST(nullif(count(altitude), 0) AS NUMERIC) AS altitude_avg,
            sum(CAST(accuracy AS NUMERIC)) AS accuracy_sum,
            count(accuracy) AS accuracy_count,
            sum(CAST(accuracy AS NUMERIC)) / CAST(nullif(count(accuracy), 0) AS NUMERIC) AS accuracy_avg,
            sum(CAST(speed AS NUMERIC)) AS speed_sum,
            count(speed) AS speed_count,
            sum(CAST(speed AS NUMERIC)) / CAST(nullif(count(speed), 0) AS NUMERIC) AS speed_avg,
            min(latitude) AS latitude_min,
            max(latitude) AS latitude_max,
            min(longitude) AS longitude_min,
            max(longitude) AS longitude_max
        FROM device_sensor_gps_raw
        GROUP BY {bucket}, device_id
        """,
        source="device_sensor_gps_raw",
        time_column="timestamp",
        bucket_width=timedelta(minutes=1),
    )
    op.add_retention_policy("device_sensor_gps_per_minute", drop_after=timedelta(days=365))
    op.create_continuous_aggregate(
        "media_audio_voice_segments_per_minute",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) AS confidence_score_sum,
            count(confidence_score) AS confidence_score_count,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) / CAST(nullif(count(confidence_score), 0) AS DOUBLE PRECISION) AS confidence_score_avg,
            sum(duration_ms) AS duration_ms_sum,
            count(duration_ms) AS duration_ms_count,
            CAST(sum(duration_ms) AS DOUBLE PRECISION) / CAST(nullif(count(duration_ms), 0) AS DOUBLE PRECISION) AS duration_ms_avg
        FROM media_audio_voice_segments_raw
        GROUP BY {bucket}, device_id
        """,
        source="media_audio_voice_segments_raw",
        time_column="timestamp",
        bucket_width=timedelta(minutes=1),
    )
    op.add_continuous_aggregate_policy(
        "media_audio_voice_segments_per_minute",
        start_offset=timedelta(days=5),
        end_offset=timedelta(minutes=1),
        schedule_interval=timedelta(minutes=1),
    )
    op.add_retention_policy("media_audio_voice_segments_per_minute", drop_after=timedelta(days=30))
    op.create_continuous_aggregate(
        "media_audio_voice_segments_per_hour",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            CAST(sum(messages) AS BIGINT) AS messages,
            min(first_timestamp) AS first_timestamp,
            max(last_timestamp) AS last_timestamp,
            sum(confidence_score_sum) AS confidence_score_sum,
            CAST(sum(confidence_score_count) AS BIGINT) AS confidence_score_count,
            sum(confidence_score_sum) / CAST(nullif(CAST(sum(confidence_score_count) AS BIGINT), 0) AS DOUBLE PRECISION) AS confidence_score_avg,
            CAST(sum(duration_ms_sum) AS BIGINT) AS duration_ms_sum,
            CAST(sum(duration_ms_count) AS BIGINT) AS duration_ms_count,
            CAST(CAST(sum(duration_ms_sum) AS BIGINT) AS DOUBLE PRECISION) / CAST(nullif(CAST(sum(duration_ms_count) AS BIGINT), 0) AS DOUBLE PRECISION) AS duration_ms_avg
        FROM media_audio_voice_segments_per_minute
        GROUP BY {bucket}, device_id
        """,
        source="media_audio_voice_segments_per_minute",
        time_column="bucket",
        bucket_width=timedelta(hours=1),
    )
    op.add_continuous_aggregate_policy(
        "media_audio_voice_segments_per_hour",
        start_offset=timedelta(days=6),
        end_offset=timedelta(hours=1),
        schedule_interval=timedelta(hours=1),
    )
    op.add_retention_policy("media_audio_voice_segments_per_hour", drop_after=timedelta(days=365))
    op.create_continuous_aggregate(
        "media_image_vision_annotations_per_10_minutes",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            object_class,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) AS confidence_score_sum,
            count(confidence_score) AS confidence_score_count,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) / CAST(nullif(count(confidence_score), 0) AS DOUBLE PRECISION) AS confidence_score_avg
        FROM media_image_vision_annotations_raw
        GROUP BY {bucket}, device_id, object_class
        """,
        source="media_image_vision_annotations_raw",
        time_column="timestamp",
        bucket_width=timedelta(minutes=10),
    )
    op.add_continuous_aggregate_policy(
        "media_image_vision_annotations_per_10_minutes",
        start_offset=timedelta(days=11),
        end_offset=timedelta(minutes=10),
        schedule_interval=timedelta(minutes=10),
    )
    op.add_retention_policy("media_image_vision_annotations_per_10_minutes", drop_after=timedelta(days=90))
    op.create_continuous_aggregate(
        "media_image_vision_annotations_per_hour",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            object_class,
            CAST(sum(messages) AS BIGINT) AS messages,
            min(first_timestamp) AS first_timestamp,
            max(last_timestamp) AS last_timestamp,
            sum(confidence_score_sum) AS confidence_score_sum,
            CAST(sum(confidence_score_count) AS BIGINT) AS confidence_score_count,
            sum(confidence_score_sum) / CAST(nullif(CAST(sum(confidence_score_count) AS BIGINT), 0) AS DOUBLE PRECISION) AS confidence_score_avg
        FROM media_image_vision_annotations_per_10_minutes
        GROUP BY {bucket}, device_id, object_class
        """,
        source="media_image_vision_annotations_per_10_minutes",
        time_column="bucket",
        bucket_width=timedelta(hours=1),
    )
    op.add_continuous_aggregate_policy(
        "media_image_vision_annotations_per_hour",
        start_offset=timedelta(days=12),
        end_offset=timedelta(hours=1),
        schedule_interval=timedelta(hours=1),
    )
    op.add_retention_policy("media_image_vision_annotations_per_hour", drop_after=timedelta(days=365))
    op.create_continuous_aggregate(
        "media_text_word_timestamps_per_5_minutes",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) AS confidence_score_sum,
            count(confidence_score) AS confidence_score_count,
            sum(CAST(confidence_score AS DOUBLE PRECISION)) / CAST(nullif(count(confidence_score), 0) AS DOUBLE PRECISION) AS confidence_score_avg
        FROM media_text_word_timestamps_raw
        GROUP BY {bucket}, device_id
        """,
        source="media_text_word_timestamps_raw",
        time_column="timestamp",
        bucket_width=timedelta(minutes=5),
    )
    op.add_continuous_aggregate_policy(
        "media_text_word_timestamps_per_5_minutes",
        start_offset=timedelta(days=11),
        end_offset=timedelta(minutes=5),
        schedule_interval=timedelta(minutes=5),
    )
    op.add_retention_policy("media_text_word_timestamps_per_5_minutes", drop_after=timedelta(days=90))
    op.create_continuous_aggregate(
        "media_text_word_timestamps_per_hour",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            CAST(sum(messages) AS BIGINT) AS messages,
            min(first_timestamp) AS first_timestamp,
            max(last_timestamp) AS last_timestamp,
            sum(confidence_score_sum) AS confidence_score_sum,
            CAST(sum(confidence_score_count) AS BIGINT) AS confidence_score_count,
            sum(confidence_score_sum) / CAST(nullif(CAST(sum(confidence_score_count) AS BIGINT), 0) AS DOUBLE PRECISION) AS confidence_score_avg
        FROM media_text_word_timestamps_per_5_minutes
        GROUP BY {bucket}, device_id
        """,
        source="media_text_word_timestamps_per_5_minutes",
        time_column="bucket",
        bucket_width=timedelta(hours=1),
    )
    op.add_continuous_aggregate_policy(
        "media_text_word_timestamps_per_hour",
        start_offset=timedelta(days=12),
        end_offset=timedelta(hours=1),
        schedule_interval=timedelta(hours=1),
    )
    op.add_retention_policy("media_text_word_timestamps_per_hour", drop_after=timedelta(days=365))
    op.create_continuous_aggregate(
        "task_url_processed_content_per_day",
        """
        SELECT
            {bucket} AS bucket,
            device_id,
            content_type,
            count(*) AS messages,
            min(timestamp) AS first_timestamp,
            max(timestamp) AS last_timestamp,
            sum(content_length) AS content_length_sum,
            count(content_length) AS content_length_count,
            CAST(sum(content_length) AS DOUBLE PRECISION) / CAST(nullif(count(content_length), 0) AS DOUBLE PRECISION) AS content_length_avg,
            sum(processing_duration_ms) AS processing_duration_ms_sum,
            count(processing_duration_ms) AS processing_duration_ms_count,
            CAST(sum(processing_duration_ms) AS DOUBLE PRECISION) / CAST(nullif(count(processing_duration_ms), 0) AS DOUBLE PRECISION) AS processing_duration_ms_avg
        FROM task_url_processed_content_raw
        GROUP BY {bucket}, device_id, content_type
        """,
        source="task_url_processed_content_raw",
        time_column="timestamp",
        bucket_width=timedelta(days=1),
    )
    op.add_continuous_aggregate_policy(
        "task_url_processed_content_per_day",
        start_offset=timedelta(days=172),
        end_offset=timedelta(days=1),
        schedule_interval=timedelta(hours=6),
    )
    op.add_retention_policy("task_url_processed_content_per_day", drop_after=timedelta(days=730))


def downgrade() -> None:
    op.drop_continuous_aggregate("task_url_processed_content_per_day")
    op.drop_continuous_aggregate("media_text_word_timestamps_per_hour")
    op.drop_continuous_aggregate("media_text_word_timestamps_per_5_minutes")
    op.drop_continuous_aggregate("media_image_vision_annotations_per_hour")
    op.drop_continuous_aggregate("media_image_vision_annotations_per_10_minutes")
    op.drop_continuous_aggregate("media_audio_voice_segments_per_hour")
    op.drop_continuous_aggregate("media_audio_voice_segments_per_minute")
    op.drop_continuous_aggregate("device_sensor_gps_per_minute")
    op.drop_continuous_aggregate("device_sensor_accelerometer_per_minute")
    op.drop_continuous_aggregate("analysis_image_face_emotions_per_hour")
    op.drop_continuous_aggregate("analysis_context_reasoning_chains_per_day")
    op.drop_continuous_aggregate("analysis_audio_emotion_scores_per_hour")
