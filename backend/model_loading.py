"""The models of one process: loaded in the background, a few at a time, waited for by whoever needs them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from inspection_models.model_card import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.decider import Decider
    from db.records import ModelVersion
    from inspection_models.model_card import ModelCard

logger = logging.getLogger(__name__)

_KEPT = 3
_RETRY_SECONDS = 30.0


class ModelUnavailableError(RuntimeError):
    """A model could not be loaded, or is not loaded yet."""


def model_version_string(model: ModelCard | ModelVersion) -> str:
    """A model version as Label Studio shows and compares it: the same in /setup and in every prediction."""
    fingerprint = "" if model.version in model.fingerprint else f" ({model.fingerprint[:8]})"
    return f"{model.name} {model.version}{fingerprint}"


class ModelPool:
    """Loaded models by fingerprint. Loading takes seconds, so no request has to do it itself.

    A model is handed out whole or not at all; whoever holds one may go on with it after it left the pool.

    Args:
        load: loads the model of a fingerprint; called by one thread at a time.
        failed: hears the fingerprint and the reason when a load failed.
        needed: the fingerprints of models that stay however long unused, as somebody was last answered with them.
        kept: how many models are held, unless more are needed; of the others the one unused for longest goes first,
            once the model that it makes room for is loaded.
        retry_seconds: for so long a load that failed is not tried again.
    """

    def __init__(
        self,
        load: Callable[[str], Decider],
        *,
        failed: Callable[[str, str], None],
        needed: Callable[[], frozenset[str]] = frozenset,
        kept: int = _KEPT,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._load = load
        self._failed = failed
        self._needed = needed
        self._kept = kept
        self._retry_seconds = retry_seconds
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._loaded: OrderedDict[str, Decider] = OrderedDict()
        self._loading: set[str] = set()
        self._failures: dict[str, tuple[str, float]] = {}

    def ready(self, fingerprint: str) -> Decider | None:
        """The model where it is loaded; never waits."""
        with self._changed:
            if fingerprint in self._loaded:
                self._loaded.move_to_end(fingerprint)
            return self._loaded.get(fingerprint)

    def request(self, fingerprint: str) -> None:
        """Begin to load a model in the background, unless it is loaded, being loaded, or failed a moment ago."""
        with self._changed:
            _, tried = self._failures.get(fingerprint, ("", -self._retry_seconds))
            too_soon = fingerprint in self._failures and time.monotonic() - tried < self._retry_seconds
            if fingerprint in self._loaded or fingerprint in self._loading or too_soon:
                return
            self._loading.add(fingerprint)
        threading.Thread(target=self._load_one, args=(fingerprint,), name="model-loader", daemon=True).start()

    def wait(self, fingerprint: str, seconds: float) -> Decider:
        """The model, waiting for it while it is being loaded.

        Raises:
            ModelUnavailableError: it could not be loaded, or not within so many seconds.
        """
        deadline = time.monotonic() + seconds
        while True:
            decider = self.ready(fingerprint)
            if decider is not None:
                return decider
            self.request(fingerprint)
            with self._changed:
                if fingerprint not in self._loading:
                    if reason := self.failure(fingerprint):
                        raise ModelUnavailableError(reason)
                    continue
                if not self._changed.wait(deadline - time.monotonic()):
                    raise ModelUnavailableError("the model is still being loaded; ask again in a minute")

    def failure(self, fingerprint: str) -> str | None:
        """Why the last attempt to load a model failed; None where it did not."""
        with self._changed:
            return self._failures.get(fingerprint, (None, 0.0))[0]

    def _load_one(self, fingerprint: str) -> None:
        with self._turn:
            started = time.perf_counter()
            decider, reason = None, ""
            try:
                decider = self._load(fingerprint)
                logger.info("model %s loaded in %.1f s", fingerprint[:12], time.perf_counter() - started)
            except Exception as error:
                reason = str(error) or type(error).__name__
                traced = not isinstance(error, ModelError)
                logger.error("model %s cannot be loaded: %s", fingerprint[:12], reason, exc_info=traced)  # noqa: TRY400
            with self._changed:
                was_told = self.failure(fingerprint) == reason
                if decider is not None:
                    self._loaded[fingerprint] = decider
                    self._failures.pop(fingerprint, None)
                    self._make_room(fingerprint)
                else:
                    self._failures[fingerprint] = (reason, time.monotonic())
                self._loading.discard(fingerprint)
                self._changed.notify_all()
        if decider is None and not was_told:
            self._failed(fingerprint, reason)

    def _make_room(self, newest: str) -> None:
        """Let go of what is over, the one unused for longest first; the caller holds the lock."""
        stay = self._needed() | {newest}
        idle = [fingerprint for fingerprint in self._loaded if fingerprint not in stay]
        for fingerprint in idle[: max(0, len(self._loaded) - self._kept)]:
            del self._loaded[fingerprint]
