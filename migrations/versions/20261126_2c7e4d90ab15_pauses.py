"""Table of paused topics.

Revision 2c7e4d90ab15, after 7b20c9f4e6d1. Old code runs on the new schema and does not see pauses; new code needs it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2c7e4d90ab15"
down_revision = "7b20c9f4e6d1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ingest_pauses",
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("consumer_group", "topic", name=op.f("ingest_pauses_pkey")),
        comment="topics whose lanes an operator holds, in every process of the group",
    )


def downgrade() -> None:
    op.drop_table("ingest_pauses")
