"""The status put together: what the database counts, what the desk's models say, and advice beside each failure."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeAlias

from backend.model_loading import model_version_string
from backend.models_in_use import version_in_use
from backend.project_comparison import RECONCILE
from backend.reviews import WEBHOOK_JOB
from backend.status.report import (
    Agreement,
    Day,
    FailedJob,
    Failure,
    Failures,
    ModelInUse,
    Project,
    Queue,
    Status,
    Training,
)
from db import jobs, model_events, model_versions, status, trainings
from inspection_models.model_card import ModelError

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.orm import Session

    from backend.desk import Desk

logger = logging.getLogger(__name__)

_Used: TypeAlias = "dict[int | None, str]"
"""Versions in use, by the project that has one of its own; that of all others under None."""

DAYS = 14
SHOWN = 20
TRAININGS_SHOWN = 5


def gather(desk: Desk) -> Status:
    """How the desk stands now.

    Raises:
        DatabaseError: the database is away.
    """
    now = datetime.now(timezone.utc)
    problems = desk.problems()
    warnings = () if problems else desk.warnings()
    # Asked before the session below is opened: whoever holds a connection must not wait for another one.
    used = _in_use(desk)
    with desk.database.read() as session:
        return Status(
            at=now,
            software_version=desk.software_version,
            state="not ready" if problems else "degraded" if warnings else "ready",
            problems=[*problems, *warnings],
            label_studio=desk.settings.label_studio_url,
            database=desk.database.name,
            models=_models(used),
            queue=_queue(session),
            failures=_failures(session, desk.settings.label_studio_url, now),
            trainings=_trainings(session, desk.settings.label_studio_url),
            projects=_projects(session, desk.settings.label_studio_url, used, now),
        )


def _in_use(desk: Desk) -> _Used:
    """The versions in use; asking for them loads none."""
    with desk.database.read() as session:
        scopes = model_events.in_use(session)
    own = (scope.project_id for scope in scopes if scope.instance == desk.settings.label_studio_url)
    used: _Used = {}
    for number in (None, *sorted(number for number in own if number is not None)):
        try:
            used[number] = version_in_use(desk.settings, desk.database, number).model_version
        except ModelError:
            logger.info("no version is in use for %s", _scope(number))
    return used


def _models(used: _Used) -> list[ModelInUse]:
    return [ModelInUse(scope=_scope(number), model_version=version) for number, version in used.items()]


def _scope(number: int | None) -> str:
    return "the desk" if number is None else f"project {number}"


def _queue(session: Session) -> Queue:
    failed = [
        FailedJob(
            job_id=str(job.job_id),
            kind=job.kind,
            reason=job.error or "no reason was kept",
            attempts=job.attempts,
            failed_at=job.finished_at,
        )
        for job in jobs.failed(session, kind=WEBHOOK_JOB, limit=SHOWN)
    ]
    return Queue(**asdict(jobs.depth(session, kind=WEBHOOK_JOB)), failed_jobs=failed)


def _trainings(session: Session, instance: str) -> list[Training]:
    tried = {event.model_version_id for event in model_events.history(session)}
    found = []
    for one in trainings.newest(session, instance=instance, limit=TRAININGS_SHOWN):
        made = model_versions.find_by_fingerprint(session, one.fingerprint) if one.fingerprint is not None else None
        fields = {name: value for name, value in asdict(one).items() if name not in ("training_id", "instance")}
        version = model_version_string(made) if made is not None else None
        waits = made is not None and made.model_version_id not in tried
        found.append(Training(**fields, model_version=version, waits_at_the_gate=waits))
    return found


def _failures(session: Session, instance: str, now: datetime) -> Failures:
    count, newest = status.open_failures(session, instance=instance, since=now - timedelta(days=DAYS), limit=SHOWN)
    return Failures(count=count, newest=[_failure(one, instance) for one in newest])


def _failure(one: status.OpenFailure, instance: str) -> Failure:
    has_task = one.project_id is not None and one.task_id is not None
    return Failure(
        what=one.kind,
        project_id=one.project_id,
        task_id=one.task_id,
        task_url=f"{instance}/projects/{one.project_id}/data?task={one.task_id}" if has_task else None,
        reason=one.reason,
        what_to_do=_advice(one),
        occurred_at=one.occurred_at,
    )


def _advice(failure: status.OpenFailure) -> str:
    if failure.kind == "predict" and failure.project_id is not None:
        return f"mend what the reason names, then run `inspection predict --project {failure.project_id}`"
    if failure.kind == WEBHOOK_JOB:
        return "annotations may be missing from the record: run `inspection reconcile`"
    if failure.kind == RECONCILE:
        return "mend what the reason names; it is tried again by itself, and at once by `inspection reconcile`"
    if failure.kind == "predict" and failure.task_id is None:
        return "judge fewer tasks at a time, as `inspection predict` does, or raise INSPECTION_MAX_REQUEST_BYTES"
    return "`inspection doctor` looks for the cause"


def _projects(session: Session, instance: str, used: _Used, now: datetime) -> list[Project]:
    first_day = now.date() - timedelta(days=DAYS - 1)
    since = datetime(first_day.year, first_day.month, first_day.day, tzinfo=timezone.utc)
    work = status.projects(session, instance=instance)
    said = status.outcomes(session, instance=instance)
    by_day = status.reviews_by_day(session, instance=instance, since=since)
    return [
        _project(
            f"{instance}/projects/{number}/data",
            number,
            used.get(number, used.get(None)),
            work.get(number),
            said.get(number, {}),
            by_day.get(number, {}),
            first_day,
        )
        for number in sorted(work.keys() | said.keys())
    ]


def _project(
    url: str,
    number: int,
    version: str | None,
    work: status.ProjectCounts | None,
    said: dict[status.Kind, int],
    by_day: dict[date, int],
    first_day: date,
) -> Project:
    judging = {kind: count for kind, count in said.items() if kind.outcome is not None}
    of_used = {kind: count for kind, count in judging.items() if kind.model_version == version}
    outcomes = {kind.outcome: count for kind, count in of_used.items() if kind.outcome is not None and kind.was_shown}
    days = [first_day + timedelta(days=n) for n in range(DAYS)]
    return Project(
        project_id=number,
        url=url,
        model_version=version,
        judged=work.judged if work else 0,
        last_sent_at=work.last_sent_at if work else None,
        waiting=work.waiting if work else 0,
        waiting_for_review=work.waiting_for_review if work else 0,
        outcomes=outcomes,
        unpredicted=sum(said.values()) - sum(judging.values()),
        other_versions=sum(judging.values()) - sum(of_used.values()),
        blind=sum(count for kind, count in of_used.items() if kind.was_shown is False),
        perhaps_blind=sum(count for kind, count in of_used.items() if kind.was_shown is None),
        agreement=Agreement.of_outcomes(outcomes),
        reviews_by_day=[Day(day=day, reviews=by_day.get(day, 0)) for day in days],
    )
