from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import event, text

from db import failures, jobs
from db.engine import Database
from db.errors import LeaseLostError
from db.keys import sha256_hex
from db.records import Job, NewFailure, QueueDepth
from db.types import utc_now
from tests.db import workers

LEASE = timedelta(minutes=1)


def enqueue(database: Database, payload: object = "work", **options: object) -> Job:
    with database.write() as session:
        identifier = jobs.enqueue(session, "webhook", payload, **options)  # type: ignore[arg-type]
    return find(database, identifier)


def find(database: Database, identifier: object) -> Job:
    with database.read() as session:
        job = jobs.find(session, identifier)  # type: ignore[arg-type]
    assert job is not None
    return job


def claim(database: Database, owner: str = "worker", now: datetime | None = None) -> Job | None:
    with database.write() as session:
        return jobs.claim(session, owner=owner, lease=LEASE, now=now)


def claimed(database: Database, owner: str = "worker", now: datetime | None = None) -> Job:
    job = claim(database, owner, now)
    assert job is not None
    return job


def fail(database: Database, job: Job, **options: bool) -> str:
    with database.write() as session:
        return jobs.fail(session, job, "it broke", **options)


def complete(database: Database, job: Job) -> None:
    with database.write() as session:
        failures.record(session, NewFailure(kind="effect", reason=str(job.payload)))
        jobs.complete(session, job)


def effects(database: Database) -> list[str]:
    with database.read() as session:
        return sorted(f.reason for f in failures.recent(session, kind="effect", limit=1000))


def test_a_job_goes_through_its_states(database: Database) -> None:
    queued = enqueue(database, {"action": "ANNOTATION_CREATED"})
    assert (queued.state, queued.attempts, queued.lease_owner) == ("queued", 0, None)
    running = claimed(database)
    assert (running.job_id, running.state, running.attempts, running.lease_owner) == (
        queued.job_id,
        "running",
        1,
        "worker",
    )
    assert running.payload == {"action": "ANNOTATION_CREATED"}
    assert claim(database) is None
    complete(database, running)
    done = find(database, queued.job_id)
    assert (done.state, done.lease_owner, done.lease_expires_at) == ("done", None, None)
    assert done.finished_at is not None
    assert claim(database, now=datetime(2099, 1, 1, tzinfo=timezone.utc)) is None


def test_jobs_are_handed_out_in_the_order_they_came(database: Database) -> None:
    ids = [enqueue(database, number).job_id for number in range(5)]
    assert [claimed(database).job_id for _ in ids] == ids


@pytest.mark.slow
def test_a_claim_does_not_wait_for_another_that_is_not_committed_yet(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    first, second = enqueue(database), enqueue(database)
    with database.write() as one, database.write() as other:
        other.execute(text("SET LOCAL lock_timeout = '3s'"))
        claims = [jobs.claim(session, owner="w", lease=LEASE) for session in (one, other)]
    assert [job and job.job_id for job in claims] == [first.job_id, second.job_id]
    database.close()


def test_only_the_kinds_asked_for_are_handed_out(database: Database) -> None:
    with database.write() as session:
        jobs.enqueue(session, "other", None)
        wanted = jobs.enqueue(session, "webhook", None)
        job = jobs.claim(session, owner="w", lease=LEASE, kinds=["webhook"])
        assert job is not None
        assert job.job_id == wanted
        assert jobs.claim(session, owner="w", lease=LEASE, kinds=["webhook"]) is None


def test_a_job_is_not_handed_out_before_its_time(database: Database) -> None:
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    enqueue(database, run_after=later)
    assert claim(database) is None
    assert claim(database, now=later) is not None


@pytest.mark.parametrize(
    "payload", [None, {"part": 12345678901234567890, "nul": "\0", "bad": "\ud800", "ä": [1.5, True, {}]}, "x" * 200_000]
)
def test_any_json_payload_is_taken_in(database: Database, payload: object) -> None:
    job = enqueue(database, payload)
    assert job.payload == payload
    with database.read() as session:
        stored = session.scalars(text("SELECT payload FROM job")).one()
    assert job.payload_sha256 == sha256_hex(stored)


def test_what_is_no_json_is_refused(database: Database) -> None:
    with pytest.raises(TypeError):
        enqueue(database, b"bytes")


def test_a_failed_attempt_is_tried_again_later_and_later(database: Database) -> None:
    queued = enqueue(database, max_attempts=3)
    now = queued.run_after
    waits = []
    for attempt in (1, 2):
        job = claimed(database, now=now)
        assert job.attempts == attempt
        with database.write() as session:
            assert jobs.fail(session, job, "it broke", now=now) == "queued"
        assert claim(database, now=now) is None
        again = find(database, job.job_id).run_after
        waits.append(again - now)
        now = again
    assert waits == [timedelta(seconds=2), timedelta(seconds=4)]
    last = claimed(database, now=now)
    assert fail(database, last) == "failed"
    kept = find(database, queued.job_id)
    assert (kept.state, kept.error, kept.attempts) == ("failed", "it broke", 3)
    assert claim(database, now=now + timedelta(days=9)) is None
    with database.read() as session:
        assert [job.job_id for job in jobs.failed(session, kind="webhook", limit=9)] == [queued.job_id]


def test_waits_grow_to_an_hour_and_no_further() -> None:
    seconds = [jobs.delay(n).total_seconds() for n in (1, 2, 3, 11, 12, 13, 10_000)]
    assert seconds == [2, 4, 8, 2048, 3600, 3600, 3600]


def test_what_cannot_succeed_fails_at_once_and_can_be_started_over(database: Database) -> None:
    queued = enqueue(database)
    assert fail(database, claimed(database), retry=False) == "failed"
    with database.write() as session:
        assert jobs.requeue_failed(session, "webhook") == 1
        assert jobs.requeue_failed(session, "webhook") == 0
    again = claimed(database)
    assert (again.job_id, again.attempts, again.finished_at) == (queued.job_id, 2, None)
    assert again.max_attempts == 1 + jobs.MAX_ATTEMPTS


def test_only_work_of_the_kind_asked_for_is_listed_and_started_over(database: Database) -> None:
    with database.write() as session:
        other = jobs.enqueue(session, "another kind", {})
    own = enqueue(database)
    for _ in range(2):
        fail(database, claimed(database), retry=False)
    with database.write() as session:
        assert [job.job_id for job in jobs.failed(session, kind="webhook", limit=9)] == [own.job_id]
        assert jobs.requeue_failed(session, "webhook") == 1
    assert [find(database, one).state for one in (own.job_id, other)] == ["queued", "failed"]


def test_many_failed_jobs_start_over_in_one_statement_without_their_payloads(database: Database) -> None:
    for _ in range(3):
        enqueue(database, "x" * 1000)
        fail(database, claimed(database), retry=False)
    said: list[str] = []

    def listen(*call: Any) -> None:
        said.append(call[2])

    event.listen(database.engine, "before_cursor_execute", listen)
    with database.write() as session:
        assert len(jobs.failed(session, kind="webhook", limit=9)) == 3
        assert jobs.requeue_failed(session, "webhook") == 3
    event.remove(database.engine, "before_cursor_execute", listen)
    on_jobs = [statement for statement in said if "job" in statement]
    assert len(on_jobs) == 2
    assert not [statement for statement in on_jobs if "payload" in statement]


def test_starting_over_does_not_bring_an_old_lease_back_to_life(database: Database) -> None:
    enqueue(database, max_attempts=1)
    old = claimed(database, "worker")
    assert claim(database, now=old.lease_expires_at) is None
    with database.write() as session:
        assert jobs.requeue_failed(session, "webhook") == 1
    new = claimed(database, "worker")
    with pytest.raises(LeaseLostError):
        complete(database, old)
    complete(database, new)


def test_an_expired_lease_goes_to_another_and_the_slow_one_leaves_no_effect(database: Database) -> None:
    queued = enqueue(database, "once")
    slow = claimed(database, "slow")
    assert slow.lease_expires_at is not None
    assert claim(database, "quick", now=slow.lease_expires_at - timedelta(microseconds=1)) is None
    quick = claimed(database, "quick", now=slow.lease_expires_at)
    assert (quick.job_id, quick.attempts) == (queued.job_id, 2)
    for too_late in (complete, fail):
        with pytest.raises(LeaseLostError, match="slow"):
            too_late(database, slow)
    with pytest.raises(LeaseLostError), database.write() as session:
        jobs.renew(session, slow, lease=LEASE)
    complete(database, quick)
    with pytest.raises(LeaseLostError):
        complete(database, quick)
    assert effects(database) == ["once"]


def test_the_same_owner_is_told_its_leases_apart(database: Database) -> None:
    enqueue(database)
    first = claimed(database, "worker")
    second = claimed(database, "worker", now=first.lease_expires_at)
    with pytest.raises(LeaseLostError):
        complete(database, first)
    complete(database, second)


def test_a_renewed_lease_holds_longer(database: Database) -> None:
    enqueue(database)
    job = claimed(database)
    assert job.lease_expires_at is not None
    with database.write() as session:
        jobs.renew(session, job, lease=LEASE, now=job.lease_expires_at)
    assert claim(database, now=job.lease_expires_at) is None
    assert claim(database, now=job.lease_expires_at + LEASE) is not None


def test_a_job_that_kills_its_othersends_as_failed_and_the_next_gets_its_turn(database: Database) -> None:
    poison = enqueue(database, max_attempts=2)
    now = poison.run_after
    for _ in range(2):
        now = claimed(database, "victim", now).lease_expires_at or now
    healthy = enqueue(database)
    # The healthy job came after the poisoned one ran out; both are due now.
    now = max(now, healthy.run_after)
    assert claimed(database, "victim", now).job_id == healthy.job_id
    kept = find(database, poison.job_id)
    assert kept.state == "failed"
    assert kept.error is not None
    assert "vanished 2 times" in kept.error
    assert "victim" in kept.error


def test_depth_is_of_one_kind_and_what_is_put_off_does_not_wait(database: Database) -> None:
    with database.write() as session:
        assert jobs.depth(session, kind="webhook") == QueueDepth(0, 0, 0, 0, oldest_waiting_since=None)
        jobs.enqueue(session, "another kind", {})
    tomorrow = utc_now() + timedelta(days=1)
    enqueue(database, run_after=tomorrow)
    with database.read() as session:
        assert jobs.depth(session, kind="webhook") == QueueDepth(1, 0, 0, 0, oldest_waiting_since=None)
    due = enqueue(database)
    with database.read() as session:
        assert jobs.depth(session, kind="webhook") == QueueDepth(2, 0, 0, 0, oldest_waiting_since=due.created_at)


def test_work_that_is_withdrawn_is_handed_out_no_more(database: Database) -> None:
    withdrawn, other = enqueue(database), enqueue(database, "other")
    for _ in range(2):
        with database.write() as session:
            jobs.withdraw(session, withdrawn.job_id)
    with database.read() as session:
        assert jobs.find(session, withdrawn.job_id) is None
        assert jobs.unsettled(session, "webhook") == {other.job_id}


def test_depth_and_purge(database: Database) -> None:
    first = enqueue(database)
    assert fail(database, claimed(database), retry=False) == "failed"
    complete(database, [enqueue(database), claimed(database)][1])
    running, waiting = enqueue(database), enqueue(database)
    claimed(database)
    with database.read() as session:
        depth = jobs.depth(session, kind="webhook")
    assert (depth.queued, depth.running, depth.done, depth.failed) == (1, 1, 1, 1)
    assert depth.oldest_waiting_since == running.created_at
    future = waiting.created_at + timedelta(days=1)
    with database.write() as session:
        assert jobs.purge(session, before=first.created_at, limit=10) == 0
        assert jobs.purge(session, before=future, limit=0) == 0
        assert jobs.purge(session, before=future, limit=10) == 1
        assert jobs.find(session, first.job_id) is not None


@pytest.mark.slow
def test_a_worker_killed_before_its_commit_leaves_no_effect_and_its_job_to_another(
    database: Database, database_url: str
) -> None:
    queued = enqueue(database, "once")
    is_ready = workers.CONTEXT.Event()
    doomed = workers.CONTEXT.Process(target=workers.die_before_commit, args=(database_url, LEASE, is_ready))
    doomed.start()
    assert is_ready.wait(60)
    doomed.kill()
    doomed.join(60)
    assert effects(database) == []
    left = find(database, queued.job_id)
    assert (left.state, left.lease_owner) == ("running", "doomed")
    assert left.lease_expires_at is not None
    assert claim(database, now=left.lease_expires_at - timedelta(microseconds=1)) is None
    # PostgreSQL lets go of the dead worker's row as soon as it notices the broken connection.
    deadline = time.monotonic() + 30
    while (job := claim(database, "heir", now=left.lease_expires_at)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (job.job_id, job.attempts) == (queued.job_id, 2)
    complete(database, job)
    assert effects(database) == ["once"]
    assert claim(database, now=datetime(2099, 1, 1, tzinfo=timezone.utc)) is None


@pytest.mark.slow
def test_workers_share_the_queue_without_doing_anything_twice(database: Database, database_url: str) -> None:
    count = 40
    with database.write() as session:
        for number in range(count):
            jobs.enqueue(session, "webhook", f"{number:02}")
    barrier = workers.CONTEXT.Barrier(3)
    others = [
        workers.CONTEXT.Process(target=workers.work_off, args=(database_url, f"worker {n}", barrier)) for n in range(3)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join(120)
    assert [process.exitcode for process in others] == [0, 0, 0]
    assert effects(database) == [f"{number:02}" for number in range(count)]


def test_work_for_one_at_a_time_is_taken_in_once(database: Database) -> None:
    def take_in() -> object:
        with database.write() as session:
            return jobs.enqueue_only(session, "webhook", {})

    first = take_in()
    assert first is not None and take_in() is None
    job = claimed(database)
    assert take_in() is None, "it is being done"
    complete(database, job)
    again = take_in()
    assert again is not None
    with database.write() as session:
        assert jobs.enqueue_only(session, "another kind", {}) is not None


def test_the_next_work_is_taken_in_where_the_one_in_hand_is_settled(database: Database) -> None:
    """Whatever became of the one in hand, and of any other, one waits at the end."""
    first = enqueue(database)
    job = claimed(database)
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    with database.write() as session:
        next_one = jobs.enqueue_only(session, first.kind, {}, run_after=later, beside=job)
        assert next_one is not None
        assert jobs.enqueue_only(session, first.kind, {}, beside=job) is None, "the next one waits already"
        jobs.complete(session, job)
        assert jobs.unsettled(session, first.kind) == {next_one}
    assert claim(database) is None
    with database.write() as session:
        jobs.hasten(session, "another kind")
    assert claim(database) is None
    with database.write() as session:
        jobs.hasten(session, first.kind)
    assert claimed(database).job_id == next_one


def test_work_for_one_at_a_time_takes_the_place_of_such_that_failed(database: Database) -> None:
    kept = enqueue(database)
    assert fail(database, claimed(database), retry=False) == "failed"
    with database.write() as session:
        new = jobs.enqueue_only(session, kept.kind, {})
        assert jobs.requeue_failed(session, kept.kind) == 0
        assert jobs.unsettled(session, kept.kind) == {new}
    with database.write() as session:
        session.execute(text("UPDATE job SET state = 'failed'"))
        assert jobs.requeue_failed(session, kept.kind) == 1
        assert jobs.enqueue_only(session, kept.kind, {}) is None, "it was started over"
        assert jobs.unsettled(session, kept.kind) == {new}


@pytest.mark.slow
def test_of_several_processes_that_take_work_in_at_once_one_does(database_url: str, database: Database) -> None:
    barrier = workers.CONTEXT.Barrier(3)
    processes = [
        workers.CONTEXT.Process(target=workers.enqueue_only, args=(database_url, barrier, 10)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with database.read() as session:
        taken = session.execute(text("SELECT kind, count(*) FROM job GROUP BY kind")).all()
    assert {row[1] for row in taken} == {1} and len(taken) == 10


def test_the_same_failure_is_kept_once_in_a_while(database: Database) -> None:
    def keep(since: datetime, **changes: object) -> bool:
        fields = {"kind": "reconcile", "reason": "it is gone", "instance": "x", "project_id": 3, **changes}
        with database.write() as session:
            return failures.record_news(session, NewFailure(**fields), since=since)  # type: ignore[arg-type]

    now = datetime.now(timezone.utc)
    assert [keep(now - timedelta(hours=1)) for _ in range(2)] == [True, False]
    for change in ({"reason": "it is torn"}, {"task_id": 7}, {"project_id": None}, {"kind": "predict"}):
        assert [keep(now - timedelta(hours=1), **change) for _ in range(2)] == [True, False]
    assert keep(datetime.now(timezone.utc) + timedelta(hours=1)), "what was kept before the instant is no news of it"
