"""Keys by device and time: the unique keys' columns in the order in which rows arrive.

Revision a4d81f6c2e90, after d07c35e1a8f4. The columns stay the same, so old code runs on the new schema and new code on
the old. Seven indexes are built anew, some four seconds for two million rows, and until all are there nobody else can use
any of the tables. The consumers wait meanwhile, and go on by themselves.
"""

from __future__ import annotations

from alembic import op

revision = "a4d81f6c2e90"
down_revision = "d07c35e1a8f4"
branch_labels = None
depends_on = None

KEYS = {
    "analysis_audio_emotion_scores_raw": ("message_id", "segment_id"),
    "analysis_context_reasoning_chains_raw": ("message_id", "reasoning_id"),
    "analysis_image_face_emotions_raw": ("message_id", "face_id"),
    "media_audio_voice_segments_raw": ("message_id",),
    "media_image_vision_annotations_raw": ("message_id", "annotation_id"),
    "media_text_word_timestamps_raw": ("message_id", "word_sequence"),
    "task_url_processed_content_raw": ("message_id", "url_id"),
}
"""Table → the columns of its key, ``<table>_key``, besides ``device_id`` and ``timestamp``."""


def upgrade() -> None:
    _lock()
    for table, others in KEYS.items():
        _replace(table, "device_id", "timestamp", *others)


def downgrade() -> None:
    _lock()
    for table, others in KEYS.items():
        _replace(table, "device_id", *others, "timestamp")


def _lock() -> None:
    # At once: who has to wait for a table in vain has then built nothing in vain.
    op.execute(f"LOCK TABLE {', '.join(KEYS)} IN ACCESS EXCLUSIVE MODE")


def _replace(table: str, *columns: str) -> None:
    op.drop_constraint(f"{table}_key", table, type_="unique")
    op.create_unique_constraint(f"{table}_key", table, columns)
