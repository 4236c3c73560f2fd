"""Which model version is in use where, as events; and decisions that may be left to a person, or name several classes.

Decisions recorded before are upgraded by rule: a defect or good part was decided as such, for the one class named. How
far their images were from what the model was trained on is not known.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from db.keys import canonical_json

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OUTCOMES = "'accepted', 'adjusted', 'relabelled', 'rejected', 'missed', 'decided', 'skipped'"
_VERDICTS = "'good', 'defect', 'review'"


def upgrade() -> None:
    """Add what is new. The triggers are set anew by db.migrate afterwards, those taken away here among them."""
    op.add_column("model_version", sa.Column("card", sa.Text(), nullable=True))
    _create_model_location()
    _create_model_event()
    _upgrade_decisions()
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_reviews()
    else:
        op.drop_constraint(op.f("ck_review_outcome_known"), "review", type_="check")
        op.create_check_constraint(op.f("ck_review_outcome_known"), "review", f"outcome IN ({_OUTCOMES})")
        op.add_column("review", sa.Column("labels_final", sa.Text(), nullable=True))


def downgrade() -> None:
    """Refused: it would drop what was recorded."""
    raise NotImplementedError("the record is append-only; to go back, restore a backup with the program that made it")


def _create_model_location() -> None:
    op.create_table(
        "model_location",
        sa.Column("model_location_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.model_version_id"],
            name=op.f("fk_model_location_model_version_id_model_version"),
        ),
        sa.PrimaryKeyConstraint("model_location_id", name=op.f("pk_model_location")),
        sa.UniqueConstraint("model_version_id", "directory", name=op.f("uq_model_location_model_version_id_directory")),
    )


def _create_model_event() -> None:
    op.create_table(
        "model_event",
        sa.Column("model_event_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("instance", sa.Text(), nullable=True),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("undoes_event_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('activated', 'taken back', 'retired', 'reinstated')", name=op.f("ck_model_event_kind_known")
        ),
        sa.CheckConstraint("number >= 1", name=op.f("ck_model_event_number_range")),
        sa.CheckConstraint("(instance IS NULL) = (project_id IS NULL)", name=op.f("ck_model_event_scope_whole")),
        sa.CheckConstraint(
            "kind IN ('activated', 'taken back') OR instance IS NULL",
            name=op.f("ck_model_event_scope_of_switches_only"),
        ),
        sa.CheckConstraint(
            "kind = 'taken back' OR model_version_id IS NOT NULL", name=op.f("ck_model_event_version_stated")
        ),
        sa.CheckConstraint(
            "(kind = 'taken back') = (undoes_event_id IS NOT NULL)",
            name=op.f("ck_model_event_undoes_when_taken_back"),
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.model_version_id"],
            name=op.f("fk_model_event_model_version_id_model_version"),
        ),
        sa.ForeignKeyConstraint(
            ["undoes_event_id"],
            ["model_event.model_event_id"],
            name=op.f("fk_model_event_undoes_event_id_model_event"),
        ),
        sa.PrimaryKeyConstraint("model_event_id", name=op.f("pk_model_event")),
        sa.UniqueConstraint("number", name=op.f("uq_model_event_number")),
        sa.UniqueConstraint("undoes_event_id", name=op.f("uq_model_event_undoes_event_id")),
    )
    op.create_index(
        op.f("ix_model_event_instance_project_id_number"),
        "model_event",
        ["instance", "project_id", "number"],
        unique=False,
    )
    op.create_index(op.f("ix_model_event_model_version_id"), "model_event", ["model_version_id"], unique=False)


def _upgrade_decisions() -> None:
    # Written out, as SQLite adds no constraint to a table but with a column. A column added needs a default; what
    # states no verdict is left to a person.
    op.execute(
        "ALTER TABLE decision ADD COLUMN verdict VARCHAR(16) DEFAULT 'review' NOT NULL "
        f"CONSTRAINT ck_decision_verdict_known CHECK (verdict IN ({_VERDICTS})) "
        "CONSTRAINT ck_decision_verdict_fits CHECK (verdict = 'review' OR (verdict = 'defect') = is_defect)"
    )
    op.execute("ALTER TABLE decision ADD COLUMN labels TEXT DEFAULT '[]' NOT NULL")
    double = sa.Double().compile(dialect=op.get_bind().dialect)
    op.execute(
        f"ALTER TABLE decision ADD COLUMN distance {double} "
        "CONSTRAINT ck_decision_distance_range CHECK (distance >= 0 AND distance <= 2)"
    )
    op.execute(
        f"ALTER TABLE decision ADD COLUMN unlike_from {double} CONSTRAINT ck_decision_unlike_for_review "
        "CHECK (verdict = 'review' OR distance <= unlike_from)"
    )
    _allow_change("decision")
    op.execute("UPDATE decision SET verdict = CASE WHEN is_defect THEN 'defect' ELSE 'good' END")
    decision = sa.table("decision", sa.column("predicted_class"), sa.column("labels"))
    connection = op.get_bind()
    for (name,) in connection.execute(sa.select(decision.c.predicted_class).distinct()).all():
        connection.execute(
            sa.update(decision).where(decision.c.predicted_class == name).values(labels=canonical_json([name]))
        )


def _allow_change(table: str) -> None:
    """Take away the triggers of this table that deny an update, until db.migrate sets them again."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER IF EXISTS {table}_no_update")
    else:
        op.execute(f"DROP TRIGGER IF EXISTS {table}_no_change ON {table}")


def _rebuild_reviews() -> None:
    """Make the table anew, as SQLite changes no constraint. No other table refers to it."""
    connection = op.get_bind()
    former = sa.Table("review", sa.MetaData(), autoload_with=connection)
    for index in former.indexes:
        op.drop_index(str(index.name), "review")
    op.rename_table("review", "review_former")
    op.create_table("review", *_review_columns(), *_review_constraints())
    names = ", ".join(column.name for column in former.columns)
    op.execute(f"INSERT INTO review ({names}) SELECT {names} FROM review_former")  # noqa: S608 - names of columns
    op.drop_table("review_former")
    for columns in (
        ["decision_id"],
        ["instance", "annotation_id"],
        ["instance", "task_id"],
        ["prediction_id"],
        ["received_at"],
    ):
        op.create_index(op.f(f"ix_review_{'_'.join(columns)}"), "review", columns, unique=False)


def _review_columns() -> Iterator[sa.Column[object]]:
    for name, kind, nullable in (
        ("review_id", sa.Uuid(), False),
        ("review_key", sa.String(length=64), False),
        ("decision_id", sa.Uuid(), True),
        ("prediction_id", sa.Uuid(), True),
        ("instance", sa.Text(), False),
        ("project_id", sa.BigInteger(), False),
        ("task_id", sa.BigInteger(), True),
        ("annotation_id", sa.BigInteger(), False),
        ("action", sa.String(length=16), False),
        ("outcome", sa.String(length=16), True),
        ("label_predicted", sa.Text(), True),
        ("label_final", sa.Text(), True),
        ("regions_final", sa.Text(), True),
        ("region_changes", sa.Text(), True),
        ("mean_iou", sa.Double(), True),
        ("result_sha256", sa.String(length=64), True),
        ("lead_time_s", sa.Double(), True),
        ("ground_truth", sa.Boolean(), False),
        ("was_cancelled", sa.Boolean(), False),
        ("model_output_shown", sa.Boolean(), True),
        ("parent_prediction", sa.BigInteger(), True),
        ("parent_annotation", sa.BigInteger(), True),
        ("actor_id", sa.Uuid(), True),
        ("annotation_created_at", sa.DateTime(timezone=True), True),
        ("annotation_updated_at", sa.DateTime(timezone=True), True),
        ("payload_sha256", sa.String(length=64), False),
        ("received_at", sa.DateTime(timezone=True), False),
        ("labels_final", sa.Text(), True),
    ):
        yield sa.Column(name, kind, nullable=nullable)


def _review_constraints() -> tuple[sa.Constraint, ...]:
    return (
        sa.CheckConstraint("action IN ('created', 'updated', 'deleted')", name=op.f("ck_review_action_known")),
        sa.CheckConstraint(f"outcome IN ({_OUTCOMES})", name=op.f("ck_review_outcome_known")),
        sa.CheckConstraint(
            "outcome IS NOT NULL OR action = 'deleted' OR (decision_id IS NULL AND prediction_id IS NULL)",
            name=op.f("ck_review_outcome_stated"),
        ),
        sa.CheckConstraint("lead_time_s >= 0", name=op.f("ck_review_lead_time_s_range")),
        sa.CheckConstraint("length(payload_sha256) = 64", name=op.f("ck_review_payload_sha256_length")),
        sa.CheckConstraint("length(result_sha256) = 64", name=op.f("ck_review_result_sha256_length")),
        sa.CheckConstraint("length(review_key) = 64", name=op.f("ck_review_review_key_length")),
        sa.CheckConstraint("mean_iou >= 0 AND mean_iou <= 1", name=op.f("ck_review_mean_iou_range")),
        sa.ForeignKeyConstraint(["actor_id"], ["actor.actor_id"], name=op.f("fk_review_actor_id_actor")),
        sa.ForeignKeyConstraint(["decision_id"], ["decision.decision_id"], name=op.f("fk_review_decision_id_decision")),
        sa.ForeignKeyConstraint(
            ["prediction_id"], ["prediction.prediction_id"], name=op.f("fk_review_prediction_id_prediction")
        ),
        sa.PrimaryKeyConstraint("review_id", name=op.f("pk_review")),
        sa.UniqueConstraint("review_key", name=op.f("uq_review_review_key")),
    )
