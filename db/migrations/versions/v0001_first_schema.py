"""The first schema: decisions with their evidence, what was sent of them, how they were judged, and the work queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables. Their triggers are set by db.migrate after the last revision."""
    op.create_table(
        "actor",
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=True),
        sa.Column("ls_user_id", sa.BigInteger(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("actor_id", name=op.f("pk_actor")),
        sa.UniqueConstraint("instance", "ls_user_id", name=op.f("uq_actor_instance_ls_user_id")),
    )
    op.create_table(
        "environment",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_environment_sha256_length")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_environment")),
    )
    op.create_table(
        "failure",
        sa.Column("failure_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=True),
        sa.Column("project_id", sa.BigInteger(), nullable=True),
        sa.Column("task_id", sa.BigInteger(), nullable=True),
        sa.Column("image_uri", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("failure_id", name=op.f("pk_failure")),
    )
    op.create_index(op.f("ix_failure_instance_task_id"), "failure", ["instance", "task_id"], unique=False)
    op.create_index(op.f("ix_failure_occurred_at"), "failure", ["occurred_at"], unique=False)
    op.create_table(
        "job",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL)",
            name=op.f("ck_job_lease_when_running"),
        ),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed')", name=op.f("ck_job_state_known")),
        sa.CheckConstraint("attempts >= 0 AND attempts <= max_attempts", name=op.f("ck_job_attempts_range")),
        sa.CheckConstraint("length(payload_sha256) = 64", name=op.f("ck_job_payload_sha256_length")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job")),
    )
    op.create_index(op.f("ix_job_state_run_after"), "job", ["state", "run_after"], unique=False)
    op.create_table(
        "model_version",
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("classes", sa.Text(), nullable=False),
        sa.Column("good_class", sa.Text(), nullable=True),
        sa.Column("preprocessing", sa.Text(), nullable=False),
        sa.Column("calibration", sa.Text(), nullable=False),
        sa.Column("thresholds", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("training", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(fingerprint) = 64", name=op.f("ck_model_version_fingerprint_length")),
        sa.CheckConstraint("length(weights_sha256) = 64", name=op.f("ck_model_version_weights_sha256_length")),
        sa.PrimaryKeyConstraint("model_version_id", name=op.f("pk_model_version")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_model_version_fingerprint")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_model_version_name_version")),
    )
    op.create_table(
        "decision",
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("decision_key", sa.String(length=64), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("pixel_sha256", sa.String(length=64), nullable=False),
        sa.Column("image_width", sa.Integer(), nullable=False),
        sa.Column("image_height", sa.Integer(), nullable=False),
        sa.Column("image_media_type", sa.Text(), nullable=False),
        sa.Column("exif_orientation", sa.Integer(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("environment_sha256", sa.String(length=64), nullable=False),
        sa.Column("predicted_class", sa.Text(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("logits", sa.LargeBinary(), nullable=False),
        sa.Column("scores", sa.Text(), nullable=False),
        sa.Column("is_defect", sa.Boolean(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("settings_sha256", sa.String(length=64), nullable=False),
        sa.Column("environment_class", sa.Text(), nullable=False),
        sa.Column("explanation_method", sa.Text(), nullable=False),
        sa.Column("masks_scored", sa.Integer(), nullable=False),
        sa.Column("regions", sa.Text(), nullable=False),
        sa.Column("regions_sha256", sa.String(length=64), nullable=False),
        sa.Column("timings_ms", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("exif_orientation BETWEEN 1 AND 8", name=op.f("ck_decision_exif_orientation_known")),
        sa.CheckConstraint("image_width > 0 AND image_height > 0", name=op.f("ck_decision_image_not_empty")),
        sa.CheckConstraint("length(decision_key) = 64", name=op.f("ck_decision_decision_key_length")),
        sa.CheckConstraint("length(image_sha256) = 64", name=op.f("ck_decision_image_sha256_length")),
        sa.CheckConstraint("length(logits) > 0 AND length(logits) % 4 = 0", name=op.f("ck_decision_logits_float32")),
        sa.CheckConstraint("length(pixel_sha256) = 64", name=op.f("ck_decision_pixel_sha256_length")),
        sa.CheckConstraint("length(regions_sha256) = 64", name=op.f("ck_decision_regions_sha256_length")),
        sa.CheckConstraint("length(settings_sha256) = 64", name=op.f("ck_decision_settings_sha256_length")),
        sa.CheckConstraint("masks_scored >= 0", name=op.f("ck_decision_masks_scored_range")),
        sa.CheckConstraint("probability >= 0 AND probability <= 1", name=op.f("ck_decision_probability_range")),
        sa.CheckConstraint("started_at <= finished_at", name=op.f("ck_decision_times_in_order")),
        sa.ForeignKeyConstraint(
            ["environment_sha256"], ["environment.sha256"], name=op.f("fk_decision_environment_sha256_environment")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.model_version_id"],
            name=op.f("fk_decision_model_version_id_model_version"),
        ),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decision")),
        sa.UniqueConstraint("decision_key", name=op.f("uq_decision_decision_key")),
    )
    op.create_index(op.f("ix_decision_finished_at"), "decision", ["finished_at"], unique=False)
    op.create_index(op.f("ix_decision_image_sha256"), "decision", ["image_sha256"], unique=False)
    op.create_index(
        op.f("ix_decision_model_version_id_finished_at"), "decision", ["model_version_id", "finished_at"], unique=False
    )
    op.create_table(
        "attribution_map",
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("class_name", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("masks_scored", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.CheckConstraint("height > 0 AND width > 0", name=op.f("ck_attribution_map_not_empty")),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_attribution_map_sha256_length")),
        sa.CheckConstraint("masks_scored >= 0", name=op.f("ck_attribution_map_masks_scored_range")),
        sa.CheckConstraint("rank >= 1", name=op.f("ck_attribution_map_rank_range")),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decision.decision_id"], name=op.f("fk_attribution_map_decision_id_decision")
        ),
        sa.PrimaryKeyConstraint("decision_id", "class_name", name=op.f("pk_attribution_map")),
        sa.UniqueConstraint("decision_id", "rank", name=op.f("uq_attribution_map_decision_id_rank")),
    )
    op.create_table(
        "prediction",
        sa.Column("prediction_id", sa.Uuid(), nullable=False),
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("image_uri", sa.Text(), nullable=True),
        sa.Column("part_serial", sa.Text(), nullable=True),
        sa.Column("lot", sa.Text(), nullable=True),
        sa.Column("station", sa.Text(), nullable=True),
        sa.Column("label_config_sha256", sa.String(length=64), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("result_sha256", sa.String(length=64), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(label_config_sha256) = 64", name=op.f("ck_prediction_label_config_sha256_length")),
        sa.CheckConstraint("length(result_sha256) = 64", name=op.f("ck_prediction_result_sha256_length")),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decision.decision_id"], name=op.f("fk_prediction_decision_id_decision")
        ),
        sa.PrimaryKeyConstraint("prediction_id", name=op.f("pk_prediction")),
    )
    op.create_index(op.f("ix_prediction_decision_id"), "prediction", ["decision_id"], unique=False)
    op.create_index(
        op.f("ix_prediction_instance_task_id_sent_at"), "prediction", ["instance", "task_id", "sent_at"], unique=False
    )
    op.create_index(op.f("ix_prediction_part_serial"), "prediction", ["part_serial"], unique=False)
    op.create_table(
        "review",
        sa.Column("review_id", sa.Uuid(), nullable=False),
        sa.Column("review_key", sa.String(length=64), nullable=False),
        sa.Column("decision_id", sa.Uuid(), nullable=True),
        sa.Column("prediction_id", sa.Uuid(), nullable=True),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=True),
        sa.Column("annotation_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("label_predicted", sa.Text(), nullable=True),
        sa.Column("label_final", sa.Text(), nullable=True),
        sa.Column("regions_final", sa.Text(), nullable=True),
        sa.Column("region_changes", sa.Text(), nullable=True),
        sa.Column("mean_iou", sa.Double(), nullable=True),
        sa.Column("result_sha256", sa.String(length=64), nullable=True),
        sa.Column("lead_time_s", sa.Double(), nullable=True),
        sa.Column("ground_truth", sa.Boolean(), nullable=False),
        sa.Column("was_cancelled", sa.Boolean(), nullable=False),
        sa.Column("model_output_shown", sa.Boolean(), nullable=True),
        sa.Column("parent_prediction", sa.BigInteger(), nullable=True),
        sa.Column("parent_annotation", sa.BigInteger(), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("annotation_created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("annotation_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action IN ('created', 'updated', 'deleted')", name=op.f("ck_review_action_known")),
        sa.CheckConstraint(
            "outcome IN ('accepted', 'adjusted', 'relabelled', 'rejected', 'missed', 'skipped')",
            name=op.f("ck_review_outcome_known"),
        ),
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
    op.create_index(op.f("ix_review_decision_id"), "review", ["decision_id"], unique=False)
    op.create_index(op.f("ix_review_instance_annotation_id"), "review", ["instance", "annotation_id"], unique=False)
    op.create_index(op.f("ix_review_instance_task_id"), "review", ["instance", "task_id"], unique=False)
    op.create_index(op.f("ix_review_prediction_id"), "review", ["prediction_id"], unique=False)
    op.create_index(op.f("ix_review_received_at"), "review", ["received_at"], unique=False)
    op.create_table(
        "visualization_map",
        sa.Column("decision_id", sa.Uuid(), nullable=False),
        sa.Column("class_name", sa.Text(), nullable=False),
        sa.Column("block_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("block_name", sa.Text(), nullable=False),
        sa.Column("channels", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("grid", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.CheckConstraint("block_index >= 0", name=op.f("ck_visualization_map_block_index_range")),
        sa.CheckConstraint("channels > 0 AND height > 0 AND width > 0", name=op.f("ck_visualization_map_not_empty")),
        sa.CheckConstraint("length(grid) = 4 * height * width", name=op.f("ck_visualization_map_grid_float32")),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_visualization_map_sha256_length")),
        sa.ForeignKeyConstraint(
            ["decision_id", "class_name"],
            ["attribution_map.decision_id", "attribution_map.class_name"],
            name=op.f("fk_visualization_map_decision_id_class_name_attribution_map"),
        ),
        sa.PrimaryKeyConstraint("decision_id", "class_name", "block_index", name=op.f("pk_visualization_map")),
    )


def downgrade() -> None:
    """Refused: it would drop what was recorded."""
    raise NotImplementedError("the record is append-only; to go back, restore a backup with the program that made it")
