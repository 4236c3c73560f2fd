"""How things stand, counted by the database: what failed and is not mended, and each project's reviews."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.orm import aliased

from db.schema import DecisionRow, FailureRow, ModelVersionRow, PredictionRow, ReconciliationMarkRow, ReviewRow
from db.standing import standing_reviews

if TYPE_CHECKING:
    from sqlalchemy import Select, Subquery
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class ProjectCounts:
    """A project's work, by number of tasks.

    Attributes:
        judged: tasks that a prediction was sent for.
        waiting: of those, the ones without a review that stands and says anything: not skipped. Tasks deleted in Label
            Studio are among them, as the record does not know them from those whose annotation alone was deleted.
        waiting_for_review: of the waiting, the ones that the model left to a person.
        last_sent_at: when the last prediction was sent.
    """

    judged: int
    waiting: int
    waiting_for_review: int
    last_sent_at: datetime


@dataclass(frozen=True)
class Kind:
    """What reviews are counted by.

    Attributes:
        model_version: that of the prediction which was judged; None where nothing was predicted.
        outcome: None where nothing was predicted.
        was_shown: whether the inspector saw the model's answer; None where that is not known.
    """

    model_version: str | None
    outcome: str | None
    was_shown: bool | None


@dataclass(frozen=True)
class OpenFailure:
    """Something that failed and is not mended, told once where it came again.

    A task is mended by a later prediction, a model by a later one under its version, a labeling configuration by one in
    its project. Of reconciling, what names a
    project is mended once that was compared since and agrees, and what names none once any was. A refused webhook is
    mended once all projects have been compared since and agree. Failed webhooks in the queue are told of there.
    """

    kind: str
    project_id: int | None
    task_id: int | None
    reason: str
    occurred_at: datetime


def open_failures(
    session: Session, *, instance: str, since: datetime, limit: int
) -> tuple[int, tuple[OpenFailure, ...]]:
    """How many failures since an instant are not mended, and the newest of them."""
    later, sent, compared = aliased(FailureRow), aliased(PredictionRow), _compared(instance)
    came_again = select(later.failure_id).where(
        later.instance == FailureRow.instance,
        later.task_id == FailureRow.task_id,
        later.kind == FailureRow.kind,
        later.failure_id != FailureRow.failure_id,
        # Identifiers sort by their time of making, so of two failures at one instant one is the later.
        (later.occurred_at > FailureRow.occurred_at)
        | ((later.occurred_at == FailureRow.occurred_at) & (later.failure_id > FailureRow.failure_id)),
    )
    is_later = compared.c.compared_at > FailureRow.occurred_at
    was_compared = select(compared.c.project_id).where(
        FailureRow.kind == "reconcile",
        is_later,
        FailureRow.project_id.is_(None) | ((compared.c.project_id == FailureRow.project_id) & (compared.c.failed == 0)),
    )
    were_all_compared = and_(
        FailureRow.kind == "webhook",
        select(compared.c.project_id).where(is_later).exists(),
        ~select(compared.c.project_id).where(~is_later | (compared.c.failed > 0)).exists(),
    )
    was_loaded = (
        select(sent.prediction_id)
        .join(DecisionRow, DecisionRow.decision_id == sent.decision_id)
        .join(ModelVersionRow, ModelVersionRow.model_version_id == DecisionRow.model_version_id)
        .where(
            FailureRow.kind == "model",
            ModelVersionRow.fingerprint == FailureRow.detail,
            sent.instance == FailureRow.instance,
            sent.sent_at > FailureRow.occurred_at,
        )
    )
    was_answered = select(sent.prediction_id).where(
        FailureRow.kind == "predict",
        sent.instance == FailureRow.instance,
        sent.task_id == FailureRow.task_id,
        sent.sent_at > FailureRow.occurred_at,
    )
    was_read = select(sent.prediction_id).where(
        FailureRow.kind == "labeling configuration",
        sent.instance == FailureRow.instance,
        sent.project_id == FailureRow.project_id,
        sent.sent_at > FailureRow.occurred_at,
    )
    is_open = and_(
        FailureRow.occurred_at >= since,
        (FailureRow.instance == instance) | FailureRow.instance.is_(None),
        # As the queue's worker notes them.
        ~((FailureRow.kind == "webhook") & func.coalesce(FailureRow.detail, "").like("job %")),
        ~came_again.exists(),
        ~was_answered.exists(),
        ~was_read.exists(),
        ~was_loaded.exists(),
        ~was_compared.exists(),
        ~were_all_compared,
    )
    count = session.scalar(select(func.count()).select_from(FailureRow).where(is_open)) or 0
    rows = session.execute(
        select(FailureRow.kind, FailureRow.project_id, FailureRow.task_id, FailureRow.reason, FailureRow.occurred_at)
        .where(is_open)
        .order_by(FailureRow.occurred_at.desc(), FailureRow.failure_id.desc())
        .limit(limit)
    )
    return count, tuple(OpenFailure(*row) for row in rows)


def projects(session: Session, *, instance: str) -> dict[int, ProjectCounts]:
    """The work of each project that a prediction was sent to, by its number."""
    last = _last_sent(instance)
    standing = _standing(instance)
    # Neither database foresees how many rows these have, and a join may compare each with each; a list is looked up.
    is_waiting = last.c.task_id.not_in(
        select(standing.c.task_id).where(standing.c.task_id.is_not(None), standing.c.was_cancelled.is_(False))
    )
    rows = session.execute(
        select(
            last.c.project_id,
            func.count(),
            _how_many(is_waiting),
            _how_many(is_waiting & (DecisionRow.verdict == "review")),
            func.max(last.c.sent_at),
        )
        .join(DecisionRow, DecisionRow.decision_id == last.c.decision_id)
        .group_by(last.c.project_id)
    )
    return {row[0]: ProjectCounts(*row[1:]) for row in rows}


def outcomes(session: Session, *, instance: str) -> dict[int, dict[Kind, int]]:
    """Reviews that stand, by project and then by kind."""
    standing = _standing(instance)
    kind = (PredictionRow.model_version, standing.c.outcome, standing.c.model_output_shown)
    rows = session.execute(
        select(standing.c.project_id, *kind, func.count())
        .outerjoin(PredictionRow, PredictionRow.prediction_id == standing.c.prediction_id)
        .group_by(standing.c.project_id, *kind)
    )
    found: dict[int, dict[Kind, int]] = {}
    for project_id, version, outcome, was_shown, count in rows:
        found.setdefault(project_id, {})[Kind(version, outcome, was_shown)] = count
    return found


def reviews_by_day(session: Session, *, instance: str, since: datetime) -> dict[int, dict[date, int]]:
    """Reviews that stand, by project and the day in UTC on which their annotation was made."""
    standing = _standing(instance)
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    day = func.date(func.timezone("UTC", standing.c.made_at) if is_postgresql else standing.c.made_at)
    rows = session.execute(
        select(standing.c.project_id, day, func.count())
        .where(standing.c.made_at >= since)
        .group_by(standing.c.project_id, day)
    )
    found: dict[int, dict[date, int]] = {}
    for project_id, made_on, count in rows:
        found.setdefault(project_id, {})[_as_date(made_on)] = count
    return found


def _compared(instance: str) -> Subquery:
    """When each project was last compared with Label Studio, and how much did not agree."""
    marks = select(ReconciliationMarkRow.project_id, ReconciliationMarkRow.compared_at, ReconciliationMarkRow.failed)
    return marks.where(ReconciliationMarkRow.instance == instance).subquery()


def _last_sent(instance: str) -> Subquery:
    """The last prediction of each task."""
    place = func.row_number().over(
        partition_by=PredictionRow.task_id,
        order_by=(PredictionRow.sent_at.desc(), PredictionRow.prediction_id.desc()),
    )
    ranked = (
        select(
            PredictionRow.project_id,
            PredictionRow.task_id,
            PredictionRow.decision_id,
            PredictionRow.sent_at,
            place.label("place"),
        )
        .where(PredictionRow.instance == instance)
        .subquery()
    )
    return _first(ranked).subquery()


def _standing(instance: str) -> Subquery:
    return standing_reviews(
        instance,
        ReviewRow.project_id,
        ReviewRow.task_id,
        ReviewRow.outcome,
        func.coalesce(ReviewRow.annotation_created_at, ReviewRow.received_at).label("made_at"),
        ReviewRow.prediction_id,
        ReviewRow.model_output_shown,
        ReviewRow.was_cancelled,
    )


def _first(ranked: Subquery) -> Select[Any]:
    return select(*(column for column in ranked.c if column.name != "place")).where(ranked.c.place == 1)


def _how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _as_date(value: date | str) -> date:
    # SQLite has no type for days.
    return date.fromisoformat(value) if isinstance(value, str) else value
