"""A fortnight of a desk's work, as a supervisor meets it: two projects, all outcomes, failures and a queue."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import insert

from db import decisions, failures, jobs, model_versions
from db.engine import Database
from db.records import NewFailure
from db.schema import PredictionRow, ReviewRow
from db.types import new_id
from tests.db import samples

OUTCOMES = ("accepted", "adjusted", "relabelled", "rejected", "missed", "decided", "skipped")
PANELS, CASTINGS = 7, 12


def fill(database: Database, instance: str, model_version: str) -> None:
    """1,430 tasks judged, most of them reviewed on working days; three failed webhooks; five tasks that failed.

    The first hundred of project `PANELS` were judged by a former version than the one named.
    """
    chance = random.Random(3)
    with database.write() as session:
        model_versions.register(session, samples.model(name="panel", version="3f21c09ab4d7"))
        decided = decisions.record(session, samples.decision()).id
        left_open = decisions.record(session, samples.decision("doubtful", verdict="review")).id
    # Midnights: an hour before now is yesterday for an hour a day, and the page shows whole days.
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    sent, said = [], []
    for project, tasks, reviewed in ((PANELS, 1180, 0.86), (CASTINGS, 250, 0.2)):
        for n in range(tasks):
            task = 1000 * project + n
            is_open = chance.random() < 0.07
            version = "panel 3f21c09ab4d7" if project == PANELS and n < 100 else model_version
            fields = {"task_id": task, "project_id": project, "instance": instance}
            made_at = today - timedelta(days=chance.choices(range(14), (3, 5, 6, 5, 4, 0.3, 0.1) * 2)[0])
            judged = left_open if is_open else decided
            new = samples.prediction(judged, model_version=version, **fields)
            kept = {"prediction_id": new_id(), "result_sha256": samples.sha(str(task)), "sent_at": made_at}
            sent.append({**vars(new), **kept})
            if chance.random() < reviewed:
                judging = {**fields, "decision_id": judged, "prediction_id": kept["prediction_id"]}
                said.append(_review(judging, made_at, is_open, chance))
    with database.write() as session:
        session.execute(insert(PredictionRow), sent)
        session.execute(insert(ReviewRow), said)
    _failures(database, instance)
    _queue(database)


def _review(fields: dict[str, Any], made_at: datetime, is_open: bool, chance: random.Random) -> dict[str, Any]:
    outcome = "decided" if is_open else chance.choices(OUTCOMES, (800, 90, 30, 25, 8, 0, 15))[0]
    new = samples.review(
        **fields,
        annotation_id=50_000 + int(fields["task_id"]),
        outcome=outcome,
        was_cancelled=outcome == "skipped",
        annotation_created_at=made_at,
        annotation_updated_at=made_at,
        # Predictions of two annotations in a hundred were hidden, or these were made by a script.
        model_output_shown=None if chance.random() < 0.02 else True,
    )
    review_id = new_id()
    return {**vars(new), "review_id": review_id, "review_key": samples.sha(str(review_id)), "received_at": made_at}


def _failures(database: Database, instance: str) -> None:
    told = (
        (12311, "http://127.0.0.1:8080/data/upload/12/part_0311.png answers 404: the image is gone; upload it again"),
        (12312, "the image has 181 million pixels, more than INSPECTION_MAX_IMAGE_PIXELS allows; scale it down"),
        (12313, "the file ends in the middle of the picture; upload it again"),
        (12314, "host images.plant.example is not allowed; add it to INSPECTION_ALLOWED_IMAGE_HOSTS"),
    )
    with database.write() as session:
        for task, reason in told:
            new = NewFailure(kind="predict", reason=reason, instance=instance, project_id=CASTINGS, task_id=task)
            failures.record(session, new)
        reason = "a request to /webhook was over INSPECTION_MAX_REQUEST_BYTES and was not read"
        failures.record(session, NewFailure(kind="webhook", reason=reason, instance=instance))


def _queue(database: Database) -> None:
    with database.write() as session:
        jobs.enqueue(session, "reconcile", {}, run_after=datetime.now(timezone.utc) + timedelta(minutes=9))
        for _ in range(46):
            jobs.enqueue(session, "webhook", {})
        for n in range(44):
            job = jobs.claim(session, owner="worker", lease=timedelta(minutes=1))
            assert job is not None
            if n < 2:
                reason = "JobRefusedError: the project's labeling configuration cannot be read: it has no image"
                jobs.fail(session, job, reason, retry=False)
            else:
                jobs.complete(session, job)
