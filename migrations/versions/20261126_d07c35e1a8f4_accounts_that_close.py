"""Accounts that close: where a ledger row began, and the offsets that it passed or was moved over.

Revision d07c35e1a8f4, after b15f7e02d8c4. Old code runs on the new schema: it makes rows without `first_offset`, whose
account is not judged, and does not count what it passes in rows that new code has made. So rows that exist are left
without `first_offset`, too: while a roll lasts, old code still moves them. New code needs the columns.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "d07c35e1a8f4"
down_revision = "b15f7e02d8c4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "ingest_offsets",
        sa.Column(
            "passed",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="offsets without a message: control records, aborted transactions, what compaction took",
        ),
    )
    op.add_column(
        "ingest_offsets",
        sa.Column(
            "moved",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="offsets skipped, less those gone back: the moves that ingest_offset_gaps lists",
        ),
    )
    op.add_column(
        "ingest_offsets",
        sa.Column(
            "first_offset",
            sa.BigInteger(),
            nullable=True,
            comment="where the account begins; empty in a row from before accounts",
        ),
    )
    op.create_table_comment(
        "ingest_offset_gaps",
        "where a partition went on elsewhere than after its last message: gaps, and moves by hand",
        existing_comment="messages that the broker no longer had when they were to be read",
    )


def downgrade() -> None:
    op.create_table_comment(
        "ingest_offset_gaps",
        "messages that the broker no longer had when they were to be read",
        existing_comment="where a partition went on elsewhere than after its last message: gaps, and moves by hand",
    )
    op.drop_column("ingest_offsets", "first_offset")
    op.drop_column("ingest_offsets", "moved")
    op.drop_column("ingest_offsets", "passed")
