"""Predictions about several images of one part name each image and the decision on it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; all predictions sent before are about one image."""
    op.create_table(
        "prediction_image",
        sa.Column("prediction_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("image_uri", sa.Text(), nullable=True),
        sa.Column("image_address_sha256", sa.String(length=64), nullable=True),
        sa.CheckConstraint("position >= 1", name=op.f("ck_prediction_image_position_range")),
        sa.CheckConstraint(
            "length(image_address_sha256) = 64", name=op.f("ck_prediction_image_image_address_sha256_length")
        ),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decision.decision_id"], name=op.f("fk_prediction_image_decision_id_decision")
        ),
        sa.ForeignKeyConstraint(
            ["prediction_id"],
            ["prediction.prediction_id"],
            name=op.f("fk_prediction_image_prediction_id_prediction"),
        ),
        sa.PrimaryKeyConstraint("prediction_id", "position", name=op.f("pk_prediction_image")),
    )
    for column in ("decision_id", "image_address_sha256"):
        op.create_index(op.f(f"ix_prediction_image_{column}"), "prediction_image", [column], unique=False)


def downgrade() -> None:
    """Refused: it would drop what was recorded."""
    raise NotImplementedError("the record is append-only; to go back, restore a backup with the program that made it")
