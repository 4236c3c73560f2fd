"""What other processes do in the tests: module-level functions, so that another process finds them."""

from __future__ import annotations

import time
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event

from db import actors, decisions, failures, jobs, migrate, model_events, model_versions, reviews
from db.engine import Database
from db.records import NewFailure
from tests.db import samples

# Each process gets a clean start, but the packages are imported once for all of them.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def upgrade(url: str, barrier: Barrier) -> None:
    barrier.wait(60)
    migrate.upgrade(url)


def enqueue_only(url: str, barrier: Barrier, rounds: int) -> None:
    """Take in work of which there is to be one piece, in step with the others."""
    database = Database(url)
    for number in range(rounds):
        barrier.wait(60)
        with database.write() as session:
            jobs.enqueue_only(session, f"kind {number}", {})
    database.close()


def record_decisions(url: str, barrier: Barrier, answers: Queue[tuple[str, bool]], count: int) -> None:
    """Record the same decisions and reviews as the others do, in step with them."""
    database = Database(url)
    barrier.wait(60)
    for number in range(count):
        barrier.wait(60)
        with database.write() as session:
            decision = decisions.record(session, samples.decision(f"image {number}"))
            actors.pseudonym(session, instance=samples.INSTANCE, ls_user_id=number)
            review = reviews.record(session, samples.review(annotation_id=number, decision_id=decision.id))
        answers.put((f"decision {number} {decision.id}", decision.is_new))
        answers.put((f"review {number} {review.id}", review.is_new))
    database.close()


def activate_in_turn(url: str, actor: str, barrier: Barrier, rounds: int) -> None:
    """Switch the desk to and fro between the registered versions, in step with the others."""
    database = Database(url)
    with database.read() as session:
        versions = [one.model_version_id for one in model_versions.everything(session)]
    for turn in range(rounds):
        barrier.wait(60)
        with database.write() as session:
            model_events.activate(session, versions[turn % len(versions)], model_events.DESK, actor=actor)
    database.close()


def die_before_activation(url: str, is_ready: Event) -> None:
    """Activate a version, but never get to the commit."""
    database = Database(url)
    with database.write() as session:
        version = model_versions.everything(session)[0].model_version_id
        model_events.activate(session, version, model_events.DESK, actor="doomed")
        is_ready.set()
        time.sleep(600)


def die_before_commit(url: str, lease: timedelta, is_ready: Event) -> None:
    """Claim a job, do its effect and settle it, but never get to the commit."""
    database = Database(url)
    with database.write() as session:
        job = jobs.claim(session, owner="doomed", lease=lease)
    assert job is not None
    with database.write() as session:
        failures.record(session, NewFailure(kind="effect", reason=str(job.payload)))
        jobs.complete(session, job)
        session.flush()
        is_ready.set()
        time.sleep(600)


def work_off(url: str, owner: str, barrier: Barrier) -> None:
    """Work until nothing is due."""
    database = Database(url)
    barrier.wait(60)
    while True:
        with database.write() as session:
            job = jobs.claim(session, owner=owner, lease=timedelta(minutes=5))
        if job is None:
            break
        with database.write() as session:
            failures.record(session, NewFailure(kind="effect", reason=str(job.payload)))
            jobs.complete(session, job)
    database.close()
