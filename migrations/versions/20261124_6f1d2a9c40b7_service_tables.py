"""The service's own tables: the ledger, its gaps, the database's id, dead letters, fuses.

Revision 6f1d2a9c40b7, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "6f1d2a9c40b7"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ingest_database",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("ingest_database_pkey")),
        comment="one row: the id that marks the offsets committed to Kafka as this database's",
    )
    op.create_table(
        "ingest_dead_letters",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("kafka_offset", sa.BigInteger(), nullable=False),
        sa.Column(
            "kafka_timestamp",
            sa.BigInteger(),
            nullable=False,
            comment="ms since 1970, as the broker holds it",
        ),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column(
            "headers",
            sa.LargeBinary(),
            nullable=True,
            comment="each header: length and bytes of its name, then of its value (-1: null)",
        ),
        sa.Column("stage", sa.Text(), nullable=False, comment="decode, contract or database"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("field_path", sa.Text(), nullable=True),
        sa.Column("sqlstate", sa.Text(), nullable=True),
        sa.Column("constraint_name", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=True, comment="what became of it: empty while it waits"),
        sa.PrimaryKeyConstraint("id", name=op.f("ingest_dead_letters_pkey")),
        comment="messages that could not be written, whole, with the reason",
    )
    op.create_index(
        "ingest_dead_letters_message_idx",
        "ingest_dead_letters",
        ["consumer_group", "topic", "partition", "kafka_offset"],
        unique=False,
    )
    op.create_index(op.f("ingest_dead_letters_created_at_idx"), "ingest_dead_letters", ["created_at"], unique=False)
    op.create_table(
        "ingest_fuses",
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "accepted_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when somebody let the rejections become dead letters",
        ),
        sa.PrimaryKeyConstraint("consumer_group", "topic", name=op.f("ingest_fuses_pkey")),
        comment="topics whose messages are all rejected for one cause",
    )
    op.create_table(
        "ingest_offset_gaps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("from_offset", sa.BigInteger(), nullable=False, comment="the first offset that was expected"),
        sa.Column("to_offset", sa.BigInteger(), nullable=False, comment="the offset that was read next"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("ingest_offset_gaps_pkey")),
        comment="messages that the broker no longer had when they were to be read",
    )
    op.create_table(
        "ingest_offsets",
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False, comment="the first offset that is not written yet"),
        sa.Column(
            "last_offset",
            sa.BigInteger(),
            nullable=True,
            comment="the last message that ended here; control records have offsets, too",
        ),
        sa.Column("last_timestamp", sa.BigInteger(), nullable=True, comment="its Kafka timestamp, ms since 1970"),
        sa.Column(
            "last_checksum",
            sa.BigInteger(),
            nullable=True,
            comment="CRC-32 of its key and value: tells a topic that was made anew",
        ),
        sa.Column("written", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("duplicate", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("dead_lettered", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("consumer_group", "topic", "partition", name=op.f("ingest_offsets_pkey")),
        comment="how far each partition is written; moved only in the transaction that writes its rows",
    )
    # The id marks the offsets committed to Kafka as this database's.
    op.execute("INSERT INTO ingest_database DEFAULT VALUES")


def downgrade() -> None:
    op.drop_table("ingest_offsets")
    op.drop_table("ingest_offset_gaps")
    op.drop_table("ingest_fuses")
    op.drop_index("ingest_dead_letters_message_idx", table_name="ingest_dead_letters")
    op.drop_index(op.f("ingest_dead_letters_created_at_idx"), table_name="ingest_dead_letters")
    op.drop_table("ingest_dead_letters")
    op.drop_table("ingest_database")
