"""Retrieving through Label Studio: waiting for the desk's version, and for a desk that is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backend.bulk_prediction import BulkPrediction, BulkPredictionError
from backend.retrieval import Retrieval, RetrievalError, await_version
from db import failures
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


def _run(studio: BulkLabelStudio, database_url: str) -> tuple[BulkPrediction, Database]:
    client, database = studio.client(), Database(database_url)
    way = Retrieval(client, PROJECT, "v1", answer_seconds=0, poll_seconds=0)
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
