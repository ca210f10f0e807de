"""A revision that has begun to change a table when it fails."""

import sqlalchemy as sa
from alembic import op

revision = "$revision"
down_revision = "$head"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("$table", sa.Column("$column", sa.Text()))
    op.execute("SELECT 1 / 0")


def downgrade() -> None:
    op.drop_column("$table", "$column")
