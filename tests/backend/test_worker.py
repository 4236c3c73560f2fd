"""The queue's worker under faults: what is done once, what is tried again, what is kept as failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from backend.worker import JobRefusedError, QueueWorker
from db import failures, jobs, reviews
from db.engine import Database
from db.records import Job, NewFailure, NewReview


def note(session: Session, what: str) -> None:
    """An effect that can be counted."""
    failures.record(session, NewFailure(kind="effect", reason=what))


def effects(database: Database) -> list[str]:
    with database.read() as session:
        return sorted(f.reason for f in failures.recent(session, kind="effect"))


def enqueue(database: Database, payload: object = None) -> None:
    with database.write() as session:
        jobs.enqueue(session, "webhook", payload)


def worker(database: Database, handler: Callable[[Job], Callable[[Session], None]]) -> QueueWorker:
    return QueueWorker(database, {"webhook": handler})


@pytest.fixture
def own(own_database: Database) -> Database:
    return own_database


def test_each_job_has_its_effect_once(own: Database) -> None:
    for n in range(3):
        enqueue(own, n)
    handler = worker(own, lambda job: lambda session: note(session, str(job.payload)))
    assert [handler.work_off_one() for _ in range(4)] == [True, True, True, False]
    assert effects(own) == ["0", "1", "2"]


def test_a_fault_between_effect_and_settling_undoes_the_effect(own: Database) -> None:
    enqueue(own)

    def torn(session: Session) -> None:
        note(session, "half")
        raise OSError("the power went")

    assert worker(own, lambda _: torn).work_off_one()
    assert effects(own) == []
    with own.read() as session:
        assert jobs.depth(session, kind="webhook").queued == 1


def test_a_failing_handler_is_tried_again_later_and_its_reason_kept(own: Database) -> None:
    enqueue(own)
    attempts = []

    def sometimes(job: Job) -> Callable[[Session], None]:
        attempts.append(job.attempts)
        if len(attempts) == 1:
            raise KeyError("not yet")
        return lambda session: note(session, "at last")

    handler = worker(own, sometimes)
    assert handler.work_off_one()
    assert not handler.work_off_one(), "it must wait before it is tried again"
    let_all_be_due(own)
    assert handler.work_off_one()
    assert attempts == [1, 2]
    assert effects(own) == ["at last"]


def let_all_be_due(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE job SET run_after = created_at"))


def test_a_refused_job_fails_at_once_with_its_reason(own: Database) -> None:
    enqueue(own)

    def refuse(_: Job) -> Callable[[Session], None]:
        raise JobRefusedError("this is no annotation event")

    assert worker(own, refuse).work_off_one()
    with own.read() as session:
        [job] = jobs.failed(session, kind="webhook", limit=9)
        [failure] = failures.recent(session, kind="webhook")
    assert "no annotation event" in str(job.error)
    assert "no annotation event" in failure.reason


def test_a_job_taken_by_a_worker_that_died_is_done_by_another(own: Database) -> None:
    enqueue(own)
    long_ago = datetime.now(timezone.utc) - timedelta(hours=1)
    with own.write() as session:
        session.execute(text("UPDATE job SET run_after = :then"), {"then": long_ago.replace(tzinfo=None)})
    with own.write() as session:
        assert jobs.claim(session, owner="dead", lease=timedelta(seconds=1), now=long_ago + timedelta(minutes=1))
    assert worker(own, lambda _: lambda session: note(session, "done")).work_off_one()
    assert effects(own) == ["done"]


def test_a_worker_that_was_too_slow_leaves_no_effect(own: Database) -> None:
    enqueue(own)

    def slow(job: Job) -> Callable[[Session], None]:
        later = datetime.now(timezone.utc) + timedelta(hours=1)
        with own.write() as session:
            assert jobs.claim(session, owner="another", lease=timedelta(minutes=1), now=later)
        return lambda session: note(session, f"late {job.attempts}")

    assert worker(own, slow).work_off_one()
    assert effects(own) == []


def test_a_record_that_breaks_a_rule_is_kept_as_failed_at_once(own: Database) -> None:
    enqueue(own)

    def impossible(session: Session) -> None:
        reviews.record(
            session,
            NewReview(
                instance="x", project_id=1, annotation_id=1, action="created", payload_sha256="0" * 64, lead_time_s=-1.0
            ),
        )

    assert worker(own, lambda _: impossible).work_off_one()
    with own.read() as session:
        assert jobs.depth(session, kind="webhook").failed == 1
        [failure] = failures.recent(session, kind="webhook")
    assert "lead_time_s" in failure.reason


def test_the_worker_outlives_what_it_does_not_know(own: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(own)
    stop = threading.Event()
    handler = worker(own, lambda _: lambda session: note(session, "done"))
    work_off, faults = handler.work_off_one, []

    def faulty() -> bool:
        if not faults:
            faults.append(1)
            raise MemoryError
        return work_off()

    monkeypatch.setattr(handler, "work_off_one", faulty)
    monkeypatch.setattr("backend.worker._DATABASE_AWAY_SECONDS", 0.01)
    thread = threading.Thread(target=handler.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 20
    while effects(own) != ["done"] and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    handler.wake()
    thread.join(timeout=10)
    assert effects(own) == ["done"]


def test_what_was_done_long_ago_is_removed_by_itself(own: Database) -> None:
    for days in (31, 29):
        enqueue(own, days)
        assert worker(own, lambda _: lambda _session: None).work_off_one()
        then = datetime.now(timezone.utc) - timedelta(days=days)
        with own.write() as session:
            done = text("UPDATE job SET finished_at = :then, kind = :days WHERE kind = 'webhook'")
            session.execute(done, {"then": then.replace(tzinfo=None), "days": str(days)})
    stop = threading.Event()
    running = worker(own, lambda _: lambda _session: None)
    thread = threading.Thread(target=running.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 20
    while kinds(own) != ["29"] and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    running.wake()
    thread.join(timeout=10)
    assert kinds(own) == ["29"]


def kinds(database: Database) -> list[str]:
    with database.read() as session:
        return [row[0] for row in session.execute(text("SELECT kind FROM job ORDER BY kind"))]


def test_what_is_done_keeps_its_hash_and_not_its_message(own: Database) -> None:
    enqueue(own, {"annotation": {"completed_by": 7}})
    assert worker(own, lambda _: lambda _session: None).work_off_one()
    with own.read() as session:
        payload, digest = session.execute(text("SELECT payload, payload_sha256 FROM job")).one()
    assert payload == "null"
    assert len(digest) == 64
