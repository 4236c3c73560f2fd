"""What the status page counts, against the same counted one by one."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert

from db import decisions, failures, model_versions, predictions, reconciliations, reviews, status
from db.engine import Database
from db.records import NewFailure
from db.schema import FailureRow, PredictionRow, ReviewRow
from db.status import Kind
from db.types import new_id, utc_now
from tests.db import samples, steps

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def decided(database: Database) -> UUID:
    with database.write() as session:
        model_versions.register(session, samples.model())
        return decisions.record(session, samples.decision()).id


@pytest.fixture
def left_open(database: Database, decided: UUID) -> UUID:
    with database.write() as session:
        return decisions.record(session, samples.decision("doubtful", verdict="review")).id


def counted(database: Database, what: Any, **options: Any) -> Any:
    with database.read() as session:
        return what(session, instance=samples.INSTANCE, **options)


def send(database: Database, decision_id: UUID, task: int, **changes: Any) -> None:
    with database.write() as session:
        predictions.record(session, samples.prediction(decision_id, task_id=task, **changes))


def judge(database: Database, task: int, **changes: Any) -> None:
    changes = {"annotation_id": 1000 + task, "task_id": task, **changes}
    with database.write() as session:
        reviews.record(session, samples.review(**changes))


def test_waiting_tasks_are_those_without_a_review_that_stands(
    database: Database, decided: UUID, left_open: UUID
) -> None:
    for task, decision in ((1, decided), (2, decided), (3, left_open), (4, left_open), (5, decided)):
        send(database, decision, task)
    send(database, left_open, 5, model_version="steel 2")
    send(database, decided, 9, project_id=8)
    send(database, decided, 9, instance="http://elsewhere")
    judge(database, 1)
    judge(database, 3)
    judge(database, 2)
    judge(database, 2, action="deleted", outcome=None)
    judge(database, 4, outcome="skipped", was_cancelled=True)
    judge(database, 5, annotation_id=1, outcome="skipped", was_cancelled=True)
    judge(database, 5, annotation_id=2)
    found = counted(database, status.projects)
    assert {number: (one.judged, one.waiting, one.waiting_for_review) for number, one in found.items()} == {
        3: (5, 2, 1),
        8: (1, 1, 0),
    }
    assert utc_now() - found[3].last_sent_at < timedelta(minutes=10)


def test_only_the_state_of_an_annotation_that_stands_has_an_outcome(database: Database, decided: UUID) -> None:
    later, earlier = samples.NOON + timedelta(minutes=1), samples.NOON - timedelta(minutes=1)
    judge(database, 1, outcome="accepted", model_output_shown=True)
    judge(database, 1, outcome="rejected", model_output_shown=True, action="updated", annotation_updated_at=later)
    judge(database, 1, outcome="adjusted", action="updated", annotation_updated_at=earlier)
    judge(database, 2, outcome="accepted", model_output_shown=False)
    judge(database, 3, outcome="accepted")
    judge(database, 4, outcome="accepted")
    judge(database, 5, outcome=None)
    judge(database, 6, outcome="missed", model_output_shown=True, project_id=8)
    assert counted(database, status.outcomes) == {
        3: {
            Kind(None, "rejected", True): 1,
            Kind(None, "accepted", False): 1,
            Kind(None, "accepted", None): 2,
            Kind(None, None, None): 1,
        },
        8: {Kind(None, "missed", True): 1},
    }


def test_outcomes_are_of_the_version_that_was_judged(database: Database, decided: UUID) -> None:
    sent = {}
    for version in ("steel 1", "steel 2"):
        with database.write() as session:
            sent[version] = predictions.record(session, samples.prediction(decided, model_version=version)).id
    for number, version in enumerate(("steel 1", "steel 2", "steel 2")):
        judge(database, number, decision_id=decided, prediction_id=sent[version])
    assert counted(database, status.outcomes) == {
        3: {Kind("steel 1", "accepted", None): 1, Kind("steel 2", "accepted", None): 2}
    }


def test_days_are_those_of_utc(database: Database) -> None:
    east = timezone(timedelta(hours=9))
    judge(database, 1, annotation_created_at=datetime(2026, 5, 4, 8, 0, tzinfo=east))
    judge(database, 2, annotation_created_at=datetime(2026, 5, 4, 9, 0, tzinfo=east))
    judge(database, 3, annotation_created_at=datetime(2026, 5, 1, 23, 59, tzinfo=timezone.utc))
    since = datetime(2026, 5, 2, tzinfo=timezone.utc)
    assert counted(database, status.reviews_by_day, since=since) == {3: {date(2026, 5, 3): 1, date(2026, 5, 4): 1}}


def test_a_failure_is_open_until_the_task_is_answered(database: Database, decided: UUID) -> None:
    def fail(task: int | None, reason: str, **changes: Any) -> None:
        new = NewFailure(
            **{"kind": "predict", "reason": reason, "instance": samples.INSTANCE, "task_id": task, **changes}
        )
        with database.write() as session:
            failures.record(session, new)

    fail(1, "mended")
    send(database, decided, 1)
    fail(2, "first")
    fail(2, "second")
    send(database, decided, 3)
    fail(3, "failed after its answer")
    fail(None, "a model", kind="model")
    fail(None, "a job", kind="webhook", instance=None, detail=f"job {decided}")
    fail(None, "a request", kind="webhook")
    fail(4, "of another desk", instance="http://elsewhere")
    count, newest = counted(database, status.open_failures, since=LONG_AGO, limit=3)
    assert count == 4
    assert [one.reason for one in newest] == ["a request", "a model", "failed after its answer"]
    assert counted(database, status.open_failures, since=utc_now() + timedelta(minutes=1), limit=3) == (0, ())


def compare(database: Database, project: int, *, failed: int, after: timedelta = timedelta(seconds=5)) -> None:
    mark = samples.mark(project_id=project, failed=failed, compared_at=utc_now() + after)
    with database.write() as session:
        reconciliations.set_mark(session, mark)


def still_open(database: Database) -> set[str]:
    return {one.reason for one in counted(database, status.open_failures, since=LONG_AGO, limit=9)[1]}


def test_reconciling_mends_its_own_failures_and_refused_webhooks(database: Database) -> None:
    told = [("reconcile", None), ("reconcile", 3), ("reconcile", 4), ("webhook", None), ("model", None)]
    for kind, project in told:
        reason = f"{kind} {project}"
        with database.write() as session:
            new = NewFailure(kind=kind, reason=reason, instance=samples.INSTANCE, project_id=project)
            failures.record(session, new)
    compare(database, 3, failed=0, after=-timedelta(minutes=1))
    assert len(still_open(database)) == 5
    compare(database, 3, failed=2)
    assert still_open(database) == {"reconcile 3", "reconcile 4", "webhook None", "model None"}
    compare(database, 4, failed=0, after=timedelta(seconds=6))
    assert still_open(database) == {"reconcile 3", "webhook None", "model None"}
    compare(database, 3, failed=0, after=timedelta(seconds=7))
    assert still_open(database) == {"model None"}


def test_a_model_is_mended_by_a_prediction_of_its_own(database: Database, decided: UUID) -> None:
    for detail in (samples.sha("model"), samples.sha("another model")):
        with database.write() as session:
            new = NewFailure(kind="model", reason=detail, detail=detail, instance=samples.INSTANCE)
            failures.record(session, new)
    assert len(still_open(database)) == 2
    send(database, decided, 1)
    assert still_open(database) == {samples.sha("another model")}


def test_the_work_of_counting_grows_no_faster_than_the_rows(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.write() as session:
        model_versions.register(session, samples.model())
        decision_id = decisions.record(session, samples.decision()).id
    chance = random.Random(5)
    counts = (
        status.projects,
        status.outcomes,
        partial(status.reviews_by_day, since=LONG_AGO),
        partial(status.open_failures, since=LONG_AGO, limit=9),
    )
    needed = []
    for tasks in (range(1, 1001), range(1001, 4001)):
        with database.write() as session:
            session.execute(insert(PredictionRow), [_prediction(decision_id, task, 3, 0) for task in tasks])
            session.execute(insert(ReviewRow), [_review(task, task, 3, chance) for task in tasks])
            session.execute(insert(FailureRow), [_failure(task, number) for task in tasks for number in (task, None)])
        needed.append([steps.needed(database, partial(counted, database, count)) for count in counts])
    for count, few, many in zip(counts, *needed, strict=True):
        # Four times the rows: sorting adds a little, comparing each with each would make it sixteen times the work.
        assert many < 6 * few, count
    database.close()


def test_a_failure_of_reconciling_is_open_until_its_project_agrees(database: Database) -> None:
    for project in (None, 3, 4):
        with database.write() as session:
            new = NewFailure(kind="reconcile", reason=f"of {project}", instance=samples.INSTANCE, project_id=project)
            failures.record(session, new)

    def compared(project: int, failed: int, seconds: int = 5) -> set[str]:
        mark = samples.mark(project_id=project, failed=failed, compared_at=utc_now() + timedelta(seconds=seconds))
        with database.write() as session:
            reconciliations.set_mark(session, mark)
        return {one.reason for one in counted(database, status.open_failures, since=LONG_AGO, limit=9)[1]}

    assert compared(3, failed=0, seconds=-60) == {"of None", "of 3", "of 4"}
    assert compared(3, failed=2) == {"of 3", "of 4"}
    assert compared(4, failed=0) == {"of 3"}
    assert compared(3, failed=0) == set()


@pytest.mark.slow
def test_many_rows_are_counted_as_one_by_one(database: Database, decided: UUID, left_open: UUID) -> None:
    chance = random.Random(5)
    tasks, annotations = range(1, 1001), range(1, 801)
    sent = [
        _prediction(chance.choice((decided, left_open)), task, 3 + task % 2, turn)
        for task in tasks
        for turn in range(chance.randint(1, 3))
    ]
    said = [_review(annotation, task := chance.choice(tasks), 3 + task % 2, chance) for annotation in annotations]
    said += [_review(one["annotation_id"], one["task_id"], one["project_id"], chance) for one in said * 2]
    with database.write() as session:
        session.execute(insert(PredictionRow), sent)
        session.execute(insert(ReviewRow), said)
    with database.read() as session:
        standing = [
            review
            for annotation in annotations
            if (review := reviews.latest_for_annotation(session, instance=samples.INSTANCE, annotation_id=annotation))
            and review.action != "deleted"
        ]
    last = {one["task_id"]: one for one in sorted(sent, key=lambda one: one["sent_at"])}
    waiting = last.keys() - {review.task_id for review in standing if not review.was_cancelled}
    found = counted(database, status.projects)
    for project in (3, 4):
        own = {task for task, one in last.items() if one["project_id"] == project}
        assert found[project].judged == len(own)
        assert found[project].waiting == len(own & waiting)
        assert found[project].waiting_for_review == sum(last[t]["decision_id"] == left_open for t in own & waiting)
    by_outcome = Counter((review.project_id, review.outcome) for review in standing)
    assert by_outcome == {
        (project, outcome): count
        for project, counts in counted(database, status.outcomes).items()
        for outcome, count in ((kind.outcome, count) for kind, count in counts.items())
    }
    by_day = Counter((review.project_id, review.annotation_created_at.date()) for review in standing)  # type: ignore[union-attr]
    assert by_day == {
        (project, day): count
        for project, days in counted(database, status.reviews_by_day, since=LONG_AGO).items()
        for day, count in days.items()
    }


def _prediction(decision_id: UUID, task: int, project: int, turn: int) -> dict[str, Any]:
    new = samples.prediction(decision_id, task_id=task, project_id=project)
    sent_at = samples.NOON + timedelta(minutes=turn)
    return {**vars(new), "prediction_id": new_id(), "result_sha256": samples.sha(str(turn)), "sent_at": sent_at}


def _failure(turn: int, task: int | None) -> dict[str, Any]:
    new = NewFailure(kind="predict", reason=f"reason {turn}", instance=samples.INSTANCE, project_id=3, task_id=task)
    occurred_at = samples.NOON + timedelta(seconds=turn)
    return {**vars(new), "failure_id": new_id(), "occurred_at": occurred_at}


def _review(annotation: int, task: int, project: int, chance: random.Random) -> dict[str, Any]:
    action = chance.choices(("created", "updated", "deleted"), (4, 4, 1))[0]
    outcome = None if action == "deleted" else chance.choice(("accepted", "adjusted", "rejected", "skipped", "decided"))
    new = samples.review(
        annotation_id=annotation,
        task_id=task,
        project_id=project,
        action=action,
        outcome=outcome,
        was_cancelled=outcome == "skipped",
        # Half of them at the same instant, so that the order of recording decides.
        annotation_updated_at=chance.choice((None, samples.NOON, samples.NOON + timedelta(hours=chance.randint(0, 9)))),
        annotation_created_at=samples.NOON + timedelta(days=annotation % 5),
    )
    review_id = new_id()
    return {**vars(new), "review_id": review_id, "review_key": samples.sha(str(review_id)), "received_at": utc_now()}
