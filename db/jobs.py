"""The work queue: a job is handed out under a lease, and settled in the same unit of work as its effect.

A worker that dies leaves its lease to run out; another then gets the job. A worker that was only slow finds at the end
that the job is no longer its own, and its unit of work is undone. So the effect happens once:

    with database.write() as session:
        job = jobs.claim(session, owner=..., lease=...)
    ...  # compute, without holding a connection
    with database.write() as session:
        ...  # the effect
        jobs.complete(session, job)
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, text, update

from db import failures
from db.errors import LeaseLostError
from db.keys import sha256_hex
from db.records import FailedJob, Job, JobState, NewFailure, QueueDepth
from db.schema import JobRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

MAX_ATTEMPTS = 8
_FIRST_DELAY = timedelta(seconds=2)
_LONGEST_DELAY = timedelta(hours=1)
# Any fixed number: it lets those take turns that look for waiting work before they add some.
_ADVISORY_LOCK = 0x1A5BEC9


def enqueue(
    session: Session, kind: str, payload: Any, *, max_attempts: int = MAX_ATTEMPTS, run_after: datetime | None = None
) -> UUID:
    """Take in work.

    Args:
        kind: which handler it is for.
        payload: anything that the json module writes; unlike recorded JSON it may hold integers of any size.
        max_attempts: how often it is handed out before it counts as failed.
        run_after: not before this instant; at once if None.
    """
    written = json.dumps(payload, ensure_ascii=True, separators=(",", ":"))
    now = utc_now()
    row = JobRow(
        job_id=new_id(),
        kind=kind,
        payload=written,
        payload_sha256=sha256_hex(written),
        state="queued",
        attempts=0,
        max_attempts=max_attempts,
        run_after=run_after or now,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row.job_id


def enqueue_only(
    session: Session, kind: str, payload: Any, *, run_after: datetime | None = None, beside: Job | None = None
) -> UUID | None:
    """Take in work of a kind that is done by one worker at a time; None where some of it waits or is being done.

    It takes the place of such work that failed.

    Args:
        kind, payload, run_after: as `enqueue` takes them.
        beside: a job of that kind which is settled in this unit of work, and so is in nothing's way.
    """
    # On SQLite a writing unit of work already holds the one write lock.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    # First of all, as one that was started over at this instant is unsettled from then on.
    session.execute(delete(JobRow).where(JobRow.kind == kind, JobRow.state == "failed"))
    others = _unsettled(kind) if beside is None else _unsettled(kind).where(JobRow.job_id != beside.job_id)
    if session.scalar(others.limit(1)) is not None:
        return None
    return enqueue(session, kind, payload, run_after=run_after)


def hasten(session: Session, kind: str) -> None:
    """Let waiting work of a kind be due now, however long it was put off."""
    now = utc_now()
    waiting = (JobRow.kind == kind, JobRow.state == "queued", JobRow.run_after > now)
    session.execute(update(JobRow).where(*waiting).values(run_after=now))


def unsettled(session: Session, kind: str) -> frozenset[UUID]:
    """Ids of the jobs of a kind that wait or are being done."""
    return frozenset(session.scalars(_unsettled(kind)))


def claim(
    session: Session,
    *,
    owner: str,
    lease: timedelta,
    kinds: Collection[str] | None = None,
    now: datetime | None = None,
) -> Job | None:
    """Get the job that waits longest, for as long as the lease; None when nothing is due.

    Commit before working on it. A job whose last attempt ended without a word is settled as failed on the way.

    Args:
        owner: names the worker; unique among all that work at the same time.
        kinds: only these; all if None.
        now: the instant to judge by; this one if None.
    """
    now = now or utc_now()
    due = _due(now) if kinds is None else and_(_due(now), JobRow.kind.in_(kinds))
    # Each database has one way to keep two workers from one row: SQLite its single writer, PostgreSQL the row's lock.
    oldest = (
        select(JobRow)
        .where(due)
        .order_by(JobRow.run_after, JobRow.job_id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    while (row := session.scalar(oldest)) is not None:
        if row.attempts < row.max_attempts:
            row.state, row.attempts = "running", row.attempts + 1
            row.lease_owner, row.lease_expires_at = owner, now + lease
            session.flush()
            return _record(row)
        row.state, row.finished_at = "failed", now
        row.error = f"its worker vanished {row.attempts} times without a word; last seen: {row.lease_owner}"
        row.lease_owner = row.lease_expires_at = None
        failures.record(session, NewFailure(kind=row.kind, reason=row.error, detail=f"job {row.job_id}"))
        session.flush()
    return None


def renew(session: Session, job: Job, *, lease: timedelta, now: datetime | None = None) -> None:
    """Keep a job for longer.

    Raises:
        LeaseLostError: it is no longer this worker's.
    """
    _settle(session, job, lease_expires_at=(now or utc_now()) + lease)


def complete(session: Session, job: Job) -> None:
    """Settle a job as done, in the unit of work that holds its effect; of its payload only the hash stays.

    Raises:
        LeaseLostError: it is no longer this worker's; let the error undo the unit of work.
    """
    # What was done stands in the record; its message, which names a person by number, need not be kept beside it.
    _settle(
        session,
        job,
        state="done",
        payload="null",
        lease_owner=None,
        lease_expires_at=None,
        error=None,
        finished_at=utc_now(),
    )


def fail(session: Session, job: Job, error: str, *, retry: bool = True, now: datetime | None = None) -> JobState:
    """Give a job back with the reason why it could not be done.

    It waits longer after each attempt: 2 s, 4 s, 8 s and so on up to an hour. It is kept as failed when its attempts
    are used up, or at once where trying again is pointless (`retry=False`).

    Raises:
        LeaseLostError: it is no longer this worker's.
    """
    now = now or utc_now()
    if not retry or job.attempts >= job.max_attempts:
        _settle(session, job, state="failed", lease_owner=None, lease_expires_at=None, error=error, finished_at=now)
        return "failed"
    _settle(
        session,
        job,
        state="queued",
        lease_owner=None,
        lease_expires_at=None,
        error=error,
        run_after=now + delay(job.attempts),
    )
    return "queued"


def delay(attempts: int) -> timedelta:
    """How long a job waits after its n-th failed attempt, n from 1."""
    doublings = min(attempts - 1, 30)
    return min(_FIRST_DELAY * (1 << doublings), _LONGEST_DELAY)


def requeue_failed(session: Session, kind: str) -> int:
    """Let all failed jobs of a kind be tried as often again; how many there were.

    Their attempts are counted on, so that no two leases of a job are ever alike.
    """
    requeued = session.execute(
        update(JobRow)
        .where(JobRow.kind == kind, JobRow.state == "failed")
        .values(state="queued", max_attempts=JobRow.attempts + MAX_ATTEMPTS, run_after=utc_now(), finished_at=None)
        .returning(JobRow.job_id)
    )
    return len(requeued.all())


def withdraw(session: Session, job_id: UUID) -> None:
    """Take back work that is needed no more, if it is there still."""
    session.execute(delete(JobRow).where(JobRow.job_id == job_id))


def find(session: Session, job_id: UUID) -> Job | None:
    """A job by its id."""
    row = session.get(JobRow, job_id)
    return None if row is None else _record(row)


def failed(session: Session, *, kind: str, limit: int) -> tuple[FailedJob, ...]:
    """Failed jobs of a kind, the newest first."""
    rows = session.execute(
        select(JobRow.job_id, JobRow.kind, JobRow.error, JobRow.attempts, JobRow.finished_at)
        .where(JobRow.kind == kind, JobRow.state == "failed")
        .order_by(JobRow.finished_at.desc())
        .limit(limit)
    )
    return tuple(FailedJob(*row) for row in rows)


def depth(session: Session, *, kind: str) -> QueueDepth:
    """How the queue stands for one kind of work."""
    of_kind = JobRow.kind == kind
    rows = session.execute(select(JobRow.state, func.count()).where(of_kind).group_by(JobRow.state))
    counts = {row[0]: row[1] for row in rows}
    is_unsettled = JobRow.state.in_(("queued", "running"))
    due = select(func.min(JobRow.created_at)).where(of_kind, is_unsettled, JobRow.run_after <= utc_now())
    return QueueDepth(
        queued=counts.get("queued", 0),
        running=counts.get("running", 0),
        done=counts.get("done", 0),
        failed=counts.get("failed", 0),
        oldest_waiting_since=session.scalar(due),
    )


def purge(session: Session, *, before: datetime, limit: int) -> int:
    """Remove jobs that were done before an instant, at most so many; how many. Failed ones stay."""
    done = select(JobRow.job_id).where(JobRow.state == "done", JobRow.finished_at < before).limit(limit)
    gone = session.execute(delete(JobRow).where(JobRow.job_id.in_(done)).returning(JobRow.job_id))
    return len(gone.all())


def _unsettled(kind: str) -> Select[UUID]:
    return select(JobRow.job_id).where(JobRow.kind == kind, JobRow.state.in_(("queued", "running")))


def _due(now: datetime) -> ColumnElement[bool]:
    waiting = and_(JobRow.state == "queued", JobRow.run_after <= now)
    abandoned = and_(JobRow.state == "running", JobRow.lease_expires_at <= now)
    return or_(waiting, abandoned)


def _settle(session: Session, job: Job, **values: Any) -> None:
    # The attempt's number tells this lease from every other.
    settled = session.execute(
        update(JobRow)
        .where(
            JobRow.job_id == job.job_id,
            JobRow.state == "running",
            JobRow.attempts == job.attempts,
        )
        .values(**values)
        .returning(JobRow.job_id)
    )
    if settled.first() is None:
        raise LeaseLostError(
            f"job {job.job_id} ({job.kind}) is no longer {job.lease_owner}'s: its lease ran out at "
            f"{job.lease_expires_at} and it was handed out again or settled; drop this result"
        )


def _record(row: JobRow) -> Job:
    return Job(
        job_id=row.job_id,
        kind=row.kind,
        payload=json.loads(row.payload),
        payload_sha256=row.payload_sha256,
        state=cast("JobState", row.state),
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        lease_owner=row.lease_owner,
        lease_expires_at=row.lease_expires_at,
        run_after=row.run_after,
        error=row.error,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
