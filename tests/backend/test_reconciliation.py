"""Whatever becomes of webhooks: after one reconciliation SQL says of every annotation what Label Studio says."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from backend.known_projects import projects_of
from backend.label_studio.errors import LabelStudioUnauthorisedError, LabelStudioUnreachableError
from backend.project_comparison import RECONCILE
from backend.reconciliation import Reconciler, Summary
from backend.reviews import WEBHOOK_JOB, ReviewService, Source
from backend.settings import Settings
from backend.worker import QueueWorker
from db import actors, decisions, failures, jobs, migrate, model_versions, predictions, reconciliations, reviews
from db.engine import Database
from db.keys import canonical_sha256
from db.records import NewReconciliation, ReconciliationMark, Review
from tests.backend.label_studio_fake import FakeLabelStudio, refusal
from tests.conftest import DATABASES
from tests.db import samples

Json = dict[str, Any]

CONFIG = """<View><Image name="photo" value="$image"/>
<Choices name="verdict" toName="photo"><Choice value="good"/><Choice value="scratch"/><Choice value="pit"/></Choices>
</View>"""
VERSION, NEWER = "steel 1", "steel 2"
_places = itertools.count()


def ticked(*names: str) -> list[Json]:
    chosen = {"id": "c", "from_name": "verdict", "to_name": "photo", "type": "choices"}
    return [{**chosen, "value": {"choices": [name]}} for name in names]


class Place:
    """A Label Studio of its own and the desk's record of it, in a database that several share."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.studio = FakeLabelStudio(f"http://place{next(_places)}.example", CONFIG)
        self.service = ReviewService(
            database, Settings(label_studio_url=self.studio.url), self.studio.client().find_prediction
        )
        with database.write() as session:
            model_versions.register(session, samples.model())
            self.decision = decisions.record(session, samples.decision()).id

    def add_task(self, project: int) -> int:
        """A task that scratch was predicted for."""
        task = self.studio.add_task(project)
        self.predict(task)
        return task

    def predict(self, task: int, name: str = "scratch", version: str = VERSION) -> int:
        sent = samples.prediction(
            self.decision, instance=self.studio.url, project_id=self.studio.tasks[task]["project"], task_id=task,
            result=ticked(name), model_version=version,
        )  # fmt: skip
        with self.database.write() as session:
            predictions.record(session, sent)
        return self.studio.predict(task, ticked(name), version)

    def deliver(self, event: Json) -> None:
        text = json.dumps(event)
        effect = self.service.judge(event, Source("webhook", samples.sha(text), is_patient=False))
        with self.database.write() as session:
            effect(session)

    def enqueue(self, event: Json) -> None:
        with self.database.write() as session:
            jobs.enqueue(session, WEBHOOK_JOB, event)

    def work_off(self) -> None:
        """All that is in the queue, whatever was put off."""
        worker = QueueWorker(self.database, {WEBHOOK_JOB: self.service.handle})
        while True:
            with self.database.write() as session:
                session.execute(text("UPDATE job SET run_after = created_at"))
            if not worker.work_off_one():
                return

    def mark(self, project: int) -> ReconciliationMark:
        with self.database.read() as session:
            found = reconciliations.mark(session, instance=self.studio.url, project_id=project)
        assert found is not None
        return found

    def rows(self) -> int:
        statement = text("SELECT count(*) FROM reconciliation WHERE instance = :url")
        with self.database.read() as session:
            return int(session.execute(statement, {"url": self.studio.url}).scalar_one())

    def reconciler(self, **options: Any) -> Reconciler:
        return Reconciler(self.studio.client(), self.database, self.service, **options)

    def reconcile(self, project: int, *, whole: bool = True, **options: Any) -> NewReconciliation:
        return self.reconciler(**options).reconcile(project, whole=whole)

    def standing(self, annotation: int) -> Review:
        with self.database.read() as session:
            found = reviews.latest_for_annotation(session, instance=self.studio.url, annotation_id=annotation)
        assert found is not None, f"nothing is known of annotation {annotation}"
        return found

    def reviews_of(self, task: int) -> tuple[Review, ...]:
        with self.database.read() as session:
            return reviews.for_task(session, instance=self.studio.url, task_id=task)

    def failures(self) -> list[str]:
        with self.database.read() as session:
            kept = failures.recent(session, kind=RECONCILE, limit=1000)
        return [one.reason for one in kept if one.instance == self.studio.url]

    def require_states(self) -> None:
        """The record says of each annotation there is what Label Studio says."""
        for number, annotation in self.studio.annotations.items():
            review = self.standing(number)
            assert review.action != "deleted"
            assert review.annotation_updated_at is not None
            assert review.annotation_updated_at.isoformat(timespec="microseconds") == annotation["updated_at"]
            assert review.result_sha256 == canonical_sha256(annotation["result"])
            assert review.was_cancelled == annotation["was_cancelled"]
            assert (review.outcome == "skipped") == annotation["was_cancelled"]

    def require_agreement(self) -> None:
        """And it takes no other one for present."""
        self.require_states()
        with self.database.read() as session:
            present = set()
            for project in reviews.projects(session, instance=self.studio.url):
                present |= reviews.present(session, instance=self.studio.url, project_id=project)
        assert present == set(self.studio.annotations)


@pytest.fixture(scope="module", params=DATABASES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path_factory.mktemp('reconciliation') / 'inspection.db'}"
    if request.param == "postgresql":
        template = request.getfixturevalue("migrated_template")
        url = request.getfixturevalue("postgresql_server").new_database(template=template)
    else:
        migrate.upgrade(url)
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def place(shared: Database) -> Place:
    with shared.write() as session:
        session.execute(text("DELETE FROM job"))
    return Place(shared)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_after_one_pass_sql_agrees_whatever_became_of_the_webhooks(shared: Database, data: st.DataObject) -> None:
    place = Place(shared)
    studio = place.studio
    projects = [studio.add_project(model_version=VERSION) for _ in range(2)]
    for project in (*projects, projects[0]):
        place.add_task(project)
    late: list[Json] = []
    for _ in range(data.draw(st.integers(1, 14))):
        before = len(studio.events)
        act(place, data)
        for event in studio.events[before:]:
            fate = data.draw(st.sampled_from(["delivered", "dropped", "doubled", "late", "late and doubled"]))
            for _ in range({"delivered": 1, "doubled": 2}.get(fate, 0)):
                place.deliver(event)
            late += [event] * {"late": 1, "late and doubled": 2}.get(fate, 0)
    late = data.draw(st.permutations(late))
    early = data.draw(st.integers(0, len(late)))
    for event in late[:early]:
        place.deliver(event)

    known = projects_of(studio.client(), place.database, "token")
    assert set(known) >= {project for project in projects if project in studio.projects}
    ended = place.reconciler(are_deletions_confirmed=True).reconcile_all(known, whole=True)

    assert ended.agrees, (ended, place.failures())
    place.require_agreement()
    for event in late[early:]:
        place.deliver(event)
    place.require_states()
    # A message of what was made and deleted in the meantime can still tell of it; nothing else is left to be found.
    known = projects_of(studio.client(), place.database, "token")
    again = place.reconciler(are_deletions_confirmed=True).reconcile_all(known, whole=data.draw(st.booleans()))
    assert again.agrees and all(one.found == one.deleted for one in again.compared)
    place.require_agreement()
    third = place.reconciler().reconcile_all(known, whole=True)
    assert third.agrees and not any(one.found for one in third.compared)
    for task in {one["annotation"]["task"] for one in studio.events if "annotation" in one}:
        states = Counter((one.annotation_id, one.annotation_updated_at) for one in place.reviews_of(task))
        assert set(states.values()) <= {1}


def act(place: Place, data: st.DataObject) -> None:
    """Something that an inspector or a supervisor does."""
    studio = place.studio
    kinds = (
        ["add task"]
        + ["annotate"] * 2 * bool(studio.tasks)
        + ["edit", "edit", "cancel", "delete"] * bool(studio.annotations)
    )
    kinds += ["delete task"] * (len(studio.tasks) > 1) + ["delete project"] * (len(studio.projects) > 1)
    kind = data.draw(st.sampled_from(kinds))
    task = data.draw(st.sampled_from(sorted(studio.tasks))) if kind in ("annotate", "delete task") else 0
    result = ticked(*data.draw(st.sampled_from([["good"], ["scratch"], ["pit"]])))
    if kind == "annotate":
        studio.annotate(task, result, user=data.draw(st.integers(1, 3)), was_cancelled=data.draw(st.booleans()))
    elif kind == "add task":
        place.add_task(data.draw(st.sampled_from(sorted(studio.projects))))
    elif kind == "delete task":
        studio.delete_task(task)
    elif kind == "delete project":
        studio.delete_project(data.draw(st.sampled_from(sorted(studio.projects))))
    else:
        annotation = data.draw(st.sampled_from(sorted(studio.annotations)))
        if kind == "delete":
            studio.delete_annotation(annotation)
        else:
            studio.edit(annotation, result=result, was_cancelled=kind == "cancel")


def at(instant: str) -> datetime:
    return datetime.fromisoformat(instant)


def test_a_recovered_review_says_what_is_known_and_invents_nothing(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    [prediction] = place.studio.tasks[task]["predictions"]
    first = place.studio.annotate(task, ticked("scratch"), user=1, parent_prediction=prediction["id"])
    second = place.studio.annotate(task, ticked("pit"), user=2)
    place.studio.edit(second, user=1, result=ticked("good"))
    place.studio.edit(second, user=3, result=ticked("scratch"), lead_time=-1.0)
    ended = place.reconcile(project)
    assert (ended.annotations, ended.created, ended.found, ended.failed) == (2, 2, 2, 0)
    assert len(place.reviews_of(task)) == 2
    one, other = place.standing(first), place.standing(second)
    assert (one.outcome, one.found_by, one.lead_time_s, one.model_output_shown) == (
        "accepted",
        "reconciling",
        4.5,
        True,
    )
    assert (other.outcome, other.action, other.lead_time_s, other.model_output_shown) == (
        "accepted",
        "created",
        None,
        None,
    )
    assert other.annotation_updated_at == at(place.studio.annotations[second]["updated_at"])
    assert other.annotation_created_at == at(place.studio.annotations[second]["created_at"])
    with place.database.read() as session:
        people = [actors.find(session, review.actor_id) for review in (one, other) if review.actor_id is not None]
    assert [person.ls_user_id for person in people if person is not None] == [1, 3]
    for event in place.studio.events:
        place.deliver(event)
    assert len(place.reviews_of(task)) == 4
    assert place.standing(first) == one and place.standing(second) == other


def test_edits_skips_and_deletions_are_counted_apart(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    edited, deleted, skipped = (place.studio.annotate(task, ticked("scratch"), user=n) for n in range(1, 4))
    for event in place.studio.events:
        place.deliver(event)
    place.studio.edit(edited, result=ticked("pit"))
    place.studio.edit(skipped, was_cancelled=True)
    place.studio.delete_annotation(deleted)
    place.studio.annotate(task, ticked("good"))
    ended = place.reconcile(project)
    assert (ended.created, ended.updated, ended.skipped, ended.deleted) == (1, 1, 1, 1)
    gone = place.standing(deleted)
    assert (gone.action, gone.found_by, gone.annotation_updated_at) == ("deleted", "reconciling", None)
    assert gone.decision_id == place.decision
    assert place.standing(edited).outcome == "relabelled"


def test_what_was_shown_is_the_prediction_that_was_taken_else_the_one_that_was_there(place: Place) -> None:
    project = place.studio.add_project(model_version=NEWER)
    task = place.add_task(project)
    alone = place.studio.annotate(task, ticked("scratch"))
    newer = place.predict(task, "pit", NEWER)
    [older, _] = place.studio.tasks[task]["predictions"]
    on_older = place.studio.annotate(task, ticked("scratch"), parent_prediction=older["id"])
    on_newer = place.studio.annotate(task, ticked("pit"), parent_prediction=newer)
    on_neither = place.studio.annotate(task, ticked("pit"))
    bare = place.studio.annotate(place.studio.add_task(project), ticked("pit"))
    place.reconcile(project)
    with place.database.read() as session:
        sent = {n: predictions.find(session, place.standing(n).prediction_id) for n in (on_older, on_newer, on_neither)}  # type: ignore[arg-type]
    assert [one.model_version for one in sent.values() if one is not None] == [VERSION, NEWER, NEWER]
    # Before its annotation nothing was sent, by the desk's clock, which runs an hour ahead of this Label Studio's.
    for number in (alone, bare):
        assert (place.standing(number).outcome, place.standing(number).decision_id) == (None, None)


def judged(place: Place, annotation: int) -> tuple[object, ...]:
    """What a review makes of an annotation, without the numbers of its place."""
    review = place.standing(annotation)
    with place.database.read() as session:
        sent = predictions.find(session, review.prediction_id) if review.prediction_id is not None else None
    shown = None if sent is None else (sent.model_version, sent.result_sha256)
    return (*(getattr(review, name) for name in _JUDGED), shown)


_JUDGED = (
    "annotation_id", "decision_id", "outcome", "label_predicted", "label_final", "labels_final", "region_changes",
    "mean_iou", "model_output_shown", "parent_prediction", "result_sha256", "was_cancelled",
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_webhook_and_reconciling_come_to_the_same_outcome(shared: Database, data: st.DataObject) -> None:
    """Of two places where the same happens one hears of all by webhook, and the other one is reconciled."""
    told, reconciled = Place(shared), Place(shared)
    steps: list[tuple[Any, ...]] = []
    versions = [VERSION, VERSION, NEWER]
    for _ in range(data.draw(st.integers(1, 3))):
        names = data.draw(st.lists(st.sampled_from(["scratch", "pit", "good"]), max_size=3))
        parent = data.draw(st.integers(-1, len(names) - 1))
        steps.append((names, parent, data.draw(st.sampled_from(["scratch", "pit", "good"]))))
    for place in (told, reconciled):
        project = place.studio.add_project(model_version=VERSION)
        place.studio.now += timedelta(hours=2)
        for names, parent, final in steps:
            task = place.studio.add_task(project)
            sent = [place.predict(task, name, version) for name, version in zip(names, versions, strict=False)]
            place.studio.annotate(task, ticked(final), parent_prediction=sent[parent] if parent >= 0 else None)
    for event in told.studio.events:
        told.deliver(event)
    assert reconciled.reconciler().reconcile_all(reconciled.studio.projects, whole=True).agrees
    for annotation in told.studio.annotations:
        assert judged(told, annotation) == judged(reconciled, annotation)


def test_a_webhook_judges_the_prediction_that_the_annotation_was_made_from(place: Place) -> None:
    project = place.studio.add_project(model_version=NEWER)
    task = place.add_task(project)
    [older] = place.studio.tasks[task]["predictions"]
    place.predict(task, "pit", NEWER)
    accepted = place.studio.annotate(task, ticked("scratch"), parent_prediction=older["id"])
    assert place.studio.events[-1]["annotation"]["prediction"]["model_version"] == NEWER
    place.deliver(place.studio.events[-1])
    assert (place.standing(accepted).outcome, place.standing(accepted).label_predicted) == ("accepted", "scratch")


def test_what_cannot_be_recorded_is_kept_with_its_reason_and_keeps_nothing_else_from_it(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    odd = place.studio.annotate(place.add_task(project), ticked("pit"))
    fine = place.studio.annotate(place.add_task(project), ticked("pit"))
    unreadable = place.add_task(project)
    place.studio.tasks[unreadable]["predictions"] = "none"
    place.studio.annotations[odd]["result"] = "pit"
    for _ in range(2):
        ended = place.reconcile(project)
        assert (ended.failed, place.standing(fine).outcome) == (2, "relabelled")
    assert len(place.failures()) == 2, "the same failure is kept once a day"
    place.studio.annotations[odd]["result"] = ticked("pit")
    place.studio.tasks[unreadable]["predictions"] = []
    ended = place.reconcile(project)
    assert (ended.failed, ended.created) == (0, 1)
    place.require_agreement()


def test_a_configuration_that_cannot_be_read_costs_no_annotation(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION, label_config="<View")
    place.studio.annotate(place.add_task(project), ticked("pit"))
    summary = place.reconciler().reconcile_all([project], whole=True)
    assert not summary.agrees
    assert "labeling configuration cannot be read" in place.failures()[0]
    place.studio.projects[project]["label_config"] = CONFIG
    assert place.reconciler().reconcile_all([project], whole=True).agrees
    place.require_agreement()


def test_only_what_changed_is_looked_at_by_itself_and_a_deleted_task_is_missed_all_the_same(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    tasks = [place.add_task(project) for _ in range(3)]
    for task in tasks:
        place.studio.now += timedelta(minutes=10)
        place.studio.annotate(task, ticked("pit"))
    assert place.reconcile(project, whole=False).is_full, "the first time everything is"
    place.studio.annotate(tasks[0], ticked("good"))
    ended = place.reconcile(project, whole=False)
    assert (ended.is_full, ended.annotations, ended.created) == (False, 3, 1), "of two tasks, one by the overlap"
    place.studio.now += timedelta(minutes=10)
    place.studio.annotate(tasks[0], ticked("good"))
    ended = place.reconcile(project, whole=False)
    assert (ended.is_full, ended.annotations, ended.created) == (False, 4, 1), "of the same two tasks"
    place.studio.delete_task(tasks[1])
    ended = place.reconcile(project, whole=False)
    assert (ended.is_full, ended.deleted, ended.surplus) == (True, 1, 0)
    place.require_agreement()
    assert not place.reconcile(project, whole=False).is_full


def test_a_deleted_task_is_missed_where_another_annotation_cannot_be_recorded(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    for result in (ticked("pit"), ["odd"]):
        place.studio.annotate(place.add_task(project), result)  # type: ignore[arg-type]
    place.studio.now += timedelta(minutes=10)
    last = place.add_task(project)
    young = place.studio.annotate(last, ticked("pit"))
    assert (place.reconcile(project, whole=False).surplus, place.reconcile(project, whole=False).is_full) == (-1, False)
    place.studio.now += timedelta(minutes=45)
    place.studio.edit(young, result=ticked("good"))
    ended = place.reconcile(project, whole=False, grace=timedelta(minutes=30))
    assert (ended.waiting, ended.is_full, ended.failed) == (1, False, 1), (
        "what waits is no reason to look at everything"
    )
    place.studio.delete_task(place.reviews_of(min(place.studio.tasks))[0].task_id or 0)
    ended = place.reconcile(project, whole=False, grace=timedelta(minutes=30))
    assert (ended.is_full, ended.deleted, ended.failed) == (True, 1, 1)


def test_a_day_after_the_last_whole_comparison_comes_another(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    project = place.studio.add_project(model_version=VERSION)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    assert [place.reconcile(project, whole=False).is_full for _ in range(2)] == [True, False]
    later = datetime.now(timezone.utc) + timedelta(days=1, minutes=1)
    monkeypatch.setattr("backend.reconciliation_marks.utc_now", lambda: later)
    assert place.reconcile(project, whole=False).is_full


def test_what_has_just_been_made_is_left_to_its_webhook_and_not_forgotten(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    place.studio.annotate(task, ticked("pit"))
    grace = timedelta(minutes=30)
    assert place.reconcile(project, whole=False, grace=grace).created == 1
    place.studio.now += timedelta(minutes=58)
    young = place.studio.annotate(task, ticked("good"))
    place.studio.now += timedelta(minutes=10)
    place.add_task(project)
    for _ in range(2):
        ended = place.reconcile(project, whole=False, grace=grace)
        assert (ended.found, ended.waiting, ended.is_full) == (0, 1, False)
    assert place.reconcile(project, whole=False).created == 1
    assert place.standing(young).outcome == "rejected"


def test_a_project_that_may_not_be_read_keeps_no_other_from_it(place: Place) -> None:
    closed, open_one = (place.studio.add_project(model_version=VERSION) for _ in range(2))
    annotations = [place.studio.annotate(place.add_task(project), ticked("pit")) for project in (closed, open_one)]
    place.studio.fault = lambda request: (
        refusal(403, "You do not have permission.") if request.url.path == f"/api/projects/{closed}/" else None
    )
    summary = place.reconciler().reconcile_all([closed, open_one, 987654], whole=True)
    assert not summary.agrees
    assert set(summary.unreadable) == {closed, 987654}
    assert "lacks the right" in summary.unreadable[closed]
    assert place.standing(annotations[1]).outcome == "relabelled"
    with place.database.read() as session:
        last = reconciliations.mark(session, instance=place.studio.url, project_id=closed)
        unknown = reconciliations.mark(session, instance=place.studio.url, project_id=987654)
    assert last is not None and (last.failed, last.since) == (1, None) and unknown is None
    place.studio.fault = lambda _: None
    assert place.reconciler().reconcile_all([closed, open_one], whole=False).agrees
    place.require_agreement()


def test_a_slow_or_odd_project_keeps_no_other_from_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.label_studio.client._PAGE", 1)
    slow, odd, fine = (place.studio.add_project(model_version=VERSION) for _ in range(3))
    *_, last = [place.studio.annotate(place.add_task(project), ticked("pit")) for project in (slow, odd, fine)]

    def fault(request: httpx.Request) -> httpx.Response | None:
        if request.url.params.get("project") == str(slow):
            raise httpx.ReadTimeout("slow")
        if request.url.params.get("project") == str(odd):
            return httpx.Response(200, json={"total": "many", "tasks": [{}]})
        return None

    place.studio.fault = fault
    summary = place.reconciler().reconcile_all([slow, odd, fine], whole=True)
    assert set(summary.unreadable) == {slow, odd} and "did not answer in time" in summary.unreadable[slow]
    assert place.standing(last).outcome == "relabelled"
    place.studio.fault = lambda request: refusal(500, "down") if request.url.path == "/health" else fault(request)
    with pytest.raises(LabelStudioUnreachableError):
        place.reconciler().reconcile_all([slow, odd, fine], whole=True)


def test_label_studio_going_away_in_the_middle_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.label_studio.client._PAGE", 2)
    monkeypatch.setattr("backend.project_comparison._TASKS_AT_ONCE", 2)
    project = place.studio.add_project(model_version=VERSION)
    first, *_ = [place.studio.annotate(place.add_task(project), ticked("pit")) for _ in range(5)]

    def gone(request: httpx.Request) -> None:
        if request.url.path == "/api/tasks/" and place.studio.requests.count("/api/tasks/") > 1:
            raise httpx.ConnectError("refused")

    place.studio.fault = gone
    with pytest.raises(LabelStudioUnreachableError, match="start Label Studio"):
        place.reconcile(project)
    assert place.standing(first).outcome == "relabelled"
    place.studio.fault = lambda _: None
    assert place.reconcile(project).created == 3
    place.require_agreement()


def test_a_busy_or_failing_label_studio_is_asked_again_and_a_refused_key_told(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    troubles = [httpx.Response(429, headers={"Retry-After": "0"}), refusal(500, "database is locked")]
    place.studio.fault = lambda _: troubles.pop() if troubles else None
    assert place.reconcile(project).created == 1
    place.studio.fault = lambda _: refusal(401, "Token is expired")
    with pytest.raises(LabelStudioUnauthorisedError, match="make a new one"):
        place.reconcile(project)


def test_what_stands_before_label_studio_deletes_nothing(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    number = place.studio.annotate(place.add_task(project), ticked("pit"))
    place.reconcile(project)
    place.studio.delete_annotation(number)
    nowhere = httpx.Response(404, text="<html>no such page</html>")
    place.studio.fault = lambda request: nowhere if "annotations" in request.url.path else None
    ended = place.reconcile(project)
    assert (ended.deleted, ended.failed) == (0, 1)
    assert place.standing(number).action == "created"
    place.studio.fault = lambda request: nowhere if "projects" in request.url.path else None
    assert not place.reconciler().reconcile_all([project], whole=True).agrees
    place.studio.fault = lambda _: None
    assert place.reconcile(project).deleted == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"updated_at": "2020-01-01T00:00:00.000000+00:00"}, "in a later state"),
        ({"result": ticked("good")}, "with another content"),
        (None, "recorded as deleted"),
    ],
)
def test_a_label_studio_restored_from_a_backup_is_told_of(place: Place, change: Json | None, said: str) -> None:
    project = place.studio.add_project(model_version=VERSION)
    number = place.studio.annotate(place.add_task(project), ticked("pit"))
    place.reconcile(project)
    annotation = dict(place.studio.annotations[number])
    if change is None:
        place.studio.delete_annotation(number)
        place.reconcile(project)
    place.studio.annotations[number] = {**annotation, **(change or {})}
    summary = place.reconciler().reconcile_all([project], whole=True)
    assert not summary.agrees
    assert said in place.failures()[0]


def gone_by(place: Place, annotations: list[int]) -> set[int]:
    """Those of the annotations that the record says are deleted."""
    return {number for number in annotations if place.standing(number).action == "deleted"}


@pytest.mark.parametrize("whole", [True, False])
def test_a_restored_backup_is_no_deletion(place: Place, whole: bool) -> None:
    """Whatever was annotated after the backup is gone, from tasks that it has and with tasks that it has not."""
    project = place.studio.add_project(model_version=VERSION)
    tasks = [place.add_task(project) for _ in range(3)]
    before = place.studio.annotate(tasks[0], ticked("pit"))
    restore = place.studio.backup()
    lost = [place.studio.annotate(task, ticked("pit")) for task in (*tasks, place.add_task(project))]
    assert place.reconcile(project).created == 5
    restore()
    for _ in range(2):
        summary = place.reconciler().reconcile_all([project], whole=whole)
        [ended] = summary.compared
        assert (summary.agrees, ended.deleted, ended.failed) == (False, 0, 4)
        assert gone_by(place, [before, *lost]) == set()
    said = place.failures()[0]
    assert "4 annotations are gone" in said and f"--project {project} --confirm-deletions" in said
    place.add_task(project)
    anew = place.studio.annotate(tasks[1], ticked("good"))
    assert anew in lost, "Label Studio gives the numbers anew"
    ended = place.reconcile(project)
    assert (ended.deleted, ended.updated) == (0, 0)
    assert any("given anew" in reason for reason in place.failures())
    place.studio.delete_annotation(anew)
    ended = place.reconcile(project, are_deletions_confirmed=True)
    assert (ended.deleted, ended.failed) == (4, 0)
    place.require_agreement()


def test_an_emptied_a_replaced_and_a_vanished_project_wait_for_a_persons_word(place: Place) -> None:
    emptied, replaced, vanished = (place.studio.add_project(model_version=VERSION) for _ in range(3))
    lost = [place.studio.annotate(place.add_task(one), ticked("pit")) for one in (emptied, replaced, vanished)]
    everything = place.reconciler().reconcile_all([emptied, replaced, vanished], whole=True)
    assert everything.agrees
    for project in (emptied, replaced):
        place.studio.delete_task(next(n for n, one in place.studio.tasks.items() if one["project"] == project))
    place.studio.projects[replaced]["created_at"] = place.studio._tick()
    place.add_task(replaced)
    place.studio.delete_project(vanished)
    refused = place.reconciler().reconcile_all([emptied, replaced, vanished], whole=True)
    assert not refused.agrees and [one.failed for one in refused.compared] == [1, 1, 1]
    assert gone_by(place, lost) == set()
    for reason in ("nothing in Label Studio is as late", "was made after them", "whole project is gone"):
        assert any(reason in said for said in place.failures())
    confirmed = place.reconciler(are_deletions_confirmed=True)
    assert confirmed.reconcile_all([emptied, replaced, vanished], whole=True).agrees
    assert gone_by(place, lost) == set(lost)


@pytest.mark.slow
@pytest.mark.parametrize(("deleted", "of", "is_recorded"), [(21, 30, False), (20, 30, True), (21, 250, True)])
def test_many_deletions_at_once_wait_for_a_persons_word(place: Place, deleted: int, of: int, is_recorded: bool) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    annotations = [place.studio.annotate(task, ticked("pit")) for _ in range(of)]
    place.reconcile(project)
    for number in annotations[:deleted]:
        place.studio.delete_annotation(number)
    ended = place.reconcile(project, whole=False)
    assert (ended.deleted, ended.failed) == ((deleted, 0) if is_recorded else (0, deleted))
    if not is_recorded:
        assert f"they are many of {of}" in place.failures()[0]
        assert place.reconcile(project, are_deletions_confirmed=True).deleted == deleted
    place.require_agreement()


def test_what_changes_while_it_is_read_is_read_again(place: Place) -> None:
    """Between the listing and the record's answer one annotation is deleted, and another edited, by webhook."""
    project = place.studio.add_project(model_version=VERSION)
    edited, deleted = (place.studio.annotate(place.add_task(project), ticked("pit")) for _ in range(2))
    place.reconcile(project)
    listing = place.studio._listing

    def meanwhile(request: httpx.Request) -> httpx.Response:
        listed = listing(request)
        before = len(place.studio.events)
        place.studio.edit(edited, result=ticked("good"))
        place.studio.delete_annotation(deleted)
        for event in place.studio.events[before:]:
            place.deliver(event)
        place.studio._listing = listing  # type: ignore[method-assign]
        return listed

    place.studio._listing = meanwhile  # type: ignore[method-assign]
    ended = place.reconcile(project)
    assert (ended.found, ended.failed) == (0, 0)
    place.require_agreement()


def test_a_task_that_the_listing_left_out_is_not_taken_for_deleted(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    number = place.studio.annotate(place.add_task(project), ticked("pit"))
    place.reconcile(project)
    place.studio.edit(number, result=ticked("good"))
    place.studio.fault = lambda request: (
        httpx.Response(200, json={"total": 0, "tasks": []})
        if "greater" in request.url.params.get("query", "")
        else None
    )
    ended = place.reconcile(project)
    assert (ended.updated, ended.deleted) == (1, 0)
    assert place.standing(number).outcome == "rejected"


def test_the_projects_are_those_with_predictions_reviews_or_the_desks_webhook(place: Place) -> None:
    predicted, reviewed, hooked, others, gone = (place.studio.add_project(model_version=VERSION) for _ in range(5))
    place.add_task(predicted)
    place.studio.annotate(place.studio.add_task(reviewed), ticked("pit"))
    place.deliver(place.studio.events[-1])
    place.studio.webhooks = [
        {"project": hooked, "headers": {"x-inspection-token": "ours"}},
        {"project": others, "headers": {"X-Inspection-Token": "another desk's"}},
        {"project": None, "headers": {}},
    ]
    place.add_task(gone)
    place.studio.delete_project(gone)
    assert projects_of(place.studio.client(), place.database, "ours") == (predicted, reviewed, hooked)
    place.studio.delete_project(reviewed)
    assert projects_of(place.studio.client(), place.database, "ours") == (predicted, reviewed, hooked)
    place.reconciler(are_deletions_confirmed=True).reconcile_all([reviewed], whole=False)
    assert projects_of(place.studio.client(), place.database, "ours") == (predicted, hooked)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_comparing_what_changed_is_enough_whatever_the_queue_and_killed_desks_do(
    shared: Database, data: st.DataObject
) -> None:
    """Some webhooks wait in the queue, some comparisons end in the middle, and some leave what is young."""
    with shared.write() as session:
        session.execute(text("DELETE FROM job"))
    place = Place(shared)
    studio = place.studio
    projects = [studio.add_project(model_version=VERSION) for _ in range(2)]
    for project in (*projects, projects[0]):
        place.add_task(project)
    late: list[Json] = []
    for _ in range(data.draw(st.integers(1, 16))):
        step = data.draw(st.sampled_from(["act"] * 6 + ["work off", "tell late", "compare", "compare", "killed"]))
        before = len(studio.events)
        if step == "act":
            act(place, data)
        elif step == "work off":
            place.work_off()
        elif step == "tell late" and late:
            place.enqueue(late.pop(data.draw(st.integers(0, len(late) - 1))))
        elif step in ("compare", "killed"):
            grace = timedelta(minutes=data.draw(st.sampled_from([0, 59, 90])))
            compare_all(place, grace, ends_after=0 if step == "killed" else None)
        for event in studio.events[before:]:
            fate = data.draw(st.sampled_from(["queued", "dropped", "doubled", "late"]))
            for _ in range({"queued": 1, "doubled": 2}.get(fate, 0)):
                place.enqueue(event)
            late += [event] * (fate == "late")
    place.work_off()
    summary = compare_all(place, timedelta(0))
    assert summary is not None and summary.agrees, (summary, place.failures())
    assert not any(one.waiting for one in summary.compared)
    place.require_agreement()
    for event in late:
        place.enqueue(event)
    place.work_off()
    place.require_states()
    summary = compare_all(place, timedelta(0))
    assert summary is not None and summary.agrees
    place.require_agreement()
    marks = {project: place.mark(project).surplus for project in studio.projects if studio.tasks}
    assert set(marks.values()) <= {0}, marks


class KilledError(BaseException):
    """What ends a comparison in the middle, with what it has recorded by then."""


def compare_all(place: Place, grace: timedelta, ends_after: int | None = None) -> Summary | None:
    """Compare what changed in all projects; `ends_after` so many tasks it is killed."""

    def progress(_: int, done: int, __: int) -> None:
        if ends_after is not None and done > ends_after:
            raise KilledError

    known = projects_of(place.studio.client(), place.database, "token")
    reconciler = place.reconciler(are_deletions_confirmed=True, grace=grace)
    try:
        return reconciler.reconcile_all(known, whole=False, progress=progress)
    except KilledError:
        return None


def test_what_label_studio_counts_and_no_listing_has_is_looked_for_twice_and_told(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    hidden = place.studio.annotate(place.add_task(project), ticked("pit"))
    shown = place.studio._task
    place.studio._task = lambda number: {  # type: ignore[method-assign]
        **shown(number), "annotations": [one for one in shown(number)["annotations"] if one["id"] != hidden]
    }  # fmt: skip
    summary = place.reconciler().reconcile_all([project], whole=False)
    [ended] = summary.compared
    assert (summary.agrees, ended.failed, ended.created, ended.annotations) == (False, 1, 1, 1)
    assert "counts 1 more annotations" in place.failures()[0]
    assert place.studio.requests.count("/api/tasks/") == 2
    again = place.reconcile(project, whole=False)
    assert (again.is_full, again.failed) == (False, 1), "it is known, and no reason to look at everything again"
    place.studio._task = shown  # type: ignore[method-assign]
    assert (place.reconcile(project).created, place.mark(project).failed) == (1, 0)
    place.require_agreement()


def test_a_task_that_cannot_be_read_is_one_failure_with_all_its_annotations(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    for _ in range(3):
        place.studio.annotate(task, ticked("pit"))
    place.studio.tasks[task]["predictions"] = "none"
    assert (place.reconcile(project).failed, len(place.failures())) == (1, 1)
    assert place.studio.requests.count("/api/tasks/") == 1


def test_what_no_window_shows_is_found_by_the_count(place: Place) -> None:
    """Label Studio's clock was set back."""
    project = place.studio.add_project(model_version=VERSION)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    place.studio.now += timedelta(minutes=30)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    place.reconcile(project)
    place.studio.now -= timedelta(minutes=28)
    lost = place.studio.annotate(place.studio.add_task(project), ticked("pit"))
    ended = place.reconcile(project, whole=False)
    assert (ended.is_full, ended.created, ended.failed) == (True, 1, 0)
    assert place.standing(lost).found_by == "reconciling"
    assert not place.reconcile(project, whole=False).is_full


@pytest.mark.parametrize("change", ["made", "deleted"])
def test_what_is_made_or_deleted_while_all_is_read_is_no_lack(place: Place, change: str) -> None:
    project = place.studio.add_project(model_version=VERSION)
    tasks = [place.add_task(project) for _ in range(2)]
    first = place.studio.annotate(tasks[0], ticked("pit"))
    listing = place.studio._listing

    def meanwhile(request: httpx.Request) -> httpx.Response:
        listed = listing(request)
        place.studio._listing = listing  # type: ignore[method-assign]
        if change == "made":
            place.studio.annotate(tasks[0], ticked("good"))
        else:
            place.studio.delete_annotation(first)
        return listed

    place.studio._listing = meanwhile  # type: ignore[method-assign]
    assert place.reconciler().reconcile_all([project], whole=True).agrees
    assert place.studio.requests.count("/api/tasks/") == 1
    assert place.reconciler().reconcile_all([project], whole=False).agrees
    place.require_agreement()


def test_a_project_that_nobody_knows_leaves_nothing_behind(place: Place) -> None:
    closed = place.studio.add_project()
    place.studio.fault = lambda request: (
        refusal(403, "You do not have permission.") if request.url.path == f"/api/projects/{closed}/" else None
    )
    assert set(place.reconciler().reconcile_all([987654, closed], whole=True).unreadable) == {987654, closed}
    with place.database.read() as session:
        assert reconciliations.marks(session, instance=place.studio.url) == ()
    assert (place.rows(), place.failures()) == (0, [])


def test_a_project_that_vanishes_while_it_is_compared_is_no_failure(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    place.reconcile(project)
    before = place.rows()

    def vanish(request: httpx.Request) -> None:
        if request.url.path == "/api/tasks/":
            place.studio.delete_project(project)

    place.studio.fault = vanish
    summary = place.reconciler().reconcile_all([project], whole=True)
    assert (set(summary.unreadable), place.rows(), place.failures()) == ({project}, before, [])
    place.studio.fault = lambda _: None
    assert place.reconciler(are_deletions_confirmed=True).reconcile_all([project], whole=False).agrees
    place.require_agreement()


def test_an_annotation_whose_task_vanishes_while_it_is_looked_for_is_gone(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    number = place.studio.annotate(task, ticked("pit"))
    place.reconcile(project)
    place.studio.edit(number, result=ticked("good"))
    hidden = httpx.Response(200, json={"total": 0, "tasks": []})
    asked = []

    def fault(request: httpx.Request) -> httpx.Response | None:
        if "greater" in request.url.params.get("query", ""):
            return hidden
        if request.url.path == f"/api/projects/{project}/" and f"/api/annotations/{number}/" in place.studio.requests:
            asked.append(request)
            if len(asked) == 1:
                place.studio.delete_task(task)
                return refusal(404, "No Project matches the given query.")
        return None

    place.studio.fault = fault
    ended = place.reconcile(project, are_deletions_confirmed=True)
    assert (ended.deleted, ended.failed, place.failures()) == (1, 0, [])
    place.require_agreement()


def test_a_project_that_could_not_be_read_was_compared_no_further(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    place.reconcile(project)
    mark = place.mark(project)
    place.studio.fault = lambda request: (
        refusal(403, "You do not have permission.") if request.url.path == "/api/tasks/" else None
    )
    place.studio.annotate(place.add_task(project), ticked("pit"))
    before = place.rows()
    for _ in range(2):
        place.reconciler().reconcile_all([project], whole=False)
    statement = text("SELECT through FROM reconciliation WHERE instance = :url ORDER BY reconciliation_id DESC LIMIT 1")
    with place.database.read() as session:
        assert session.execute(statement, {"url": place.studio.url}).scalar_one() is None
    assert place.rows() == before + 1, "the same is written down once"
    now = place.mark(project)
    assert (now.through, now.since, now.whole_at, now.failed) == (mark.through, mark.since, mark.whole_at, 1)
    place.studio.fault = lambda _: None
    ended = place.reconcile(project, whole=False)
    assert (ended.is_full, ended.created) == (False, 1)
    place.require_agreement()


def test_what_the_queue_still_tells_of_is_left_to_it(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    edited = place.studio.annotate(task, ticked("pit"))
    deleted = place.studio.annotate(place.add_task(project), ticked("pit"))
    place.reconcile(project)
    new = place.studio.annotate(task, ticked("pit"))
    before = len(place.studio.events)
    place.studio.edit(edited, result=ticked("good"))
    place.studio.edit(edited, result=ticked("scratch"))
    place.studio.delete_annotation(deleted)
    for event in (place.studio.events[before - 1], *place.studio.events[before:], {"action": "ANNOTATION_CREATED"}):
        place.enqueue(event)
    for whole in (False, True, False):
        summary = place.reconciler().reconcile_all([project], whole=whole)
        [ended] = summary.compared
        assert (summary.agrees, ended.found, ended.waiting, ended.is_full) == (True, 0, 3, whole)
    place.work_off()
    assert [place.standing(one).found_by for one in (new, edited, deleted)] == ["webhook"] * 3
    assert [one.annotation_id for one in place.reviews_of(task)] == [edited, new, edited, edited]
    ended = place.reconcile(project, whole=False)
    assert (ended.found, ended.waiting, ended.is_full) == (0, 0, False)
    place.require_agreement()


def test_a_webhook_that_failed_for_good_is_waited_for_no_longer(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    deleted = place.studio.annotate(place.add_task(project), ticked("pit"))
    place.reconcile(project)
    place.studio.now += timedelta(minutes=20)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    place.enqueue(place.studio.events[-1])
    place.studio.delete_task(place.reviews_of(place.standing(deleted).task_id or 0)[0].task_id or 0)
    place.enqueue({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": deleted}], "project": {"id": project}})
    ended = place.reconcile(project)
    assert (ended.found, ended.waiting) == (0, 2)
    with place.database.write() as session:
        session.execute(text("UPDATE job SET state = 'failed'"))
    ended = place.reconcile(project, whole=False)
    assert (ended.created, ended.deleted, ended.waiting) == (1, 1, 0)
    place.require_agreement()


def test_a_project_in_which_nothing_happens_costs_next_to_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    number = place.studio.annotate(task, ticked("pit"))
    place.studio.annotate(place.add_task(project), ticked("pit"))
    now = datetime.now(timezone.utc)
    for name in ("reconciliation", "reconciliation_marks", "recovery"):
        monkeypatch.setattr(f"backend.{name}.utc_now", lambda: now)
    assert place.reconcile(project, whole=False).annotations == 2
    now += timedelta(minutes=4)
    assert place.reconcile(project, whole=False).annotations == 2, "what was not committed then may be now"
    now += timedelta(minutes=2)
    assert place.reconcile(project, whole=False).annotations == 2
    before = len(place.studio.requests)
    for _ in range(3):
        now += timedelta(minutes=10)
        assert place.reconcile(project, whole=False).annotations == 0
    assert len(place.studio.requests) - before == 9, "the project, its changed tasks, and its counts"
    assert place.rows() == 1
    place.studio.edit(number, result=ticked("good"))
    ended = place.reconcile(project, whole=False)
    assert (ended.updated, ended.annotations) == (1, 1), "what was settled is not read again"
    place.require_agreement()


def test_what_waits_is_listed_again_though_nothing_else_happens(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    project = place.studio.add_project(model_version=VERSION)
    place.studio.annotate(place.add_task(project), ticked("pit"))
    now = datetime.now(timezone.utc)
    for name in ("reconciliation", "reconciliation_marks", "recovery"):
        monkeypatch.setattr(f"backend.{name}.utc_now", lambda: now)
    for turn in range(4):
        ended = place.reconcile(project, whole=False, grace=timedelta(hours=5))
        assert (ended.waiting, ended.is_full) == (1, turn == 0)
        now += timedelta(minutes=6)
    assert place.reconcile(project, whole=False).created == 1
    place.require_agreement()


def test_what_waited_in_the_first_pass_counts_once_after_the_second(place: Place) -> None:
    """A task that vanished makes it look at everything, and meanwhile the webhook of what waited was worked off."""
    project = place.studio.add_project(model_version=VERSION)
    gone = place.add_task(project)
    place.studio.annotate(gone, ticked("pit"))
    place.studio.now += timedelta(minutes=20)
    task = place.add_task(project)
    place.studio.annotate(task, ticked("pit"))
    place.reconcile(project)
    place.studio.annotate(task, ticked("good"))
    place.enqueue(place.studio.events[-1])
    place.studio.delete_task(gone)
    listing, listings = place.studio._listing, itertools.count()

    def meanwhile(request: httpx.Request) -> httpx.Response:
        if next(listings) == 1:
            place.work_off()
        return listing(request)

    place.studio._listing = meanwhile  # type: ignore[method-assign]
    ended = place.reconcile(project, whole=False)
    assert (ended.is_full, ended.deleted, ended.waiting, ended.surplus) == (True, 1, 0, 0)
    assert ended.through == at(place.studio.tasks[task]["updated_at"])
    place.require_agreement()


def test_a_project_that_is_gone_is_asked_for_no_more_often_than_one_that_fails(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    task = place.add_task(project)
    for _ in range(3):
        place.studio.annotate(task, ticked("pit"))
    place.reconcile(project)
    place.studio.delete_project(project)
    assert place.reconcile(project, whole=False).failed == 3
    before = len(place.studio.requests)
    assert place.reconcile(project, whole=False).failed == 3
    assert len(place.studio.requests) - before == 1
    assert place.reconcile(project, are_deletions_confirmed=True).deleted == 3


def test_two_that_compare_at_once_record_everything_once(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION)
    for _ in range(20):
        place.studio.annotate(place.add_task(project), ticked("pit"))
    together = threading.Barrier(2)
    ended: list[NewReconciliation] = []

    def compare() -> None:
        together.wait(30)
        ended.append(place.reconcile(project, whole=False))

    threads = [threading.Thread(target=compare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [one.failed for one in ended] == [0, 0]
    place.require_agreement()
    assert all(len(place.reviews_of(task)) == 1 for task in place.studio.tasks)
    assert place.mark(project).surplus == 0


def test_a_review_of_a_project_that_hides_predictions_is_blind(place: Place) -> None:
    project = place.studio.add_project(model_version=VERSION, show_collab_predictions=False)
    blind = place.studio.annotate(place.add_task(project), ticked("scratch"))
    place.reconcile(project)
    assert place.standing(blind).model_output_shown is False
