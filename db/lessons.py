"""What can be learned from: the reviews that stand, each with the image that it is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import or_, select, union

from db.records import Outcome
from db.schema import DecisionRow, ModelVersionRow, PredictionImageRow, PredictionRow, ReviewRow
from db.standing import standing_reviews

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import CompoundSelect
    from sqlalchemy.orm import Session

    from db.records import JsonArray


@dataclass(frozen=True, kw_only=True)
class JudgedImage:
    """The file that a decision was made on, where it came from, and the classes that were known.

    Attributes:
        sha256: of the file's bytes.
        size: height and width as shown, in pixels.
        address_sha256: of what named it in its task; None where that was not kept.
        part_serial: of the part shown, where its task says so.
        classes, good_class: of the model that decided.
    """

    sha256: str
    size: tuple[int, int]
    media_type: str
    address_sha256: str | None
    part_serial: str | None
    classes: tuple[str, ...]
    good_class: str | None


@dataclass(frozen=True, kw_only=True)
class StandingReview:
    """A review that stands; its fields are those of `db.records.Review`.

    Attributes:
        changed_at: by Label Studio's clock, or when it was received.
        image: None where nothing was predicted.
        part: sha256 of all files of a part that is judged by several, of which `image` is the worst; else empty.
    """

    review_id: UUID
    project_id: int
    task_id: int | None
    annotation_id: int
    outcome: Outcome | None
    labels: tuple[str, ...] | None
    regions_final: JsonArray
    region_changes: JsonArray
    ground_truth: bool
    was_cancelled: bool
    changed_at: datetime
    image: JudgedImage | None
    part: frozenset[str] = frozenset()


def standing(session: Session, *, instance: str, until: datetime | None = None) -> tuple[StandingReview, ...]:
    """A Label Studio's reviews that stand, in the order of their annotations' numbers.

    Args:
        until: without what was received later, so that the same is found again; None for now.
    """
    last = standing_reviews(instance, ReviewRow.review_id, until=until)
    rows = session.execute(
        select(ReviewRow, DecisionRow, PredictionRow, ModelVersionRow)
        .join(last, last.c.review_id == ReviewRow.review_id)
        .outerjoin(DecisionRow, DecisionRow.decision_id == ReviewRow.decision_id)
        .outerjoin(PredictionRow, PredictionRow.prediction_id == ReviewRow.prediction_id)
        .outerjoin(ModelVersionRow, ModelVersionRow.model_version_id == DecisionRow.model_version_id)
        .order_by(ReviewRow.annotation_id)
    )
    parts = _parts(session, instance)
    return tuple(
        _record(
            review,
            None if decision is None else _image(decision, prediction, model),
            parts.get(review.prediction_id, frozenset()),
        )
        for review, decision, prediction, model in rows
    )


def blind_images(session: Session, *, instance: str) -> frozenset[str]:
    """sha256 of what a Label Studio's blind projects hold, whenever it was said and whatever became of it since.

    These are the files of all reviews, deleted ones as well, whose inspectors did not see the model's answer, and all
    files that were predicted for the projects of such reviews, as they may be reviewed yet.
    """
    is_blind = ReviewRow.instance == instance, ReviewRow.model_output_shown.is_(False)
    sent = select(PredictionRow.prediction_id).where(
        PredictionRow.instance == instance,
        or_(
            PredictionRow.project_id.in_(select(ReviewRow.project_id).where(*is_blind)),
            PredictionRow.prediction_id.in_(select(ReviewRow.prediction_id).where(*is_blind)),
        ),
    )
    held: CompoundSelect[Any] = union(
        select(ReviewRow.decision_id).where(*is_blind),
        select(PredictionRow.decision_id).where(PredictionRow.prediction_id.in_(sent)),
        select(PredictionImageRow.decision_id).where(PredictionImageRow.prediction_id.in_(sent)),
    )
    return frozenset(session.scalars(select(DecisionRow.image_sha256).where(DecisionRow.decision_id.in_(held))))


def _parts(session: Session, instance: str) -> dict[UUID | None, frozenset[str]]:
    """The files of each prediction that is about several."""
    rows = session.execute(
        select(PredictionImageRow.prediction_id, DecisionRow.image_sha256)
        .join(DecisionRow, DecisionRow.decision_id == PredictionImageRow.decision_id)
        .join(PredictionRow, PredictionRow.prediction_id == PredictionImageRow.prediction_id)
        .where(PredictionRow.instance == instance)
    )
    found: dict[UUID | None, set[str]] = {}
    for prediction_id, sha256 in rows:
        found.setdefault(prediction_id, set()).add(sha256)
    return {prediction_id: frozenset(files) for prediction_id, files in found.items()}


def _image(decision: DecisionRow, prediction: PredictionRow | None, model: ModelVersionRow) -> JudgedImage:
    return JudgedImage(
        sha256=decision.image_sha256,
        size=(decision.image_height, decision.image_width),
        media_type=decision.image_media_type,
        address_sha256=prediction.image_address_sha256 if prediction is not None else None,
        part_serial=prediction.part_serial if prediction is not None else None,
        classes=tuple(model.classes),
        good_class=model.good_class,
    )


def _record(row: ReviewRow, image: JudgedImage | None, part: frozenset[str]) -> StandingReview:
    labels = row.labels_final
    if labels is None and row.label_final is not None:
        labels = [row.label_final]
    return StandingReview(
        review_id=row.review_id,
        project_id=row.project_id,
        task_id=row.task_id,
        annotation_id=row.annotation_id,
        outcome=cast("Outcome | None", row.outcome),
        labels=None if labels is None else tuple(labels),
        regions_final=row.regions_final or (),
        region_changes=row.region_changes or (),
        ground_truth=row.ground_truth,
        was_cancelled=row.was_cancelled,
        changed_at=row.annotation_updated_at or row.received_at,
        image=image,
        part=part,
    )
