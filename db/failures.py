"""What was asked for and could not be done. Label Studio hides a backend's errors; here they stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from db.records import Failure, NewFailure
from db.redaction import redact_uri
from db.schema import FailureRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session


def record(session: Session, new: NewFailure) -> UUID:
    """Keep a failure."""
    row = FailureRow(
        failure_id=new_id(),
        kind=new.kind,
        instance=new.instance,
        project_id=new.project_id,
        task_id=new.task_id,
        image_uri=None if new.image_uri is None else redact_uri(new.image_uri),
        reason=new.reason,
        detail=new.detail,
        occurred_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row.failure_id


def recent(session: Session, *, kind: str | None = None, limit: int = 100) -> tuple[Failure, ...]:
    """The latest failures, the newest first; of one kind or of all."""
    statement = select(FailureRow).order_by(FailureRow.occurred_at.desc(), FailureRow.failure_id.desc()).limit(limit)
    if kind is not None:
        statement = statement.where(FailureRow.kind == kind)
    return tuple(
        Failure(
            failure_id=row.failure_id,
            kind=row.kind,
            instance=row.instance,
            project_id=row.project_id,
            task_id=row.task_id,
            image_uri=row.image_uri,
            reason=row.reason,
            detail=row.detail,
            occurred_at=row.occurred_at,
        )
        for row in session.scalars(statement)
    )
