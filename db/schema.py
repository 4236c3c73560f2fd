"""The tables. All but `actor`, `job`, `reconciliation_mark` and `training` are append-only.

db.triggers denies changes.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.types import CanonicalJson, FreeText, UtcDateTime

OUTCOMES = ("accepted", "adjusted", "relabelled", "rejected", "missed", "decided", "skipped")
VERDICTS = ("good", "defect", "review")
MODEL_EVENTS = ("activated", "taken back", "retired", "reinstated")
ACTIONS = ("created", "updated", "deleted")
FOUND_BY = ("webhook", "reconciling")
JOB_STATES = ("queued", "running", "done", "failed")
TRAINING_STATES = ("waiting", "running", "done", "failed")
_SHA256 = String(64)


def _is_sha256(column: str) -> CheckConstraint:
    return CheckConstraint(f"length({column}) = 64", name=f"{column}_length")


def _is_one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(v) for v in values)})", name=f"{column}_known")


class Base(DeclarativeBase):
    """All tables, with a naming rule for constraints so that a later migration can name what it changes."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class EnvironmentRow(Base):
    """What software and processor a decision was computed with."""

    __tablename__ = "environment"
    __table_args__ = (_is_sha256("sha256"),)

    sha256: Mapped[str] = mapped_column(_SHA256, primary_key=True)
    content: Mapped[Any] = mapped_column(CanonicalJson)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LabelingConfigurationRow(Base):
    """What inspectors could say in a project: the XML that a prediction was made for."""

    __tablename__ = "labeling_configuration"
    __table_args__ = (_is_sha256("sha256"),)

    sha256: Mapped[str] = mapped_column(_SHA256, primary_key=True)
    content: Mapped[str] = mapped_column(FreeText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ModelVersionRow(Base):
    """A model as it decides: weights, classes, preprocessing, calibration, thresholds and explanation settings."""

    __tablename__ = "model_version"
    __table_args__ = (
        UniqueConstraint("fingerprint"),
        UniqueConstraint("name", "version"),
        _is_sha256("fingerprint"),
        _is_sha256("weights_sha256"),
    )

    model_version_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    architecture: Mapped[str] = mapped_column(Text)
    weights_sha256: Mapped[str] = mapped_column(_SHA256)
    fingerprint: Mapped[str] = mapped_column(_SHA256)
    classes: Mapped[Any] = mapped_column(CanonicalJson)
    good_class: Mapped[str | None] = mapped_column(Text)
    preprocessing: Mapped[Any] = mapped_column(CanonicalJson)
    calibration: Mapped[Any] = mapped_column(CanonicalJson)
    thresholds: Mapped[Any] = mapped_column(CanonicalJson)
    explanation: Mapped[Any] = mapped_column(CanonicalJson)
    training: Mapped[Any] = mapped_column(CanonicalJson)
    metrics: Mapped[Any] = mapped_column(CanonicalJson)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    card: Mapped[Any | None] = mapped_column(CanonicalJson)


class ModelLocationRow(Base):
    """A directory that a model version was read from, so that it can be read again."""

    __tablename__ = "model_location"
    __table_args__ = (UniqueConstraint("model_version_id", "directory"),)

    model_location_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    model_version_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("model_version.model_version_id"))
    directory: Mapped[str] = mapped_column(FreeText)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ModelEventRow(Base):
    """A switch of the model in use, or the end of a model version's use.

    `model_version_id` is what the event leads to: NULL where taking an activation back leaves the scope without a
    version of its own. `instance` and `project_id` name a Label Studio project; both NULL stand for the whole desk.
    `number` is the order in which the events came about.
    """

    __tablename__ = "model_event"
    __table_args__ = (
        UniqueConstraint("number"),
        UniqueConstraint("undoes_event_id"),
        _is_one_of("kind", MODEL_EVENTS),
        CheckConstraint("number >= 1", name="number_range"),
        CheckConstraint("(instance IS NULL) = (project_id IS NULL)", name="scope_whole"),
        CheckConstraint("kind IN ('activated', 'taken back') OR instance IS NULL", name="scope_of_switches_only"),
        CheckConstraint("kind = 'taken back' OR model_version_id IS NOT NULL", name="version_stated"),
        CheckConstraint("(kind = 'taken back') = (undoes_event_id IS NOT NULL)", name="undoes_when_taken_back"),
        Index(None, "instance", "project_id", "number"),
        Index(None, "model_version_id"),
    )

    model_event_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(16))
    model_version_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("model_version.model_version_id"))
    instance: Mapped[str | None] = mapped_column(Text)
    project_id: Mapped[int | None] = mapped_column(BigInteger)
    undoes_event_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("model_event.model_event_id"))
    actor: Mapped[str] = mapped_column(FreeText)
    note: Mapped[str | None] = mapped_column(FreeText)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DecisionRow(Base):
    """One model version's verdict on one image."""

    __tablename__ = "decision"
    __table_args__ = (
        UniqueConstraint("decision_key"),
        _is_sha256("decision_key"),
        _is_sha256("image_sha256"),
        _is_sha256("pixel_sha256"),
        _is_sha256("settings_sha256"),
        _is_sha256("regions_sha256"),
        CheckConstraint("image_width > 0 AND image_height > 0", name="image_not_empty"),
        CheckConstraint("exif_orientation BETWEEN 1 AND 8", name="exif_orientation_known"),
        CheckConstraint("probability >= 0 AND probability <= 1", name="probability_range"),
        CheckConstraint("length(logits) > 0 AND length(logits) % 4 = 0", name="logits_float32"),
        CheckConstraint("masks_scored >= 0", name="masks_scored_range"),
        CheckConstraint("started_at <= finished_at", name="times_in_order"),
        _is_one_of("verdict", VERDICTS),
        CheckConstraint("verdict = 'review' OR (verdict = 'defect') = is_defect", name="verdict_fits"),
        CheckConstraint("distance >= 0 AND distance <= 2", name="distance_range"),
        CheckConstraint("verdict = 'review' OR distance <= unlike_from", name="unlike_for_review"),
        Index(None, "image_sha256"),
        Index(None, "model_version_id", "finished_at"),
        Index(None, "finished_at"),
    )

    decision_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    decision_key: Mapped[str] = mapped_column(_SHA256)
    image_sha256: Mapped[str] = mapped_column(_SHA256)
    pixel_sha256: Mapped[str] = mapped_column(_SHA256)
    image_width: Mapped[int] = mapped_column(Integer)
    image_height: Mapped[int] = mapped_column(Integer)
    image_media_type: Mapped[str] = mapped_column(Text)
    exif_orientation: Mapped[int] = mapped_column(Integer)
    model_version_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("model_version.model_version_id"))
    environment_sha256: Mapped[str] = mapped_column(ForeignKey("environment.sha256"))
    predicted_class: Mapped[str] = mapped_column(Text)
    probability: Mapped[float] = mapped_column(Double)
    logits: Mapped[bytes] = mapped_column(LargeBinary)
    scores: Mapped[Any] = mapped_column(CanonicalJson)
    is_defect: Mapped[bool] = mapped_column(Boolean)
    settings: Mapped[Any] = mapped_column(CanonicalJson)
    settings_sha256: Mapped[str] = mapped_column(_SHA256)
    environment_class: Mapped[str] = mapped_column(Text)
    explanation_method: Mapped[str] = mapped_column(Text)
    masks_scored: Mapped[int] = mapped_column(Integer)
    regions: Mapped[Any] = mapped_column(CanonicalJson)
    regions_sha256: Mapped[str] = mapped_column(_SHA256)
    timings_ms: Mapped[Any] = mapped_column(CanonicalJson)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # Defaults, as a column can only be added to recorded rows with one. What states no verdict is left to a person.
    verdict: Mapped[str] = mapped_column(String(16), server_default="review")
    labels: Mapped[Any] = mapped_column(CanonicalJson, server_default="[]")
    distance: Mapped[float | None] = mapped_column(Double)
    unlike_from: Mapped[float | None] = mapped_column(Double)


class AttributionMapRow(Base):
    """The fusion for one class of a decision: its hash. The evidence itself is the visualization maps.

    `tiles` says where the tiles lie that it was stitched from; null where the image was looked at whole. Then each
    visualization map holds the tiles' grids one below the other.
    """

    __tablename__ = "attribution_map"
    __table_args__ = (
        UniqueConstraint("decision_id", "rank"),
        _is_sha256("sha256"),
        CheckConstraint("rank >= 1", name="rank_range"),
        CheckConstraint("height > 0 AND width > 0", name="not_empty"),
        CheckConstraint("masks_scored >= 0", name="masks_scored_range"),
    )

    decision_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("decision.decision_id"), primary_key=True)
    class_name: Mapped[str] = mapped_column(Text, primary_key=True)
    rank: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    width: Mapped[int] = mapped_column(Integer)
    masks_scored: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(_SHA256)
    tiles: Mapped[Any | None] = mapped_column(CanonicalJson)


class VisualizationMapRow(Base):
    """One convolutional block's visualization map at feature resolution: float32, little-endian, row by row."""

    __tablename__ = "visualization_map"
    __table_args__ = (
        ForeignKeyConstraint(
            ["decision_id", "class_name"], ["attribution_map.decision_id", "attribution_map.class_name"]
        ),
        _is_sha256("sha256"),
        CheckConstraint("block_index >= 0", name="block_index_range"),
        CheckConstraint("channels > 0 AND height > 0 AND width > 0", name="not_empty"),
        CheckConstraint("length(grid) = 4 * height * width", name="grid_float32"),
    )

    decision_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    class_name: Mapped[str] = mapped_column(Text, primary_key=True)
    block_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    block_name: Mapped[str] = mapped_column(Text)
    channels: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    width: Mapped[int] = mapped_column(Integer)
    grid: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(_SHA256)


class PredictionRow(Base):
    """What was sent for one task on the strength of a decision."""

    __tablename__ = "prediction"
    __table_args__ = (
        _is_sha256("label_config_sha256"),
        _is_sha256("result_sha256"),
        _is_sha256("image_address_sha256"),
        Index(None, "instance", "task_id", "sent_at"),
        Index(None, "instance", "project_id", "image_address_sha256"),
        Index(None, "decision_id"),
        Index(None, "part_serial"),
    )

    prediction_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    decision_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("decision.decision_id"))
    instance: Mapped[str] = mapped_column(Text)
    project_id: Mapped[int] = mapped_column(BigInteger)
    task_id: Mapped[int] = mapped_column(BigInteger)
    image_uri: Mapped[str | None] = mapped_column(FreeText)
    part_serial: Mapped[str | None] = mapped_column(FreeText)
    lot: Mapped[str | None] = mapped_column(FreeText)
    station: Mapped[str | None] = mapped_column(FreeText)
    label_config_sha256: Mapped[str] = mapped_column(_SHA256)
    model_version: Mapped[str] = mapped_column(Text)
    result: Mapped[Any] = mapped_column(CanonicalJson)
    result_sha256: Mapped[str] = mapped_column(_SHA256)
    sent_at: Mapped[datetime] = mapped_column(UtcDateTime)
    image_address_sha256: Mapped[str | None] = mapped_column(_SHA256)


class PredictionImageRow(Base):
    """One of several images that a prediction is about, with the decision on it."""

    __tablename__ = "prediction_image"
    __table_args__ = (
        _is_sha256("image_address_sha256"),
        CheckConstraint("position >= 1", name="position_range"),
        Index(None, "decision_id"),
        Index(None, "image_address_sha256"),
    )

    prediction_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("prediction.prediction_id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)
    decision_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("decision.decision_id"))
    image_uri: Mapped[str | None] = mapped_column(FreeText)
    image_address_sha256: Mapped[str | None] = mapped_column(_SHA256)


class FailureRow(Base):
    """Something that was asked for and could not be done, with its reason."""

    __tablename__ = "failure"
    __table_args__ = (Index(None, "occurred_at"), Index(None, "instance", "task_id"))

    failure_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    instance: Mapped[str | None] = mapped_column(Text)
    project_id: Mapped[int | None] = mapped_column(BigInteger)
    task_id: Mapped[int | None] = mapped_column(BigInteger)
    image_uri: Mapped[str | None] = mapped_column(FreeText)
    reason: Mapped[str] = mapped_column(FreeText)
    detail: Mapped[str | None] = mapped_column(FreeText)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ActorRow(Base):
    """Who stands behind a pseudonym. The only table with personal data, and so the only one whose content is erased."""

    __tablename__ = "actor"
    __table_args__ = (UniqueConstraint("instance", "ls_user_id"),)

    actor_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    instance: Mapped[str | None] = mapped_column(Text)
    ls_user_id: Mapped[int | None] = mapped_column(BigInteger)
    display_name: Mapped[str | None] = mapped_column(FreeText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    erased_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ReviewRow(Base):
    """What one inspector did with a prediction, or without one."""

    __tablename__ = "review"
    __table_args__ = (
        UniqueConstraint("review_key"),
        _is_sha256("review_key"),
        _is_sha256("payload_sha256"),
        CheckConstraint("length(result_sha256) = 64", name="result_sha256_length"),
        _is_one_of("action", ACTIONS),
        _is_one_of("outcome", OUTCOMES),
        _is_one_of("found_by", FOUND_BY),
        CheckConstraint(
            "outcome IS NOT NULL OR action = 'deleted' OR (decision_id IS NULL AND prediction_id IS NULL)",
            name="outcome_stated",
        ),
        CheckConstraint("mean_iou >= 0 AND mean_iou <= 1", name="mean_iou_range"),
        CheckConstraint("lead_time_s >= 0", name="lead_time_s_range"),
        Index(None, "decision_id"),
        Index(None, "prediction_id"),
        Index(None, "instance", "annotation_id"),
        Index(None, "instance", "task_id"),
        Index(None, "received_at"),
    )

    review_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    review_key: Mapped[str] = mapped_column(_SHA256)
    decision_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("decision.decision_id"))
    prediction_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("prediction.prediction_id"))
    instance: Mapped[str] = mapped_column(Text)
    project_id: Mapped[int] = mapped_column(BigInteger)
    task_id: Mapped[int | None] = mapped_column(BigInteger)
    annotation_id: Mapped[int] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str | None] = mapped_column(String(16))
    label_predicted: Mapped[str | None] = mapped_column(Text)
    label_final: Mapped[str | None] = mapped_column(Text)
    regions_final: Mapped[Any | None] = mapped_column(CanonicalJson)
    region_changes: Mapped[Any | None] = mapped_column(CanonicalJson)
    mean_iou: Mapped[float | None] = mapped_column(Double)
    result_sha256: Mapped[str | None] = mapped_column(_SHA256)
    lead_time_s: Mapped[float | None] = mapped_column(Double)
    ground_truth: Mapped[bool] = mapped_column(Boolean)
    was_cancelled: Mapped[bool] = mapped_column(Boolean)
    model_output_shown: Mapped[bool | None] = mapped_column(Boolean)
    parent_prediction: Mapped[int | None] = mapped_column(BigInteger)
    parent_annotation: Mapped[int | None] = mapped_column(BigInteger)
    actor_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("actor.actor_id"))
    annotation_created_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    annotation_updated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    payload_sha256: Mapped[str] = mapped_column(_SHA256)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    labels_final: Mapped[Any | None] = mapped_column(CanonicalJson)
    found_by: Mapped[str] = mapped_column(String(16), server_default="webhook")
    reasons: Mapped[Any | None] = mapped_column(CanonicalJson)


class ReconciliationRow(Base):
    """One comparison of the recorded reviews of a project with the annotations that Label Studio has.

    `through` is the latest change of a task that it took account of, by Label Studio's clock.
    """

    __tablename__ = "reconciliation"
    __table_args__ = (
        CheckConstraint(
            "annotations >= 0 AND created >= 0 AND updated >= 0 AND skipped >= 0 AND deleted >= 0 AND failed >= 0 "
            "AND waiting >= 0",
            name="counts_range",
        ),
        CheckConstraint("started_at <= finished_at", name="times_in_order"),
        Index(None, "instance", "project_id", "finished_at"),
    )

    reconciliation_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    instance: Mapped[str] = mapped_column(Text)
    project_id: Mapped[int] = mapped_column(BigInteger)
    is_full: Mapped[bool] = mapped_column(Boolean)
    through: Mapped[datetime | None] = mapped_column(UtcDateTime)
    annotations: Mapped[int] = mapped_column(Integer)
    created: Mapped[int] = mapped_column(Integer)
    updated: Mapped[int] = mapped_column(Integer)
    skipped: Mapped[int] = mapped_column(Integer)
    deleted: Mapped[int] = mapped_column(Integer)
    failed: Mapped[int] = mapped_column(Integer)
    waiting: Mapped[int] = mapped_column(Integer)
    surplus: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReconciliationMarkRow(Base):
    """How far a project was compared, and how that ended last: a working table."""

    __tablename__ = "reconciliation_mark"
    __table_args__ = (CheckConstraint("failed >= 0", name="failed_range"),)

    instance: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    through: Mapped[datetime | None] = mapped_column(UtcDateTime)
    since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reached_at: Mapped[datetime] = mapped_column(UtcDateTime)
    compared_at: Mapped[datetime] = mapped_column(UtcDateTime)
    whole_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failed: Mapped[int] = mapped_column(Integer)
    surplus: Mapped[int] = mapped_column(Integer)


class TrainingRow(Base):
    """A training from reviews that was asked for in Label Studio, how far it is, and how it ended: a working table.

    What came out of it stands in the model version's own record.
    """

    __tablename__ = "training"
    __table_args__ = (
        _is_one_of("state", TRAINING_STATES),
        CheckConstraint("done >= 0 AND total >= 0", name="steps_range"),
        CheckConstraint("(state IN ('done', 'failed')) = (ended_at IS NOT NULL)", name="ended_stated"),
        Index(None, "instance", "asked_at"),
    )

    training_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    instance: Mapped[str] = mapped_column(Text)
    project_id: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    doing: Mapped[str] = mapped_column(FreeText)
    done: Mapped[int] = mapped_column(Integer)
    total: Mapped[int] = mapped_column(Integer)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    told_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[str | None] = mapped_column(FreeText)
    fingerprint: Mapped[str | None] = mapped_column(_SHA256)
    verdict: Mapped[str | None] = mapped_column(FreeText)
    report: Mapped[str | None] = mapped_column(FreeText)


class JobRow(Base):
    """Work that was taken in and answered for, to be done once: the webhook inbox."""

    __tablename__ = "job"
    __table_args__ = (
        _is_sha256("payload_sha256"),
        _is_one_of("state", JOB_STATES),
        CheckConstraint("attempts >= 0 AND attempts <= max_attempts", name="attempts_range"),
        CheckConstraint(
            "(state = 'running') = (lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL)",
            name="lease_when_running",
        ),
        Index(None, "state", "run_after"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    payload: Mapped[str] = mapped_column(Text)
    payload_sha256: Mapped[str] = mapped_column(_SHA256)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    max_attempts: Mapped[int] = mapped_column(Integer)
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    run_after: Mapped[datetime] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(FreeText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
