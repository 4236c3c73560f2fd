"""Trainings from reviews that were asked for in Label Studio: how far each is, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from sqlalchemy import select, update

from db.schema import TrainingRow
from db.types import utc_now

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

TrainingState: TypeAlias = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        project_id: where it was asked for.
        doing: what it is at, `done` of `total` steps of that.
        told_at: when it was last heard of.
        reason: why it failed.
        fingerprint: of the version that came out.
        verdict: of the gate; None where it was not asked.
        report: the folder of the gate's report.
    """

    training_id: UUID
    instance: str
    project_id: int
    state: TrainingState
    doing: str
    done: int
    total: int
    asked_at: datetime
    told_at: datetime
    ended_at: datetime | None
    reason: str | None
    fingerprint: str | None
    verdict: str | None
    report: str | None


def ask(session: Session, training_id: UUID, *, instance: str, project_id: int) -> None:
    """Keep that a training was asked for. One that has not ended by now never will, as there is one at a time."""
    now = utc_now()
    lost = "its worker vanished without a word, time after time; see the desk's log"
    unended = (TrainingRow.instance == instance, TrainingRow.ended_at.is_(None))
    session.execute(update(TrainingRow).where(*unended).values(state="failed", ended_at=now, reason=lost))
    row = TrainingRow(
        training_id=training_id,
        instance=instance,
        project_id=project_id,
        state="waiting",
        doing="waiting for a worker",
        done=0,
        total=0,
        asked_at=now,
        told_at=now,
    )
    session.add(row)
    session.flush()


def tell(session: Session, training_id: UUID, doing: str, done: int = 0, total: int = 0) -> None:
    """Keep what a training is at; nothing where it has ended."""
    _update(session, training_id, state="running", doing=doing, done=done, total=total)


def finish(
    session: Session, training_id: UUID, fingerprint: str, *, verdict: str | None = None, report: str | None = None
) -> None:
    """Keep that a training is done, which version came out of it, and what the gate says of that."""
    ended = {"ended_at": utc_now(), "verdict": verdict, "report": report}
    _update(session, training_id, state="done", doing="done", fingerprint=fingerprint, **ended)


def fail(session: Session, training_id: UUID, reason: str) -> None:
    """Keep that a training failed, and why; what it was at stays."""
    _update(session, training_id, state="failed", ended_at=utc_now(), reason=reason)


def find(session: Session, training_id: UUID) -> Training | None:
    """A training by its id."""
    row = session.get(TrainingRow, training_id)
    return None if row is None else _record(row)


def newest(session: Session, *, instance: str, limit: int) -> tuple[Training, ...]:
    """The trainings asked for last, the newest first."""
    own = select(TrainingRow).where(TrainingRow.instance == instance)
    rows = session.scalars(own.order_by(TrainingRow.asked_at.desc(), TrainingRow.training_id.desc()).limit(limit))
    return tuple(_record(row) for row in rows)


def _update(session: Session, training_id: UUID, **values: object) -> None:
    own = (TrainingRow.training_id == training_id, TrainingRow.ended_at.is_(None))
    session.execute(update(TrainingRow).where(*own).values(told_at=utc_now(), **values))


def _record(row: TrainingRow) -> Training:
    return Training(
        training_id=row.training_id,
        instance=row.instance,
        project_id=row.project_id,
        state=cast("TrainingState", row.state),
        doing=row.doing,
        done=row.done,
        total=row.total,
        asked_at=row.asked_at,
        told_at=row.told_at,
        ended_at=row.ended_at,
        reason=row.reason,
        fingerprint=row.fingerprint,
        verdict=row.verdict,
        report=row.report,
    )
