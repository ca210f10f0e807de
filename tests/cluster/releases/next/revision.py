"""What a later release may bring: a column that today's code does not know."""

import sqlalchemy as sa
from alembic import op

revision = "$revision"
down_revision = "$head"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("$table", sa.Column("$column", sa.Text()))


def downgrade() -> None:
    op.drop_column("$table", "$column")
