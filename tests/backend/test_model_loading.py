"""Models loaded in the background: never half, never too many, and a failure told once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from backend.model_loading import ModelPool, ModelUnavailableError


class Loader:
    """Loads a "model" by name; some are held back until let go, some are broken."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.broken: dict[str, str] = {}
        self.held = threading.Event()
        self.held.set()
        self._at_once = 0
        self.most_at_once = 0

    def __call__(self, name: str) -> Any:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        assert self.held.wait(30)
        self._at_once -= 1
        if name in self.broken:
            raise OSError(self.broken[name])
        self.loaded.append(name)
        return f"model {name}"

    def failed(self, name: str, reason: str) -> None:
        self.told.append((name, reason))


@pytest.fixture
def loader() -> Loader:
    return Loader()


def pool(loader: Loader, **options: Any) -> ModelPool:
    return ModelPool(loader, failed=loader.failed, **options)


def test_a_model_is_loaded_once_whoever_asks(loader: Loader) -> None:
    models = pool(loader)
    loader.held.clear()
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(models.wait("a", 30))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert models.ready("a") is None
    loader.held.set()
    for thread in threads:
        thread.join()
    assert found == ["model a"] * 5
    assert loader.loaded == ["a"]
    assert models.ready("a") == "model a"


def test_models_are_loaded_one_after_the_other(loader: Loader) -> None:
    models = pool(loader)
    loader.held.clear()
    for name in "abc":
        models.request(name)
    loader.held.set()
    assert [models.wait(name, 30) for name in "abc"] == ["model a", "model b", "model c"]
    assert loader.most_at_once == 1


def test_the_one_unused_for_longest_goes_first(loader: Loader) -> None:
    models = pool(loader, kept=2)
    models.wait("a", 30)
    models.wait("b", 30)
    models.wait("a", 30)
    models.wait("c", 30)
    assert [models.ready(name) is not None for name in "abc"] == [True, False, True]
    assert models.wait("b", 30) == "model b"
    assert loader.loaded == ["a", "b", "c", "b"]


def test_waiting_ends(loader: Loader) -> None:
    models = pool(loader)
    loader.held.clear()
    with pytest.raises(ModelUnavailableError, match="still being loaded"):
        models.wait("a", 0.01)
    assert models.failure("a") is None
    loader.held.set()
    assert models.wait("a", 30) == "model a"


def test_a_failure_is_told_once_for_each_reason_and_tried_again_later(loader: Loader) -> None:
    loader.broken = {"a": "no such file"}
    models = pool(loader, retry_seconds=0)
    for _ in range(3):
        with pytest.raises(ModelUnavailableError, match="no such file"):
            models.wait("a", 30)
    loader.broken["a"] = "changed or damaged"
    with pytest.raises(ModelUnavailableError):
        models.wait("a", 30)
    assert loader.told == [("a", "no such file"), ("a", "changed or damaged")]
    loader.broken.clear()
    assert models.wait("a", 30) == "model a"
    assert models.failure("a") is None


def test_a_failure_is_not_tried_again_at_once(loader: Loader) -> None:
    loader.broken = {"a": "no such file"}
    models = pool(loader)
    with pytest.raises(ModelUnavailableError):
        models.wait("a", 30)
    loader.broken.clear()
    with pytest.raises(ModelUnavailableError, match="no such file"):
        models.wait("a", 30)
    assert loader.loaded == []


def test_a_model_that_fails_makes_no_room(loader: Loader) -> None:
    loader.broken = dict.fromkeys("xyz", "no such file")
    models = pool(loader, kept=2)
    models.wait("a", 30)
    models.wait("b", 30)
    for name in "xyz":
        with pytest.raises(ModelUnavailableError):
            models.wait(name, 30)
    assert (models.ready("a"), models.ready("b")) == ("model a", "model b")


def test_room_is_made_once_the_new_model_is_there(loader: Loader) -> None:
    models = pool(loader, kept=1)
    models.wait("a", 30)
    loader.held.clear()
    models.request("b")
    assert models.ready("a") == "model a"
    loader.held.set()
    assert models.wait("b", 30) == "model b"
    assert models.ready("a") is None


def test_what_answers_somebody_stays_however_long_unused(loader: Loader) -> None:
    models = pool(loader, kept=2, needed=lambda: frozenset("ab"))
    for name in "abcd":
        models.wait(name, 30)
    assert [models.ready(name) is not None for name in "abcd"] == [True, True, False, True]
