"""Where model versions were read from, so that one known by its fingerprint can be read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from db.errors import UnknownModelVersionError
from db.inserting import insert_once
from db.schema import ModelLocationRow, ModelVersionRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def record(session: Session, fingerprint: str, directory: str) -> None:
    """Keep a directory of a registered version, unless it is known.

    Raises:
        UnknownModelVersionError: no version of this fingerprint is registered.
    """
    identifier = session.scalar(
        select(ModelVersionRow.model_version_id).where(ModelVersionRow.fingerprint == fingerprint)
    )
    if identifier is None:
        raise UnknownModelVersionError(f"no model version with fingerprint {fingerprint} is registered")
    known = select(ModelLocationRow).where(
        ModelLocationRow.model_version_id == identifier, ModelLocationRow.directory == directory
    )
    if session.scalar(known) is None:
        values = {"model_location_id": new_id(), "model_version_id": identifier, "directory": directory}
        insert_once(session, ModelLocationRow, {**values, "recorded_at": utc_now()})


def of(session: Session, fingerprint: str) -> tuple[str, ...]:
    """The directories that a version was read from, the one recorded last first."""
    rows = session.scalars(
        select(ModelLocationRow.directory)
        .join(ModelVersionRow, ModelVersionRow.model_version_id == ModelLocationRow.model_version_id)
        .where(ModelVersionRow.fingerprint == fingerprint)
        .order_by(ModelLocationRow.recorded_at.desc(), ModelLocationRow.model_location_id.desc())
    )
    return tuple(rows)
