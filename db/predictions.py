"""What was sent for which task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, select, union_all

from db.keys import canonical_sha256
from db.records import NewPrediction, PredictedImage, Prediction, Recorded
from db.redaction import redact_uri
from db.schema import DecisionRow, PredictionImageRow, PredictionRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Subquery
    from sqlalchemy.orm import Session


def record(session: Session, new: NewPrediction) -> Recorded:
    """Keep what is sent for a task, unless the very same was sent for it last.

    Raises:
        CanonicalJsonError: the result is no JSON.
    """
    result_sha256 = canonical_sha256(new.result)
    last = latest_for_task(session, instance=new.instance, task_id=new.task_id)
    if last is not None and _told(last, last.result_sha256) == _told(new, result_sha256):
        return Recorded(last.prediction_id, is_new=False)
    row = PredictionRow(
        prediction_id=new_id(),
        decision_id=new.decision_id,
        instance=new.instance,
        project_id=new.project_id,
        task_id=new.task_id,
        image_uri=None if new.image_uri is None else redact_uri(new.image_uri),
        image_address_sha256=new.image_address_sha256,
        part_serial=new.part_serial,
        lot=new.lot,
        station=new.station,
        label_config_sha256=new.label_config_sha256,
        model_version=new.model_version,
        result=new.result,
        result_sha256=result_sha256,
        sent_at=utc_now(),
    )
    session.add(row)
    session.flush()
    for position, image in enumerate(new.images, start=1):
        session.add(
            PredictionImageRow(
                prediction_id=row.prediction_id,
                position=position,
                name=image.name,
                decision_id=image.decision_id,
                image_uri=None if image.image_uri is None else redact_uri(image.image_uri),
                image_address_sha256=image.image_address_sha256,
            )
        )
    session.flush()
    return Recorded(row.prediction_id, is_new=True)


def find(session: Session, prediction_id: UUID) -> Prediction | None:
    """A prediction by its id."""
    row = session.get(PredictionRow, prediction_id)
    return None if row is None else _record(session, row)


def latest_for_task(
    session: Session,
    *,
    instance: str,
    task_id: int,
    before: datetime | None = None,
    model_version: str | None = None,
    result_sha256: str | None = None,
) -> Prediction | None:
    """What was last sent for a task: at all, before an instant, under a model version, or with a certain result."""
    statement = select(PredictionRow).where(PredictionRow.instance == instance, PredictionRow.task_id == task_id)
    if before is not None:
        statement = statement.where(PredictionRow.sent_at < before)
    if model_version is not None:
        statement = statement.where(PredictionRow.model_version == model_version)
    if result_sha256 is not None:
        statement = statement.where(PredictionRow.result_sha256 == result_sha256)
    row = session.scalar(statement.order_by(PredictionRow.sent_at.desc(), PredictionRow.prediction_id.desc()).limit(1))
    return None if row is None else _record(session, row)


def latest_for_image(
    session: Session, *, instance: str, project_id: int, image_sha256: str, model_version: str | None = None
) -> tuple[Prediction, UUID] | None:
    """What was last sent in a project on the strength of a decision on this very image file, and that decision.

    Where a model version is named, what was sent under it comes before what was sent under others.
    """
    shown = _shown()
    found = session.execute(
        select(PredictionRow, shown.c.decision_id)
        .join(shown, shown.c.prediction_id == PredictionRow.prediction_id)
        .join(DecisionRow, DecisionRow.decision_id == shown.c.decision_id)
        .where(
            DecisionRow.image_sha256 == image_sha256,
            PredictionRow.instance == instance,
            PredictionRow.project_id == project_id,
        )
        .order_by(
            case((PredictionRow.model_version == model_version, 0), else_=1),
            PredictionRow.sent_at.desc(),
            PredictionRow.prediction_id.desc(),
        )
        .limit(1)
    ).first()
    return None if found is None else (_record(session, found[0]), found[1])


def latest_for_address(
    session: Session, *, instance: str, project_id: int, image_address_sha256: str
) -> Prediction | None:
    """What was last sent in a project for an image at this very address."""
    shown = _shown()
    row = session.scalar(
        select(PredictionRow)
        .join(shown, shown.c.prediction_id == PredictionRow.prediction_id)
        .where(
            PredictionRow.instance == instance,
            PredictionRow.project_id == project_id,
            shown.c.image_address_sha256 == image_address_sha256,
        )
        .order_by(PredictionRow.sent_at.desc(), PredictionRow.prediction_id.desc())
        .limit(1)
    )
    return None if row is None else _record(session, row)


def projects(session: Session, *, instance: str) -> tuple[int, ...]:
    """The numbers of a Label Studio's projects that anything was ever sent to."""
    found = select(PredictionRow.project_id).where(PredictionRow.instance == instance).distinct()
    return tuple(session.scalars(found.order_by(PredictionRow.project_id)))


def for_part(session: Session, part_serial: str) -> tuple[Prediction, ...]:
    """All predictions for one part, the oldest first."""
    rows = session.scalars(
        select(PredictionRow).where(PredictionRow.part_serial == part_serial).order_by(PredictionRow.prediction_id)
    )
    return tuple(_record(session, row) for row in rows.all())


def _told(prediction: NewPrediction, result_sha256: str) -> tuple[object, ...]:
    return (
        prediction.decision_id,
        prediction.project_id,
        prediction.label_config_sha256,
        prediction.model_version,
        prediction.part_serial,
        prediction.lot,
        prediction.station,
        prediction.image_address_sha256,
        tuple((image.name, image.decision_id, image.image_address_sha256) for image in prediction.images),
        result_sha256,
    )


def _shown() -> Subquery:
    """Every image that a prediction is about, one row each, with the decision on it."""
    columns = ("prediction_id", "decision_id", "image_address_sha256")
    return union_all(
        *(select(*(getattr(row, name) for name in columns)) for row in (PredictionRow, PredictionImageRow))
    ).subquery()


def _images(session: Session, prediction_id: UUID) -> tuple[PredictedImage, ...]:
    rows = session.scalars(
        select(PredictionImageRow)
        .where(PredictionImageRow.prediction_id == prediction_id)
        .order_by(PredictionImageRow.position)
    )
    return tuple(
        PredictedImage(
            name=row.name,
            decision_id=row.decision_id,
            image_uri=row.image_uri,
            image_address_sha256=row.image_address_sha256,
        )
        for row in rows
    )


def _record(session: Session, row: PredictionRow) -> Prediction:
    return Prediction(
        prediction_id=row.prediction_id,
        decision_id=row.decision_id,
        instance=row.instance,
        project_id=row.project_id,
        task_id=row.task_id,
        image_uri=row.image_uri,
        image_address_sha256=row.image_address_sha256,
        part_serial=row.part_serial,
        lot=row.lot,
        station=row.station,
        label_config_sha256=row.label_config_sha256,
        model_version=row.model_version,
        result=row.result,
        result_sha256=row.result_sha256,
        sent_at=row.sent_at,
        images=_images(session, row.prediction_id),
    )
