"""What was asked for and could not be done. Label Studio hides a backend's errors; here they stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from db.records import Failure, NewFailure
from db.redaction import redact_uri
from db.schema import FailureRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session


# A reason may repeat what came from outside; a person reads the beginning.
_LONGEST = 4000


def record(session: Session, new: NewFailure) -> UUID:
    """Keep a failure; of a reason or an address of thousands of characters the beginning."""
    row = FailureRow(
        failure_id=new_id(),
        kind=new.kind,
        instance=new.instance,
        project_id=new.project_id,
        task_id=new.task_id,
        image_uri=None if new.image_uri is None else redact_uri(new.image_uri)[:_LONGEST],
        reason=new.reason[:_LONGEST],
        detail=new.detail,
        occurred_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row.failure_id


def record_news(session: Session, new: NewFailure, *, since: datetime) -> bool:
    """Keep a failure unless the very same was kept after an instant; False where it was.

    For what is tried again and again, and would fill the table.
    """
    known = select(FailureRow.failure_id).where(
        FailureRow.occurred_at > since,
        FailureRow.kind == new.kind,
        FailureRow.instance.is_not_distinct_from(new.instance),
        FailureRow.project_id.is_not_distinct_from(new.project_id),
        FailureRow.task_id.is_not_distinct_from(new.task_id),
        FailureRow.reason == new.reason,
    )
    if session.scalar(known.limit(1)) is not None:
        return False
    record(session, new)
    return True


def latest_of_task(session: Session, *, instance: str, task_id: int, since: datetime, kind: str) -> Failure | None:
    """How a task last failed at or after an instant; None where it did not."""
    statement = select(FailureRow).where(
        FailureRow.instance == instance,
        FailureRow.task_id == task_id,
        FailureRow.kind == kind,
        FailureRow.occurred_at >= since,
    )
    newest = statement.order_by(FailureRow.occurred_at.desc(), FailureRow.failure_id.desc()).limit(1)
    row = session.scalar(newest)
    return None if row is None else _failure(row)


def recent(
    session: Session, *, kind: str | None = None, instance: str | None = None, limit: int = 100
) -> tuple[Failure, ...]:
    """The latest failures, the newest first; of one kind or of all, of one Label Studio or of all."""
    statement = select(FailureRow).order_by(FailureRow.occurred_at.desc(), FailureRow.failure_id.desc()).limit(limit)
    if kind is not None:
        statement = statement.where(FailureRow.kind == kind)
    if instance is not None:
        statement = statement.where(FailureRow.instance == instance)
    return tuple(_failure(row) for row in session.scalars(statement))


def _failure(row: FailureRow) -> Failure:
    return Failure(
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
