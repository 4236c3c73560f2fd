"""When the recorded reviews were compared with what Label Studio has, what was found, and how far that came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from db.inserting import insert_once
from db.records import NewReconciliation, ReconciliationMark
from db.schema import ReconciliationMarkRow, ReconciliationRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from sqlalchemy.orm import Session


def record(session: Session, new: NewReconciliation) -> UUID:
    """Keep how a reconciliation ended, which is now."""
    # A clock that was set back meanwhile must not keep it from the record.
    finished = max(utc_now(), new.started_at)
    row = ReconciliationRow(reconciliation_id=new_id(), finished_at=finished, **vars(new))
    session.add(row)
    session.flush()
    return row.reconciliation_id


def mark(session: Session, *, instance: str, project_id: int) -> ReconciliationMark | None:
    """How far a project was compared; None where it never was."""
    row = session.get(ReconciliationMarkRow, (instance, project_id))
    return None if row is None else _mark(row)


def marks(session: Session, *, instance: str) -> tuple[ReconciliationMark, ...]:
    """How far each project was compared, by the projects' numbers."""
    own = select(ReconciliationMarkRow).where(ReconciliationMarkRow.instance == instance)
    return tuple(_mark(row) for row in session.scalars(own.order_by(ReconciliationMarkRow.project_id)))


def set_mark(session: Session, new: ReconciliationMark) -> None:
    """Say how far a project was compared, instead of what was said before."""
    own = (ReconciliationMarkRow.instance == new.instance, ReconciliationMarkRow.project_id == new.project_id)
    known = session.scalar(select(ReconciliationMarkRow.project_id).where(*own))
    if known is None and insert_once(session, ReconciliationMarkRow, vars(new)):
        return
    session.execute(update(ReconciliationMarkRow).where(*own).values(**vars(new)))


def forget_others(session: Session, *, instance: str, project_ids: Collection[int]) -> None:
    """Drop the marks of a Label Studio's other projects, which are compared no more."""
    others = delete(ReconciliationMarkRow).where(
        ReconciliationMarkRow.instance == instance, ReconciliationMarkRow.project_id.not_in(project_ids)
    )
    session.execute(others)


def _mark(row: ReconciliationMarkRow) -> ReconciliationMark:
    return ReconciliationMark(
        instance=row.instance,
        project_id=row.project_id,
        through=row.through,
        since=row.since,
        reached_at=row.reached_at,
        compared_at=row.compared_at,
        whole_at=row.whole_at,
        failed=row.failed,
        surplus=row.surplus,
    )
