"""Retrieving through Label Studio: waiting for the desk's version, and for a desk that is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backend.bulk_prediction import BulkPrediction, BulkPredictionError
from backend.label_studio.errors import LabelStudioFailedError
from backend.requests_in_hand import RequestsInHand
from backend.retrieval import Retrieval, RetrievalError, await_version
from db import failures, jobs
from db.engine import Database
from tests.backend.bulk_label_studio import PROJECT, BulkLabelStudio


class SwitchingLabelStudio:
    """Its backend says a version each time it is listed, the last one for ever."""

    def __init__(self, *versions: str | None) -> None:
        self.versions = list(versions)

    def ml_backends(self, _: int) -> list[dict[str, Any]]:
        if not self.versions:
            return []
        version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        return [{"title": "Inspection", "model_version": version}, {"title": "another", "model_version": "x"}]


def test_a_version_that_is_still_being_loaded_is_waited_for() -> None:
    studio = SwitchingLabelStudio("v1", "v1", "v2")
    await_version(studio, 1, "v2", pause=0)  # type: ignore[arg-type]
    assert studio.versions == ["v2"]


def test_waiting_for_a_version_ends_with_what_answers_instead() -> None:
    with pytest.raises(RetrievalError, match="answers project 1 with v1, though v2 is in use"):
        await_version(SwitchingLabelStudio("v1"), 1, "v2", seconds=0.05, pause=0.01)  # type: ignore[arg-type]
    with pytest.raises(RetrievalError, match="inspection connect --project 1"):
        await_version(SwitchingLabelStudio(), 1, "v2")  # type: ignore[arg-type]


def _answered(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"model_version": "v1", "score": 0.5, "result": [{"task": task["id"]}]} for task in tasks]


def _run(studio: BulkLabelStudio, database_url: str, *, answer_seconds: float = 0) -> tuple[BulkPrediction, Database]:
    client, database = studio.client(), Database(database_url)
    way = Retrieval(client, PROJECT, "v1", database=database, answer_seconds=answer_seconds, poll_seconds=0)
    return BulkPrediction(client, PROJECT, "v1", way, database=database, in_use=lambda: "v1", patience=0), database


def _away(studio: BulkLabelStudio, first: int, last: int) -> Callable[[], bool]:
    """Between these requests to retrieve, counted from 0."""
    return lambda: first <= studio.count("retrieve") <= last


def test_a_desk_that_is_started_again_is_waited_for_and_no_task_fails(sqlite_url: str) -> None:
    studio = BulkLabelStudio(40, backend=_answered)
    studio.backend_is_away = _away(studio, 3, 5)
    bulk, database = _run(studio, sqlite_url)
    done = bulk.run()
    assert (done.predicted, done.failed) == (40, ())
    with database.read() as session:
        assert failures.recent(session) == ()
    database.close()


def test_a_desk_that_does_not_come_back_ends_the_run_with_advice_and_fails_no_tasks(sqlite_url: str) -> None:
    studio = BulkLabelStudio(400, backend=_answered)
    studio.backend_is_away = _away(studio, 3, 10_000)
    bulk, database = _run(studio, sqlite_url)
    with pytest.raises(BulkPredictionError, match=r"The desk does not come back .*start `inspection serve`"):
        bulk.run()
    assert len(studio.stored) == 16
    with database.read() as session:
        assert failures.recent(session) == ()
    database.close()


class Killed(BaseException):
    """The process ends here."""


def _killed_in_the_first_request(studio: BulkLabelStudio, database_url: str) -> None:
    def kill(kind: str, nth: int) -> None:
        if (kind, nth) == ("retrieve", 0):
            raise Killed

    studio.after = kill
    bulk, database = _run(studio, database_url, answer_seconds=60)
    with pytest.raises(Killed):
        bulk.run()
    database.close()
    studio.after = lambda _kind, _nth: None


def test_what_label_studio_stores_after_a_run_was_killed_is_not_asked_for_again(database_url: str) -> None:
    studio = BulkLabelStudio(20, backend=_answered)
    studio.store_after_looks = 4
    _killed_in_the_first_request(studio, database_url)
    assert studio.stored == []
    bulk, database = _run(studio, database_url, answer_seconds=60)
    assert bulk.run().failed == ()
    database.close()
    assert {number: len(studio.of(number)) for number in studio.tasks} == dict.fromkeys(studio.tasks, 1)


def test_a_request_that_brought_nothing_is_waited_for_no_longer_than_it_can_take(sqlite_url: str) -> None:
    studio = BulkLabelStudio(20, backend=_answered)
    database = Database(sqlite_url)
    in_hand = RequestsInHand(database, studio.url, PROJECT, seconds=0.5, poll_seconds=0.01)
    looked_for: list[int] = []

    def never(task: int) -> bool:
        looked_for.append(task)
        return False

    with pytest.raises(Killed), in_hand.asking([3, 4], never):
        raise Killed
    with in_hand.asking([5], never):
        assert looked_for == [], "another task's request was waited for"
    with in_hand.asking([4, 5], never):
        assert {*looked_for} == {3}, "all of a request are waited for, the first first"
    with database.read() as session:
        assert jobs.unsettled(session, f"retrieve {studio.url} {PROJECT}") == frozenset()
    database.close()


def test_a_request_that_failed_is_in_nobodys_way(sqlite_url: str) -> None:
    studio = BulkLabelStudio(20, backend=_answered)
    database = Database(sqlite_url)
    in_hand = RequestsInHand(database, studio.url, PROJECT, seconds=3600, poll_seconds=0.01)
    with pytest.raises(LabelStudioFailedError), in_hand.asking([3], lambda _: False):
        raise LabelStudioFailedError("no such luck", 500)
    with in_hand.asking([3], lambda _: False):
        pass
    database.close()
