"""The model of one process: loaded once, in the background, waited for by whoever needs it."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.decider import Decider
    from backend.settings import Settings
    from db.engine import Database
    from inspection_models.model_card import ModelCard

logger = logging.getLogger(__name__)

# Within Label Studio's own patience with /predict (100 s).
_PATIENCE_SECONDS = 90.0


class ModelUnavailableError(RuntimeError):
    """The model could not be loaded, or is not loaded yet."""


def model_version_string(card: ModelCard) -> str:
    """A model version as Label Studio shows and compares it: the same in /setup and in every prediction."""
    fingerprint = "" if card.version in card.fingerprint else f" ({card.fingerprint[:8]})"
    return f"{card.name} {card.version}{fingerprint}"


class ModelLoader:
    """Loads classifier and decider once. Importing torch takes seconds, so no request may have to do it."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._done = threading.Event()
        self._decider: Decider | None = None
        self._error: str | None = None

    def load(self) -> None:
        """Load; a failure is kept for those who ask."""
        started = time.perf_counter()
        try:
            self._decider = self._load()
            logger.info("model loaded from %s in %.1f s", self._settings.resolved_model, time.perf_counter() - started)
        except Exception as error:
            self._error = f"the model in {self._settings.resolved_model} cannot be used: {error}"
            logger.exception("the model cannot be loaded")
        finally:
            self._done.set()

    def decider(self) -> Decider:
        """The decider, waiting for it while it is being loaded.

        Raises:
            ModelUnavailableError: it could not be loaded, or not within 90 s.
        """
        if not self._done.wait(_PATIENCE_SECONDS):
            raise ModelUnavailableError("the model is still being loaded; ask again in a minute")
        if self._decider is None:
            raise ModelUnavailableError(self._error or "the model is not loaded")
        return self._decider

    def problems(self) -> tuple[str, ...]:
        """Why the model is not ready; empty when it is."""
        if not self._done.is_set():
            return ("the model is still being loaded",)
        return (self._error,) if self._error else ()

    def _load(self) -> Decider:
        from backend.decider import Decider  # noqa: PLC0415
        from backend.pipeline import DecisionPipeline  # noqa: PLC0415
        from inspection_models.classifier import DefectClassifier  # noqa: PLC0415
        from inspection_models.compute import use_threads  # noqa: PLC0415

        use_threads(self._settings.threads)
        classifier = DefectClassifier.load(self._settings.resolved_model, device=self._settings.device)
        return Decider(DecisionPipeline(classifier, max_pixels=self._settings.max_image_pixels), self._database)
