"""Maps that were stitched from tiles of a large image say from which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; all maps recorded before are of whole images."""
    op.add_column("attribution_map", sa.Column("tiles", sa.Text(), nullable=True))


def downgrade() -> None:
    """Refused: it would drop what was recorded."""
    raise NotImplementedError("the record is append-only; to go back, restore a backup with the program that made it")
