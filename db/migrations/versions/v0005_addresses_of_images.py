"""Predictions have a hash of their image's address, by which it is known again."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was sent before has no such hash until it is sent again."""
    # Written out, as SQLite adds no constraint to a table but with a column.
    op.execute(
        "ALTER TABLE prediction ADD COLUMN image_address_sha256 VARCHAR(64) "
        "CONSTRAINT ck_prediction_image_address_sha256_length CHECK (length(image_address_sha256) = 64)"
    )
    op.create_index(
        op.f("ix_prediction_instance_project_id_image_address_sha256"),
        "prediction",
        ["instance", "project_id", "image_address_sha256"],
        unique=False,
    )


def downgrade() -> None:
    """Refused: it would drop what was recorded."""
    raise NotImplementedError("the record is append-only; to go back, restore a backup with the program that made it")
