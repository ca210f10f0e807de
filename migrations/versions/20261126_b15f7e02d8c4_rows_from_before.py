"""Rows from before: gps and emotions were ordinary tables, and their aggregates get the numbers of all their rows.

Revision b15f7e02d8c4, after 2c7e4d90ab15.

A refresh is outside of the revision's transaction, so it has a revision of its own, in which nothing comes before it: one
that failed is tried again by the next upgrade. The policies come after it, for their first run comes at once: that of the
refresh policy would hold the lock which the refresh needs, and retention would drop rows that are only being counted.
"""

from __future__ import annotations

from datetime import timedelta

from alembic import op

revision = "b15f7e02d8c4"
down_revision = "2c7e4d90ab15"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.refresh_continuous_aggregate("analysis_audio_emotion_scores_per_hour")
    op.refresh_continuous_aggregate("device_sensor_gps_per_minute")
    op.add_continuous_aggregate_policy(
        "analysis_audio_emotion_scores_per_hour",
        start_offset=timedelta(days=22),
        end_offset=timedelta(hours=1),
        schedule_interval=timedelta(hours=1),
    )
    op.add_continuous_aggregate_policy(
        "device_sensor_gps_per_minute",
        start_offset=timedelta(days=28),
        end_offset=timedelta(minutes=1),
        schedule_interval=timedelta(minutes=1),
    )
    op.add_retention_policy("analysis_audio_emotion_scores_raw", drop_after=timedelta(days=30))
    op.add_retention_policy("device_sensor_gps_raw", drop_after=timedelta(days=30))


def downgrade() -> None:
    op.remove_retention_policy("device_sensor_gps_raw")
    op.remove_retention_policy("analysis_audio_emotion_scores_raw")
    op.remove_continuous_aggregate_policy("device_sensor_gps_per_minute")
    op.remove_continuous_aggregate_policy("analysis_audio_emotion_scores_per_hour")
