"""Reviews say whether a webhook told of them or reconciling found them; what reconciling found, and how far it came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COUNTS = ("annotations", "created", "updated", "skipped", "deleted", "failed", "waiting")


def upgrade() -> None:
    """Add column and tables; all reviews recorded before came by webhook."""
    # Written out, as SQLite adds no constraint to a table but with a column.
    op.execute(
        "ALTER TABLE review ADD COLUMN found_by VARCHAR(16) DEFAULT 'webhook' NOT NULL "
        "CONSTRAINT ck_review_found_by_known CHECK (found_by IN ('webhook', 'reconciling'))"
    )
    op.create_table(
        "reconciliation",
        sa.Column("reconciliation_id", sa.Uuid(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("is_full", sa.Boolean(), nullable=False),
        sa.Column("through", sa.DateTime(timezone=True), nullable=True),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _COUNTS),
        sa.Column("surplus", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            " AND ".join(f"{name} >= 0" for name in _COUNTS), name=op.f("ck_reconciliation_counts_range")
        ),
        sa.CheckConstraint("started_at <= finished_at", name=op.f("ck_reconciliation_times_in_order")),
        sa.PrimaryKeyConstraint("reconciliation_id", name=op.f("pk_reconciliation")),
    )
    op.create_index(
        op.f("ix_reconciliation_instance_project_id_finished_at"),
        "reconciliation",
        ["instance", "project_id", "finished_at"],
        unique=False,
    )
    op.create_table(
        "reconciliation_mark",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("through", sa.DateTime(timezone=True), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reached_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("compared_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("whole_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("surplus", sa.Integer(), nullable=False),
        sa.CheckConstraint("failed >= 0", name=op.f("ck_reconciliation_mark_failed_range")),
        sa.PrimaryKeyConstraint("instance", "project_id", name=op.f("pk_reconciliation_mark")),
    )


def downgrade() -> None:
    """Refused: it would drop what was recorded."""
    raise NotImplementedError("the record is append-only; to go back, restore a backup with the program that made it")
