"""What inspectors did with what was predicted. A later edit is a new review, beside the earlier one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import case, select
from sqlalchemy.orm import aliased

from db.inserting import insert_once
from db.records import Action, AnnotationState, FoundBy, NewReview, Outcome, Recorded, Review
from db.schema import ReviewRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from uuid import UUID

    from sqlalchemy import ColumnElement, UnaryExpression
    from sqlalchemy.orm import Session


def record(session: Session, new: NewReview) -> Recorded:
    """Keep a review, unless the same state of the same annotation was recorded before, by whatever way it came.

    Raises:
        ValueError: an instant has no time zone, or a JSON field has no canonical form.
    """
    key = new.key
    known = _find_id(session, key)
    if known is not None:
        return Recorded(known, is_new=False)
    review_id = new_id()
    values = {"review_id": review_id, "review_key": key, "received_at": utc_now(), **vars(new)}
    if insert_once(session, ReviewRow, values):
        return Recorded(review_id, is_new=True)
    return Recorded(session.scalars(select(ReviewRow.review_id).where(ReviewRow.review_key == key)).one(), is_new=False)


def find(session: Session, review_id: UUID) -> Review | None:
    """A review by its id."""
    row = session.get(ReviewRow, review_id)
    return None if row is None else _record(row)


def latest_for_annotation(session: Session, *, instance: str, annotation_id: int) -> Review | None:
    """The review that stands: a deletion if there is one, else the latest state by Label Studio's clock.

    Messages can arrive in any order, so the order of recording decides only between equal instants.
    """
    row = session.scalar(
        select(ReviewRow)
        .where(ReviewRow.instance == instance, ReviewRow.annotation_id == annotation_id)
        .order_by(*_that_stands_first())
        .limit(1)
    )
    return None if row is None else _record(row)


def states(session: Session, *, instance: str, annotation_ids: Collection[int]) -> dict[int, AnnotationState]:
    """What stands of each of these annotations, by its number; without those that no review is known of."""
    rows = session.execute(
        select(
            ReviewRow.annotation_id,
            ReviewRow.task_id,
            ReviewRow.action,
            ReviewRow.annotation_created_at,
            ReviewRow.annotation_updated_at,
            ReviewRow.result_sha256,
            ReviewRow.was_cancelled,
        )
        .where(ReviewRow.instance == instance, ReviewRow.annotation_id.in_(annotation_ids))
        .order_by(*_that_stands_first())
    )
    standing: dict[int, AnnotationState] = {}
    for row in rows:
        standing.setdefault(
            row.annotation_id,
            AnnotationState(
                annotation_id=row.annotation_id,
                task_id=row.task_id,
                action=row.action,
                annotation_created_at=row.annotation_created_at,
                annotation_updated_at=row.annotation_updated_at,
                result_sha256=row.result_sha256,
                was_cancelled=row.was_cancelled,
            ),
        )
    return standing


def present(
    session: Session, *, instance: str, project_id: int, task_ids: Collection[int] | None = None
) -> frozenset[int]:
    """Numbers of a project's annotations that no deletion is known of; of these tasks only, where they are given."""
    deletion = aliased(ReviewRow)
    gone = select(deletion.review_id).where(
        deletion.instance == instance,
        deletion.annotation_id == ReviewRow.annotation_id,
        deletion.action == "deleted",
    )
    known = select(ReviewRow.annotation_id).where(
        ReviewRow.instance == instance, ReviewRow.project_id == project_id, ~gone.exists()
    )
    if task_ids is not None:
        known = known.where(ReviewRow.task_id.in_(task_ids))
    return frozenset(session.scalars(known.distinct()))


def projects(session: Session, *, instance: str) -> tuple[int, ...]:
    """The numbers of a Label Studio's projects that anything was ever reviewed in."""
    found = select(ReviewRow.project_id).where(ReviewRow.instance == instance).distinct()
    return tuple(session.scalars(found.order_by(ReviewRow.project_id)))


def for_decision(session: Session, decision_id: UUID) -> tuple[Review, ...]:
    """All reviews of a decision, in the order they were recorded."""
    return _records(
        session.scalars(select(ReviewRow).where(ReviewRow.decision_id == decision_id).order_by(ReviewRow.review_id))
    )


def for_task(session: Session, *, instance: str, task_id: int) -> tuple[Review, ...]:
    """All reviews made on a task, in the order they were recorded."""
    return _records(
        session.scalars(
            select(ReviewRow)
            .where(ReviewRow.instance == instance, ReviewRow.task_id == task_id)
            .order_by(ReviewRow.review_id)
        )
    )


def _that_stands_first() -> tuple[ColumnElement[int] | UnaryExpression[Any], ...]:
    return (
        case((ReviewRow.action == "deleted", 0), else_=1),
        ReviewRow.annotation_updated_at.desc().nulls_last(),
        ReviewRow.received_at.desc(),
        ReviewRow.review_id.desc(),
    )


def _find_id(session: Session, key: str) -> UUID | None:
    return session.scalar(select(ReviewRow.review_id).where(ReviewRow.review_key == key))


def _records(rows: Iterable[ReviewRow]) -> tuple[Review, ...]:
    return tuple(_record(row) for row in rows)


def _record(row: ReviewRow) -> Review:
    return Review(
        review_id=row.review_id,
        review_key=row.review_key,
        decision_id=row.decision_id,
        prediction_id=row.prediction_id,
        instance=row.instance,
        project_id=row.project_id,
        task_id=row.task_id,
        annotation_id=row.annotation_id,
        action=cast("Action", row.action),
        outcome=cast("Outcome | None", row.outcome),
        label_predicted=row.label_predicted,
        label_final=row.label_final,
        labels_final=None if row.labels_final is None else tuple(row.labels_final),
        regions_final=row.regions_final,
        region_changes=row.region_changes,
        mean_iou=row.mean_iou,
        result_sha256=row.result_sha256,
        lead_time_s=row.lead_time_s,
        ground_truth=row.ground_truth,
        was_cancelled=row.was_cancelled,
        model_output_shown=row.model_output_shown,
        parent_prediction=row.parent_prediction,
        parent_annotation=row.parent_annotation,
        actor_id=row.actor_id,
        annotation_created_at=row.annotation_created_at,
        annotation_updated_at=row.annotation_updated_at,
        payload_sha256=row.payload_sha256,
        received_at=row.received_at,
        found_by=cast("FoundBy", row.found_by),
        reasons=None if row.reasons is None else tuple(row.reasons),
    )
