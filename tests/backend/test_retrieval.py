"""Bulk prediction through a Label Studio that reports success whatever happened."""

from __future__ import annotations

from typing import Any

import pytest

from backend.retrieval import RetrievalError, await_version, retrieve


class ForgetfulLabelStudio:
    """Stores no answer for a chunk that holds a slow task, and never one for a broken task; always says all is well."""

    def __init__(self, tasks: int, *, slow: set[int] = frozenset(), broken: set[int] = frozenset()) -> None:
        self.stored: dict[int, str] = {}
        self.asked: list[list[int]] = []
        self.shown: str | None = None
        self._numbers = range(1, tasks + 1)
        self._slow, self._broken = set(slow), broken

    def tasks(self, _: int) -> list[dict[str, Any]]:
        return [
            {"id": n, "predictions": [{"model_version": self.stored[n]}] if n in self.stored else []}
            for n in self._numbers
        ]

    def retrieve_predictions(self, _: int, numbers: list[int]) -> dict[str, Any]:
        self.asked.append(list(numbers))
        if not (self._slow & set(numbers) and len(numbers) > 1):
            self.stored |= {n: "v1" for n in numbers if n not in self._broken}
        return {"response_code": 200}

    def predictions(self, _: int) -> list[dict[str, Any]]:
        return [{"task": n, "model_version": version} for n, version in self.stored.items()]

    def update_project(self, _: int, *, model_version: str) -> None:
        assert model_version in self.stored.values(), "Label Studio refuses a version it has no predictions of"
        self.shown = model_version


def test_every_task_is_asked_for_in_chunks_and_the_version_is_shown() -> None:
    studio, heard = ForgetfulLabelStudio(10), []
    done = retrieve(studio, 1, "v1", progress=lambda n, total: heard.append((n, total)), chunk=4)
    assert (done.tasks, done.already, done.predicted, done.unanswered) == (10, 0, 10, ())
    assert [len(part) for part in studio.asked] == [4, 4, 2]
    assert heard == [(4, 10), (8, 10), (10, 10)]
    assert studio.shown == "v1"


def test_a_chunk_lost_to_a_time_out_is_asked_for_again_one_by_one() -> None:
    studio = ForgetfulLabelStudio(6, slow={2})
    done = retrieve(studio, 1, "v1", chunk=3)
    assert done.predicted == 6
    assert studio.asked == [[1, 2, 3], [4, 5, 6], [1], [2], [3]]


def test_what_stays_unanswered_is_named_and_a_second_run_goes_on_there() -> None:
    studio = ForgetfulLabelStudio(3, broken={3})
    assert retrieve(studio, 1, "v1").unanswered == (3,)
    studio.asked.clear()
    again = retrieve(studio, 1, "v1")
    assert (again.already, again.predicted, again.unanswered) == (2, 0, (3,))
    assert studio.asked == [[3], [3]]


def test_predictions_of_another_model_do_not_count() -> None:
    studio = ForgetfulLabelStudio(2)
    studio.stored = {1: "v0"}
    done = retrieve(studio, 1, "v1")
    assert (done.already, done.predicted) == (0, 2)


def test_nothing_answered_leaves_the_shown_version_alone() -> None:
    studio = ForgetfulLabelStudio(1, broken={1})
    assert retrieve(studio, 1, "v1").unanswered == (1,)
    assert studio.shown is None


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
