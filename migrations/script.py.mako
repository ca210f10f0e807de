"""${message}.

Revision ${up_revision}, after ${down_revision | comma,n}. Created ${create_date}.
"""

from __future__ import annotations

<%
lines = (imports or "").splitlines()
standard = [line for line in lines if line.startswith("from datetime ")]
others = [line for line in lines if line not in standard]
header = [*standard, *[""][: len(standard)], "import sqlalchemy as sa", "from alembic import op", *others]
%>\
${"\n".join(header)}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "raise NotImplementedError"}


def downgrade() -> None:
    ${downgrades if downgrades else "raise NotImplementedError"}
