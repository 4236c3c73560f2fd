"""The desk of one process: settings, database and model brought together, and taken apart again."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from backend import bounded_json
from backend.connection import what_cannot_be_said
from backend.credentials import CredentialsInUse
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.image_source import READ_SECONDS, TOTAL_SECONDS, ImageSource
from backend.label_studio.labeling_config import LabelingConfigError, parse
from backend.label_studio.payloads import (
    ANNOTATION_ACTIONS,
    PROJECT_FIELDS,
    PROJECT_UPDATED,
    START_TRAINING,
    Identity,
    WebhookProject,
)
from backend.learning.training_worker import TrainingWorker, ask_for_training
from backend.map_pictures import MapPictures
from backend.model_loading import ModelUnavailableError
from backend.models_in_use import ModelsInUse, own_card
from backend.predictions import PredictionService
from backend.questions import QuestionService
from backend.reconciliation_timer import ReconciliationTimer
from backend.reviews import WEBHOOK_JOB, ReviewService, stored_predictions
from backend.worker import QueueWorker
from db import failures, jobs, migrate, model_events
from db.check import check
from db.engine import Database
from db.records import NewFailure
from db.types import utc_now
from inspection_models.model_card import CARD_FILE, ModelError, read_card

if TYPE_CHECKING:
    from backend.models_in_use import ModelIdentity
    from backend.settings import Settings
    from inspection_models.model_card import ModelCard

logger = logging.getLogger(__name__)

Taken: TypeAlias = Literal["queued", "ignored", "a training waits or runs already"]
"""What became of an event of Label Studio's."""

_PROJECT: TypeAdapter[int] = TypeAdapter(Identity)

# A page waits for its picture or its answer, and others wait behind it.
_MAP_SECONDS = 15.0
# Label Studio asks again and again what it has asked already.
_TOLD_AGAIN_AFTER = timedelta(hours=1)


class Desk:
    """What the routes of one process share. Make it with `open`."""

    def __init__(
        self,
        settings: Settings,
        credentials: CredentialsInUse,
        database: Database,
        *,
        own: ModelCard | None,
        work_off_queue: bool,
    ) -> None:
        self.settings = settings
        self.credentials = credentials
        self.database = database
        self.software_version = version("inspection")
        self.models = ModelsInUse(settings, database, own)
        self._stop = threading.Event()
        service = ReviewService(database, settings, stored_predictions(settings))
        self._worker = QueueWorker(database, {WEBHOOK_JOB: service.handle})
        timer = ReconciliationTimer(settings, database)
        self._trainer = TrainingWorker(settings, database)
        self._threads = [
            threading.Thread(target=run, args=(self._stop,), name=name, daemon=True)
            for name, run, is_on in (
                ("queue-worker", self._worker.run, True),
                ("reconciler", timer.run, timer.is_on),
                ("trainer", self._trainer.run, True),
            )
            if work_off_queue and is_on
        ]
        self.predictions = PredictionService(
            self.models,
            image_source(settings),
            database,
            instance=settings.label_studio_url,
            mapping=settings.label_mapping,
        )
        self.questions = QuestionService(
            self.models, image_source(settings, total_seconds=_MAP_SECONDS), mapping=settings.label_mapping
        )
        self.map_pictures = MapPictures(
            image_source(settings, total_seconds=_MAP_SECONDS),
            database,
            self.models,
            instance=settings.label_studio_url,
            max_pixels=settings.max_image_pixels,
        )

    @classmethod
    def open(cls, settings: Settings, *, work_off_queue: bool) -> Desk:
        """Check everything that can be checked before the first request, and say clearly what is missing.

        The embedded database is brought up to date by itself; any other one by `inspection db upgrade`.

        Raises:
            ModelError: no usable model where the settings say, and none was activated.
            DatabaseError: the database is away or not at this release's schema.
            CredentialsError: the data directory cannot be used.
        """
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        credentials = CredentialsInUse(settings)
        if settings.database_url is None:
            migrate.upgrade(settings.resolved_database_url)
        database = Database(settings.resolved_database_url)
        migrate.require_head(database)
        own = _own_model(settings, database)
        return cls(settings, credentials, database, own=own, work_off_queue=work_off_queue)

    def start(self) -> None:
        """Load the model and work off the queue in the background."""
        self.models.start()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let the worker finish the job in hand, and close the database."""
        self._stop.set()
        self._worker.wake()
        self._trainer.wake()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=15)
        self.database.close()

    def problems(self) -> tuple[str, ...]:
        """What keeps this process from working; empty when it is ready."""
        dead = [
            f"the {thread.name} has ended; restart this process" for thread in self._threads if not thread.is_alive()
        ]
        found = check(self.database)
        return (*dead, *found.problems, *(self.models.problems() if found.is_ok else ()))

    def warnings(self) -> tuple[str, ...]:
        """What is not as it was asked for, though this process works.

        Raises:
            DatabaseError: the database is away.
        """
        return self.models.warnings()

    def bind_anew(self, project_id: int | None, label_config: str, model: ModelIdentity) -> tuple[str, ...]:
        """Which of a model's classes a project's labeling configuration has no words for, a sentence each.

        Each request brings its own configuration, so nothing is remembered of a former one; one in which nothing can be
        answered is kept as a failure.

        Raises:
            DatabaseError: the database is away, and there is such a failure to be kept.
        """
        try:
            config = parse(label_config)
        except LabelingConfigError as error:
            self.keep_unusable_configuration(project_id, str(error))
            return (str(error),)
        binding = self.predictions.bind(config, model)
        if not binding.usable:
            self.keep_unusable_configuration(
                project_id, "; ".join(binding.unbound) or "the labeling configuration has no label for any class"
            )
        return what_cannot_be_said(config, binding, model)

    def keep_unusable_configuration(self, project_id: int | None, reason: str) -> None:
        """Remember that nothing can be answered in a project's labeling configuration: once an hour, if it stays so.

        Raises:
            DatabaseError: the database is away.
        """
        failure = NewFailure(
            kind="labeling configuration",
            reason=reason,
            instance=self.settings.label_studio_url,
            project_id=project_id,
        )
        with self.database.write() as session:
            failures.record_news(session, failure, since=utc_now() - _TOLD_AGAIN_AFTER)

    def enqueue_webhook(self, body: bytes) -> Taken:
        """Write an event down to be worked off: an annotation's, or that a training is asked for.

        Of trainings one waits or runs at a time: asked for another, nothing is done.

        What is no event at all is kept as a failure: Label Studio does not look at the answer.

        Raises:
            DatabaseError: it could not be written, so Label Studio must not be told that it was.
        """
        try:
            event = event_of(body)
        except ValueError as error:
            self._keep_failure(
                WEBHOOK_JOB, f"a webhook's body is no event of Label Studio's ({error}); annotations may be missing"
            )
            return "ignored"
        if event["action"] == START_TRAINING:
            return self._ask_for_training(event)
        if event["action"] == PROJECT_UPDATED:
            self._look_at_project(event.get("project"))
        if event["action"] not in ANNOTATION_ACTIONS:
            return "ignored"
        with self.database.write() as session:
            jobs.enqueue(session, WEBHOOK_JOB, event)
        self._worker.wake()
        return "queued"

    def _ask_for_training(self, event: dict[str, Any]) -> Taken:
        try:
            project_id = _PROJECT.validate_python(event.get("project"))
        except ValidationError as error:
            self._keep_failure("training", f"a training was asked for in no known project: {error}")
            return "ignored"
        with self.database.write() as session:
            is_taken = ask_for_training(session, self.settings.label_studio_url, project_id)
        if not is_taken:
            logger.info("project %d asked for a training; one waits or runs already, and this one is left", project_id)
            return "a training waits or runs already"
        logger.info("project %d asked for a training", project_id)
        self._trainer.wake()
        return "queued"

    def _look_at_project(self, described: Any) -> None:
        """Say at once what a changed labeling configuration cannot say, and not only at the next prediction."""
        try:
            project = WebhookProject.model_validate(described)
            model = self.models.announced(project.id)
        except (ValidationError, ModelUnavailableError) as error:
            logger.warning("a changed project was not looked at: %s", error)
            return
        for sentence in self.bind_anew(project.id, project.label_config, model):
            logger.warning("project %s: %s", project.id, sentence)

    def keep_refused(self, path: str) -> None:
        """Remember that a request was too large to be read."""
        kind = {"/webhook": WEBHOOK_JOB, "/predict": "predict"}.get(path, "request")
        self._keep_failure(kind, f"a request to {path} was over INSPECTION_MAX_REQUEST_BYTES and was not read")

    def _keep_failure(self, kind: str, reason: str) -> None:
        logger.warning("%s", reason)
        with self.database.write() as session:
            failures.record(session, NewFailure(kind=kind, reason=reason, instance=self.settings.label_studio_url))


def _own_model(settings: Settings, database: Database) -> ModelCard | None:
    """The card of INSPECTION_MODEL's model, which may be missing or damaged only where another one was activated."""
    try:
        own = own_card(settings)
        reason = f"there is no model in {settings.resolved_model}"
    except ModelError as error:
        own, reason = None, str(error)
    if own is None:
        with database.read() as session:
            if not model_events.choices(session, model_events.DESK):
                # As a model directory that is not there is told of in the same words everywhere.
                read_card(settings.resolved_model / CARD_FILE)
        logger.warning("INSPECTION_MODEL cannot be used, and what was activated answers: %s", reason)
    return own


def event_of(body: bytes) -> dict[str, Any]:
    """A webhook's event without what must not be kept: of its project, which carries tokens, only what is read later.

    Raises:
        ValueError: no JSON object with an action, a number that is not finite, or too many levels.
    """
    event: Any = bounded_json.read(body)
    if not isinstance(event, dict) or not isinstance(event.get("action"), str):
        raise ValueError("it is no JSON object with an action")  # noqa: TRY004 - of the content, not of an argument
    project = event.get("project")
    if isinstance(project, dict):
        event["project"] = {name: project[name] for name in PROJECT_FIELDS if name in project}
    return event


def image_source(settings: Settings, *, total_seconds: float = TOTAL_SECONDS) -> ImageSource:
    """Where task images are read from, within the settings' bounds, each within `total_seconds`."""
    key = settings.label_studio_api_key
    client = LabelStudioClient(settings.label_studio_url, key.get_secret_value()) if key is not None else None
    return ImageSource(
        settings.label_studio_url,
        client.authorization if client is not None else None,
        allowed_hosts=settings.allowed_image_hosts,
        max_bytes=settings.max_image_bytes,
        read_seconds=min(READ_SECONDS, total_seconds),
        total_seconds=total_seconds,
    )
