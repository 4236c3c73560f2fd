"""Reconciling by itself: by one worker at a time, again and again, whatever fails."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from backend.desk import Desk
from backend.project_comparison import RECONCILE
from backend.reconciliation_timer import ReconciliationTimer, job_kind
from backend.settings import Settings
from backend.worker import QueueWorker
from db import failures, jobs, reconciliations
from db.engine import Database
from db.records import Job
from tests.backend import desks
from tests.backend.label_studio_fake import KEY, FakeLabelStudio, refusal

KIND = job_kind("http://studio.example")


@pytest.fixture
def studio() -> FakeLabelStudio:
    made = FakeLabelStudio("http://studio.example", desks.CONFIG)
    project = made.add_project()
    made.webhooks = [{"project": project, "headers": {"X-Inspection-Token": desks.TOKEN}}]
    made.annotate(made.add_task(project), [])
    return made


def settings_for(directory: Path, **changes: object) -> Settings:
    given = {"label_studio_api_key": SecretStr(KEY), "reconcile_seconds": 600, **changes}
    base = desks.settings_for(directory, directory / "model", "http://studio.example")
    return base.model_copy(update=given)


def timer_of(studio: FakeLabelStudio, database: Database, directory: Path) -> ReconciliationTimer:
    return ReconciliationTimer(settings_for(directory), database, transport=httpx.MockTransport(studio))


def run_until(timer: ReconciliationTimer, condition: object, seconds: float = 30) -> None:
    """Run the timer in a thread until a condition holds, and end it."""
    stop = threading.Event()
    thread = threading.Thread(target=timer.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.02)
    stop.set()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert condition(), "it did not happen"  # type: ignore[operator]


def done(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM reconciliation")).scalar_one())


def waiting(database: Database) -> Job:
    with database.read() as session:
        numbers = session.execute(text("SELECT job_id FROM job WHERE state <> 'done'")).scalars().all()
        [found] = [job for n in numbers if (job := jobs.find(session, _uuid(n))) is not None]
    return found


def _uuid(value: object) -> object:
    import uuid

    return uuid.UUID(str(value))


@pytest.mark.slow
def test_the_first_time_is_at_once_and_the_next_after_the_period(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path
) -> None:
    before = datetime.now(timezone.utc)
    run_until(timer_of(studio, own_database, tmp_path), lambda: done(own_database) == 1)
    job = waiting(own_database)
    assert (job.kind, job.state, job.payload) == (KIND, "queued", {"failed": 0})
    assert timedelta(seconds=600) <= job.run_after - before <= timedelta(seconds=660)
    with own_database.read() as session:
        [ended] = reconciliations.marks(session, instance="http://studio.example")
        created = session.execute(text("SELECT created FROM reconciliation")).scalar_one()
    assert (created, ended.failed) == (1, 0)


@pytest.mark.slow
def test_a_desk_that_starts_does_not_wait_for_what_was_put_off(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path
) -> None:
    run_until(timer_of(studio, own_database, tmp_path), lambda: done(own_database) == 1)
    studio.annotate(next(iter(studio.tasks)), [])
    studio.annotations[max(studio.annotations)]["updated_at"] = studio.tasks[next(iter(studio.tasks))]["updated_at"]
    run_until(timer_of(studio, own_database, tmp_path), lambda: done(own_database) == 2)


def test_whatever_became_of_the_job_there_is_one_again(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path
) -> None:
    """It failed for good, and was started over by hand at the same time; or somebody removed it."""
    timer = timer_of(studio, own_database, tmp_path)
    for damage in ("UPDATE job SET state = 'failed', finished_at = created_at", "DELETE FROM job"):
        timer._take_in()
        with own_database.write() as session:
            session.execute(text(damage))
        timer._take_in()
        assert (waiting(own_database).state, waiting(own_database).kind) == ("queued", KIND)
    with own_database.write() as session:
        session.execute(text("UPDATE job SET state = 'failed', finished_at = created_at"))
        [failed] = jobs.failed(session, kind=KIND, limit=9)
        assert jobs.requeue_failed(session, failed.kind) == 1
    timer._take_in()
    assert waiting(own_database).job_id == failed.job_id


def test_each_label_studio_has_its_own_job(studio: FakeLabelStudio, own_database: Database, tmp_path: Path) -> None:
    elsewhere = settings_for(tmp_path).model_copy(update={"label_studio_url": "http://elsewhere.example"})
    timer_of(studio, own_database, tmp_path)._take_in()
    ReconciliationTimer(elsewhere, own_database)._take_in()
    own = QueueWorker(own_database, {KIND: timer_of(studio, own_database, tmp_path).handle})
    assert [own.work_off_one() for _ in range(2)] == [True, False]
    with own_database.read() as session:
        left = {row[0] for row in session.execute(text("SELECT kind FROM job WHERE state = 'queued'"))}
    assert left == {KIND, job_kind("http://elsewhere.example")}


@pytest.mark.slow
def test_a_job_of_a_desk_that_was_killed_comes_again_and_is_left_to_a_living_one(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison that takes far longer than a lease stays its worker's; without its beats it would not."""
    monkeypatch.setattr("backend.worker._LEASE", timedelta(seconds=1.5))
    stolen = []

    def slow(request: httpx.Request) -> None:
        if request.url.path != "/api/tasks/":
            return
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            with own_database.write() as session:
                stolen.append(jobs.claim(session, owner="another", lease=timedelta(minutes=1), kinds=[KIND]))
            time.sleep(0.1)

    studio.fault = slow
    timer = timer_of(studio, own_database, tmp_path)
    timer._take_in()
    assert QueueWorker(own_database, {KIND: timer.handle}).work_off_one()
    assert len(stolen) > 3 and set(stolen) == {None}
    assert done(own_database) == 1
    with own_database.write() as session:
        session.execute(text("UPDATE job SET run_after = created_at"))
        killed = jobs.claim(session, owner="killed", lease=timedelta(0), kinds=[KIND])
    assert killed is not None
    studio.fault = lambda _: None
    assert QueueWorker(own_database, {KIND: timer.handle}).work_off_one()
    assert waiting(own_database).state == "queued"


@pytest.mark.slow
def test_a_project_that_is_known_no_more_is_warned_of_no_more(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path
) -> None:
    [project] = studio.projects
    [annotation] = studio.annotations.values()
    annotation["result"] = "torn"
    timer = timer_of(studio, own_database, tmp_path)
    handled(timer, own_database)
    with own_database.read() as session:
        assert [one.failed for one in reconciliations.marks(session, instance=studio.url)] == [1]
    studio.delete_project(project)
    handled(timer, own_database)
    with own_database.read() as session:
        assert reconciliations.marks(session, instance=studio.url) == ()


@pytest.mark.slow
def test_while_one_worker_reconciles_another_does_not(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path
) -> None:
    inside, release = threading.Event(), threading.Event()

    def slow(request: httpx.Request) -> None:
        if request.url.path == "/api/tasks/":
            inside.set()
            assert release.wait(30)

    studio.fault = slow
    first = threading.Thread(
        target=run_until, args=(timer_of(studio, own_database, tmp_path), lambda: done(own_database))
    )
    first.start()
    assert inside.wait(30)
    asked = len(studio.requests)
    run_until(timer_of(studio, own_database, tmp_path), lambda: True)
    assert len(studio.requests) == asked
    release.set()
    first.join(timeout=30)
    assert done(own_database) == 1
    assert waiting(own_database).state == "queued"


def handled(timer: ReconciliationTimer, database: Database) -> Job:
    """The job that a turn of the timer leaves behind, after it was made due."""
    with database.write() as session:
        jobs.enqueue_only(session, KIND, {"failed": 0})
        session.execute(text("UPDATE job SET run_after = created_at"))
    assert QueueWorker(database, {KIND: timer.handle}).work_off_one()
    return waiting(database)


def test_a_label_studio_that_is_away_is_asked_more_and_more_seldom(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path
) -> None:
    timer = timer_of(studio, own_database, tmp_path)
    studio.fault = lambda _: refusal(401, "Token is expired")
    pauses = []
    for number in range(1, 5):
        job = handled(timer, own_database)
        assert job.payload == {"failed": number}
        pauses.append(round((job.run_after - datetime.now(timezone.utc)).total_seconds() / 60))
    assert pauses == [20, 40, 60, 60]
    with own_database.read() as session:
        kept = failures.recent(session, kind=RECONCILE)
    assert len(kept) == 4 and all("make a new one" in one.reason for one in kept)
    studio.fault = lambda _: None
    assert handled(timer, own_database).payload == {"failed": 0}
    assert done(own_database) == 1


@pytest.mark.slow
def test_what_nobody_foresaw_does_not_end_it(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = timer_of(studio, own_database, tmp_path)
    monkeypatch.setattr("backend.reconciliation_timer.projects_of", lambda *_: 1 / 0)
    assert handled(timer, own_database).payload == {"failed": 1}
    with own_database.read() as session:
        assert failures.recent(session, kind=RECONCILE)[0].detail == "ZeroDivisionError"


@pytest.mark.slow
def test_a_process_that_ends_leaves_it_to_the_next_one(
    studio: FakeLabelStudio, own_database: Database, tmp_path: Path
) -> None:
    timer = timer_of(studio, own_database, tmp_path)
    stop = threading.Event()

    def end(request: httpx.Request) -> None:
        if request.url.path == "/api/tasks/":
            stop.set()

    studio.fault = end
    timer.run(stop)
    assert done(own_database) == 0
    job = waiting(own_database)
    assert job.state == "queued" and job.run_after <= datetime.now(timezone.utc)
    studio.fault = lambda _: None
    run_until(timer, lambda: done(own_database) == 1)


def test_it_is_off_without_a_period_or_a_key(own_database: Database, tmp_path: Path) -> None:
    assert ReconciliationTimer(settings_for(tmp_path), own_database).is_on
    assert not ReconciliationTimer(settings_for(tmp_path, reconcile_seconds=0), own_database).is_on
    assert not ReconciliationTimer(settings_for(tmp_path, label_studio_api_key=None), own_database).is_on


@pytest.mark.slow
def test_a_desk_reconciles_where_it_works_off_the_queue(tmp_path: Path) -> None:
    desks.write_model(tmp_path / "model")
    for work_off_queue, seconds, names in (
        (True, 600, ["queue-worker", "reconciler", "trainer"]),
        (True, 0, ["queue-worker", "trainer"]),
        (False, 600, []),
    ):
        desk = Desk.open(settings_for(tmp_path, reconcile_seconds=seconds), work_off_queue=work_off_queue)
        assert [thread.name for thread in desk._threads] == names
        desk.close()
