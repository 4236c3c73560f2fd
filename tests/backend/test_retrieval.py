"""Waiting for the version that a desk answers a project with."""

from __future__ import annotations

from typing import Any

import pytest

from backend.retrieval import RetrievalError, await_version


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
