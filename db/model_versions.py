"""The registry of model versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, select

from db.errors import ModelVersionConflictError
from db.inserting import insert_once
from db.records import ModelVersion, NewModelVersion, Recorded
from db.schema import ModelVersionRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session


def register(session: Session, new: NewModelVersion) -> Recorded:
    """Keep a model version unless its fingerprint is known; then the first registration stands.

    Raises:
        ModelVersionConflictError: name and version stand for another fingerprint.
    """
    known = find_by_fingerprint(session, new.fingerprint)
    if known is not None:
        return Recorded(known.model_version_id, is_new=False)
    _refuse_taken_name(session, new)
    identifier = new_id()
    if insert_once(session, ModelVersionRow, {"model_version_id": identifier, "created_at": utc_now(), **vars(new)}):
        return Recorded(identifier, is_new=True)
    known = find_by_fingerprint(session, new.fingerprint)
    if known is None:
        raise _conflict(new)
    return Recorded(known.model_version_id, is_new=False)


def find(session: Session, model_version_id: UUID) -> ModelVersion | None:
    """A model version by its id."""
    row = session.get(ModelVersionRow, model_version_id)
    return None if row is None else _record(row)


def find_by_fingerprint(session: Session, fingerprint: str) -> ModelVersion | None:
    """A model version by its fingerprint."""
    row = session.scalar(select(ModelVersionRow).where(ModelVersionRow.fingerprint == fingerprint))
    return None if row is None else _record(row)


def everything(session: Session) -> tuple[ModelVersion, ...]:
    """All model versions, the oldest first."""
    rows = session.scalars(select(ModelVersionRow).order_by(ModelVersionRow.model_version_id))
    return tuple(_record(row) for row in rows)


def _refuse_taken_name(session: Session, new: NewModelVersion) -> None:
    same_name = and_(ModelVersionRow.name == new.name, ModelVersionRow.version == new.version)
    if session.scalar(select(ModelVersionRow.model_version_id).where(same_name)) is not None:
        raise _conflict(new)


def _conflict(new: NewModelVersion) -> ModelVersionConflictError:
    return ModelVersionConflictError(
        f"model {new.name!r} version {new.version!r} is registered with other content; give this one another version"
    )


def _record(row: ModelVersionRow) -> ModelVersion:
    return ModelVersion(
        model_version_id=row.model_version_id,
        name=row.name,
        version=row.version,
        architecture=row.architecture,
        weights_sha256=row.weights_sha256,
        fingerprint=row.fingerprint,
        classes=tuple(row.classes),
        good_class=row.good_class,
        preprocessing=row.preprocessing,
        calibration=row.calibration,
        thresholds=row.thresholds,
        explanation=row.explanation,
        training=row.training,
        metrics=row.metrics,
        created_at=row.created_at,
        card=row.card,
    )
