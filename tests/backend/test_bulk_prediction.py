"""Predicting in bulk: what Label Studio survives, what a fault leaves behind, and what a second run does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.bulk_prediction import BulkPrediction, BulkPredictionError, BulkResult
from backend.label_studio.errors import LabelStudioUnauthorisedError
from backend.label_studio.image_source import ImageMissingError, ImageTimeoutError, ImageUnavailableError
from backend.pushing import Pushing
from backend.retrieval import Retrieval
from db import failures, predictions
from db.engine import Database
from db.records import Failure, NewFailure
from tests.backend import desks
from tests.backend.bulk_label_studio import PROJECT, URL, BulkLabelStudio, refusal

VERSION = "tiny 1"
Json = dict[str, Any]


class Model:
    """Answers as the desk does: one prediction a task, `{}` and a kept failure for what it cannot see."""

    def __init__(self, database: Database, *, blind: frozenset[int] = frozenset()) -> None:
        self.asked: list[int] = []
        self._database = database
        self._blind = blind

    def answer(self, tasks: list[Json], _config: str = "", _project: int | None = None) -> list[Json]:
        return [self._answer(task["id"]) for task in tasks]

    def _answer(self, task: int) -> Json:
        self.asked.append(task)
        if task not in self._blind:
            return {"model_version": VERSION, "score": 0.5, "result": [{"task": task}]}
        failure = NewFailure(kind="predict", reason="the image is torn", instance=URL, project_id=7, task_id=task)
        with self._database.write() as session:
            failures.record(session, failure)
        return {}


class HurriedModel(Model):
    """Finds the server of one task's image slow, `times` times."""

    def __init__(self, database: Database, *, times: int, kind: type[Exception]) -> None:
        super().__init__(database)
        self._times = times
        self._kind = kind.__name__

    def _answer(self, task: int) -> Json:
        if task != 3 or self._times == 0:
            return super()._answer(task)
        self._times -= 1
        self.asked.append(task)
        failure = NewFailure(
            kind="predict", reason="it took too long", detail=self._kind, instance=URL, project_id=7, task_id=task
        )
        with self._database.write() as session:
            failures.record(session, failure)
        return {}


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    opened = Database(sqlite_url)
    yield opened
    opened.close()


def bulk(
    studio: BulkLabelStudio,
    way: str,
    database: Database,
    model: Model,
    *,
    in_use: Any = lambda: VERSION,
    answer_seconds: float = 0,
) -> BulkPrediction:
    client = studio.client()
    ways = {
        "retrieve": Retrieval(
            client, PROJECT, VERSION, database=database, answer_seconds=answer_seconds, poll_seconds=0
        ),
        "push": Pushing(client, PROJECT, VERSION, model),  # type: ignore[arg-type]
    }
    return BulkPrediction(client, PROJECT, VERSION, ways[way], database=database, in_use=in_use, patience=0)


def run(studio: BulkLabelStudio, way: str, database: Database, model: Model) -> BulkResult:
    return bulk(studio, way, database, model).run()


def kept(database: Database) -> tuple[Failure, ...]:
    with database.read() as session:
        return failures.recent(session)


def assert_one_each(studio: BulkLabelStudio, besides: frozenset[int] = frozenset()) -> None:
    assert {number: len(studio.of(number)) for number in studio.tasks} == {
        number: int(number not in besides) for number in studio.tasks
    }


pytestmark = pytest.mark.parametrize("way", ["retrieve", "push"])


@pytest.mark.slow
def test_two_thousand_tasks_in_chunks_each_predicted_once(way: str, database: Database) -> None:
    model, heard = Model(database), list[tuple[int, int]]()
    studio = BulkLabelStudio(2000, backend=model.answer)
    done = bulk(studio, way, database, model).run(lambda n, total: heard.append((n, total)))
    assert done == BulkResult(2000, 0, 2000, (), ())
    assert_one_each(studio)
    assert len(model.asked) == 2000
    assert studio.largest_chunk <= 8
    assert heard[0] == (0, 2000)
    assert heard[-1] == (2000, 2000)
    assert [n for n, _ in heard] == sorted(n for n, _ in heard)
    assert studio.shown == VERSION


def test_a_killed_run_is_gone_on_with(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(50, backend=model.answer)

    def kill(done: int, _: int) -> None:
        if done >= 24:
            raise Killed

    with pytest.raises(Killed):
        bulk(studio, way, database, model).run(kill)
    assert len(studio.stored) == 24
    model.asked.clear()
    done = run(studio, way, database, model)
    assert (done.already, done.predicted) == (24, 26)
    assert model.asked == list(range(25, 51))
    assert_one_each(studio)


def test_a_run_killed_while_its_answer_is_on_the_way_doubles_nothing(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(20, backend=model.answer)
    storing = {"retrieve": "retrieve", "push": "create"}[way]

    def kill(kind: str, nth: int) -> None:
        if (kind, nth) == (storing, 1):
            raise Killed

    studio.after = kill
    with pytest.raises(Killed):
        run(studio, way, database, model)
    studio.after = lambda _kind, _nth: None
    run(studio, way, database, model)
    assert_one_each(studio)


@pytest.mark.parametrize("fault", ["429", "500", "503", "time-out", "torn"])
def test_faults_in_the_middle_lose_and_double_nothing(way: str, fault: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(40, backend=model.answer)

    def fail(kind: str, nth: int) -> httpx.Response | None:
        # Each kind of request fails at its third and fourth time, the changing ones too.
        if kind in ("list", "project") or nth not in (2, 3):
            return None
        if fault.isdigit():
            return refusal(int(fault), "not now")
        raise httpx.ReadTimeout("slow") if fault == "time-out" else httpx.RemoteProtocolError("torn")

    studio.fault = fail
    done = run(studio, way, database, model)
    assert (done.predicted, done.failed) == (40, ())
    assert_one_each(studio)
    assert kept(database) == ()


def test_what_was_done_though_its_answer_was_lost_is_not_done_again(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(20, backend=model.answer)

    def lose(kind: str, nth: int) -> None:
        if kind in ("retrieve", "create") and nth in (0, 1):
            raise httpx.ReadTimeout("slow")

    studio.after = lose
    assert run(studio, way, database, model).predicted == 20
    assert_one_each(studio)


def test_what_is_stored_long_after_its_answer_was_lost_is_waited_for(way: str, database: Database) -> None:
    """As behind a proxy that gives up after a minute: Label Studio goes on, and stores when it has been asked again."""
    model = Model(database)
    studio = BulkLabelStudio(8, backend=model.answer)
    if way == "retrieve":
        studio.store_after_looks = 4
    done = bulk(studio, way, database, model, answer_seconds=60).run()
    assert (done.predicted, done.failed) == (8, ())
    assert_one_each(studio)


def test_a_task_deleted_meanwhile_is_told_and_no_failure(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(20, backend=model.answer)

    def delete(done: int, _: int) -> None:
        if done == 8:
            studio.tasks.pop(12, None)

    done = bulk(studio, way, database, model).run(delete)
    assert (done.tasks, done.predicted, done.gone, done.failed) == (19, 19, (12,), ())
    assert_one_each(studio)
    assert kept(database) == ()


def test_a_deleted_task_that_is_listed_again_is_no_task_to_ask_for(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(20, backend=model.answer)
    hidden: dict[int, Json] = {}

    def delete(done: int, _: int) -> None:
        if done == 8 and 12 in studio.tasks:
            hidden[12] = studio.tasks.pop(12)

    def restore(kind: str, _: int) -> None:
        if kind == "annotations":
            studio.tasks.update(hidden)

    def give_up(kind: str, nth: int) -> None:
        assert (kind, nth) != ("list", 5), "it lists the tasks for ever"

    studio.after, studio.fault = restore, give_up
    done = bulk(studio, way, database, model).run(delete)
    assert (done.tasks, done.predicted, done.gone) == (20, 19, ())
    assert [(one.task, "lists the task" in one.reason) for one in done.failed] == [(12, True)]
    assert_one_each(studio, besides=frozenset({12}))


def test_a_404_of_what_stands_before_label_studio_is_not_its_word_on_a_task(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(40, backend=model.answer)

    def fail(kind: str, _: int) -> httpx.Response | None:
        is_away = len(studio.stored) >= 16 and kind != "list"
        return httpx.Response(404, text="default backend - 404") if is_away else None

    studio.fault = fail
    with pytest.raises(BulkPredictionError, match=r"does not come back .*default backend"):
        run(studio, way, database, model)
    assert kept(database) == ()
    studio.fault = lambda _kind, _nth: None
    done = run(studio, way, database, model)
    assert (done.predicted, done.failed, done.gone) == (24, (), ())
    assert_one_each(studio)


def test_a_project_deleted_meanwhile_ends_the_run_and_fails_no_tasks(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(40, backend=model.answer)

    def delete(done: int, _: int) -> None:
        if done == 16:
            studio.tasks.clear()
            studio.fault = lambda kind, _: (
                refusal(404, "No Project matches the given query.") if kind in ("project", "retrieve", "list") else None
            )

    with pytest.raises(BulkPredictionError, match=r"project 7 is not there any more .*16 tasks were predicted"):
        bulk(studio, way, database, model).run(delete)
    assert kept(database) == ()


def test_a_task_uploaded_meanwhile_is_predicted_too(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(10, backend=model.answer)

    def upload(done: int, _: int) -> None:
        if done == 8:
            studio.tasks[11] = {"id": 11, "data": {"image": "/data/upload/11.png"}}

    done = bulk(studio, way, database, model).run(upload)
    assert (done.tasks, done.predicted) == (11, 11)
    assert_one_each(studio)


def test_a_task_predicted_meanwhile_by_being_opened_gets_no_second_prediction(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(20, backend=model.answer)

    def open_task(done: int, _: int) -> None:
        if done == 8:
            studio.store(15, {"model_version": VERSION, "score": 0.5, "result": []})

    bulk(studio, way, database, model).run(open_task)
    assert_one_each(studio)


def test_what_the_desk_cannot_judge_is_told_with_its_reason_and_the_rest_goes_on(way: str, database: Database) -> None:
    model = Model(database, blind=frozenset({3, 17}))
    studio = BulkLabelStudio(20, backend=model.answer)
    done = run(studio, way, database, model)
    assert [(one.task, one.reason) for one in done.failed] == [(3, "the image is torn"), (17, "the image is torn")]
    assert (done.predicted, len(kept(database))) == (18, 2)
    assert_one_each(studio, besides=frozenset({3, 17}))
    model.asked.clear()
    again = run(studio, way, database, model)
    assert (again.already, again.predicted, len(again.failed)) == (18, 0, 2)
    assert model.asked == [3, 17]


@pytest.mark.parametrize("kind", [ImageTimeoutError, ImageUnavailableError])
def test_an_image_whose_server_fails_for_a_moment_is_tried_once_more_at_the_end(
    way: str, kind: type[Exception], database: Database
) -> None:
    model = HurriedModel(database, times=1, kind=kind)
    studio = BulkLabelStudio(20, backend=model.answer)
    done = run(studio, way, database, model)
    assert (done.predicted, done.failed) == (20, ())
    assert model.asked == [*range(1, 21), 3]
    assert_one_each(studio)


@pytest.mark.parametrize(
    ("kind", "times_asked"), [(ImageTimeoutError, 2), (ImageUnavailableError, 2), (ImageMissingError, 1)]
)
def test_an_image_that_goes_on_failing_is_told_with_its_reason(
    way: str, kind: type[Exception], times_asked: int, database: Database
) -> None:
    model = HurriedModel(database, times=9, kind=kind)
    studio = BulkLabelStudio(20, backend=model.answer)
    done = run(studio, way, database, model)
    assert [(one.task, one.reason) for one in done.failed] == [(3, "it took too long")]
    assert model.asked.count(3) == times_asked
    assert_one_each(studio, besides=frozenset({3}))


def test_a_task_that_label_studio_fails_at_keeps_no_others_from_their_predictions(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(12, backend=model.answer)
    # A chunk with this task in it is lost as a whole, as where it takes longer than Label Studio waits.
    retrieve, create = studio._retrieve, studio._create
    studio._retrieve = lambda n: refusal(500, "no such luck") if 5 in n else retrieve(n)  # type: ignore[method-assign]
    studio._create = lambda b: refusal(500, "no such luck") if b["task"] == 5 else create(b)  # type: ignore[method-assign]
    done = run(studio, way, database, model)
    assert done.predicted == 11
    [failed] = done.failed
    assert failed.task == 5
    assert "no such luck" in failed.reason
    assert [(one.task_id, one.project_id, one.kind) for one in kept(database)] == [(5, PROJECT, "predict")]
    assert_one_each(studio, besides=frozenset({5}))


def test_many_tasks_in_a_row_that_label_studio_fails_at_end_no_run(way: str, database: Database) -> None:
    model, bad = Model(database), frozenset(range(9, 17))
    studio = BulkLabelStudio(32, backend=model.answer)
    retrieve, create = studio._retrieve, studio._create
    studio._retrieve = lambda n: refusal(500, "no such luck") if bad & {*n} else retrieve(n)  # type: ignore[method-assign]
    studio._create = lambda b: refusal(500, "no such luck") if b["task"] in bad else create(b)  # type: ignore[method-assign]
    done = run(studio, way, database, model)
    assert done.predicted == 24
    assert [(one.task, "no such luck" in one.reason) for one in done.failed] == [
        (number, True) for number in sorted(bad)
    ]
    assert_one_each(studio, besides=bad)


def test_a_label_studio_that_does_not_come_back_ends_the_run_with_advice(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(400, backend=model.answer)
    gone = False

    def fail(kind: str, _: int) -> httpx.Response | None:
        nonlocal gone
        gone = gone or len(studio.stored) >= 16
        if gone:
            raise httpx.ConnectError("nobody there")
        return None

    studio.fault = fail
    with pytest.raises(
        BulkPredictionError, match=r"does not come back .* tasks were predicted\. Run the command again"
    ):
        run(studio, way, database, model)
    studio.fault = lambda _kind, _nth: None
    assert run(studio, way, database, model).already == 16
    assert_one_each(studio)


def test_a_refused_key_ends_the_run_at_once(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(40, backend=model.answer)
    studio.fault = lambda kind, _nth: refusal(401, "Invalid token.") if kind in ("retrieve", "create") else None
    with pytest.raises(LabelStudioUnauthorisedError, match="API key"):
        run(studio, way, database, model)
    assert studio.count("retrieve") + studio.count("create") <= 2


def test_another_model_activated_meanwhile_ends_the_run(way: str, database: Database) -> None:
    model, versions = Model(database), iter([VERSION, "tiny 2"])
    studio = BulkLabelStudio(40, backend=model.answer)
    with pytest.raises(BulkPredictionError, match="tiny 2 was activated for project 7 meanwhile"):
        bulk(studio, way, database, model, in_use=lambda: next(versions)).run()
    assert len(studio.stored) == 8


def test_predictions_of_another_version_do_not_count(way: str, database: Database) -> None:
    model = Model(database)
    studio = BulkLabelStudio(2, backend=model.answer)
    studio._retrieve = lambda numbers: studio._create({"task": numbers[0], **model.answer([{"id": numbers[0]}])[0]})  # type: ignore[method-assign]
    studio.store(1, {"model_version": "tiny 0", "score": 0.1, "result": []})
    studio.store(2, {"model_version": VERSION, "score": 0.1, "result": []})
    assert (run(studio, way, database, model).already, len(studio.of(1))) == (1, 2)


def test_nothing_predicted_leaves_the_shown_version_alone(way: str, database: Database) -> None:
    model = Model(database, blind=frozenset({1}))
    studio = BulkLabelStudio(1, backend=model.answer)
    assert run(studio, way, database, model).predicted == 0
    assert studio.shown is None


@pytest.mark.slow
def test_the_desks_own_pipeline_gives_both_ways_the_same_predictions(way: str, tmp_path: Path) -> None:
    files = {f"{n}.png": desks.png(seed=n) for n in (1, 2, 3)}
    del files["3.png"]
    model = desks.write_model(tmp_path / "model")
    with desks.image_server(files) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path, model, url), work_off_queue=False)
        version = desk.models.announced(PROJECT).model_version

        def predict(tasks: list[Json]) -> list[Json]:
            return desk.predictions.answer(tasks, desks.CONFIG, PROJECT)

        studio = BulkLabelStudio(3, backend=predict, label_config=desks.CONFIG, url=url)
        client = studio.client()
        ways = {
            "retrieve": Retrieval(client, PROJECT, version, database=desk.database),
            "push": Pushing(client, PROJECT, version, desk.predictions),
        }
        done = BulkPrediction(
            client, PROJECT, version, ways[way], database=desk.database, in_use=lambda: version, patience=0
        ).run()
        assert (done.predicted, [one.task for one in done.failed]) == (2, [3])
        for number in (1, 2):
            [prediction] = studio.of(number)
            with desk.database.read() as session:
                recorded = predictions.latest_for_task(session, instance=url, task_id=number)
            assert recorded is not None
            assert prediction["result"] == recorded.result
            assert prediction["score"] == pytest.approx(predict([studio.tasks[number]])[0]["score"])
        assert [one.task_id for one in kept(desk.database)] == [3]
        desk.close()
