"""Which model version answers for which project: asked of the database at every request, loaded without a pause."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.model_loading import ModelPool, ModelUnavailableError, model_version_string
from backend.model_store import ModelStore
from db import failures, model_events, model_locations, model_versions
from db.errors import DatabaseError
from db.model_events import DESK
from db.records import ModelScope, NewFailure
from inspection_models.model_card import CARD_FILE, ModelCard, ModelError, read_card

if TYPE_CHECKING:
    from backend.decider import Decider
    from backend.settings import Settings
    from db.engine import Database
    from db.records import ModelVersion

logger = logging.getLogger(__name__)

# Within Label Studio's own patience with /predict (100 s).
_PATIENCE_SECONDS = 90.0


@dataclass(frozen=True)
class ModelIdentity:
    """What Label Studio needs to know of a model version.

    Attributes:
        fingerprint: hex digest over all that a decision depends on.
        model_version: as Label Studio shows it.
        classes: in the order of the network's outputs.
        good_class: the class without a defect; None where every class is a defect.
        names_several: whether one image may be of several defect classes.
    """

    fingerprint: str
    model_version: str
    classes: tuple[str, ...]
    good_class: str | None
    names_several: bool

    @classmethod
    def of(cls, model: ModelCard | ModelVersion) -> ModelIdentity:
        """That of a model card, or of a registered version."""
        activation = model.activation if isinstance(model, ModelCard) else (model.card or {}).get("activation")
        return cls(
            model.fingerprint,
            model_version_string(model),
            tuple(model.classes),
            model.good_class,
            activation == "sigmoid",
        )


@dataclass(frozen=True)
class AnsweringModel:
    """The loaded model that answers one request, and what it is."""

    identity: ModelIdentity
    decider: Decider


def own_card(settings: Settings) -> ModelCard | None:
    """The card of the model that INSPECTION_MODEL names; None where there is none.

    Raises:
        ModelError: there is one, and it is damaged or of another release.
    """
    path = settings.resolved_model / CARD_FILE
    return read_card(path) if path.exists() else None


def store_of(settings: Settings) -> ModelStore:
    """Where this desk keeps the models that were activated."""
    return ModelStore(settings.data_dir / "models")


def scope_of(settings: Settings, project_id: int | None) -> ModelScope:
    """A project of this desk's Label Studio, or the whole desk."""
    return DESK if project_id is None else ModelScope(settings.label_studio_url, project_id)


def version_in_use(settings: Settings, database: Database, project_id: int | None) -> ModelIdentity:
    """The version that is meant to answer for a project, whether or not it can be loaded.

    Raises:
        ModelError: nothing was activated, and INSPECTION_MODEL names no usable model.
        DatabaseError: the database is away.
    """
    with database.read() as session:
        wanted = model_events.choices(session, scope_of(settings, project_id))
        model = model_versions.find_by_fingerprint(session, wanted[0]) if wanted else None
    return ModelIdentity.of(read_card(settings.resolved_model / CARD_FILE) if model is None else model)


class ModelsInUse:
    """The models of one process, by the project that they answer for.

    What was activated for a project answers for it; else what was activated for the desk; else the model that
    INSPECTION_MODEL names. A version that was just activated is loaded while the former one goes on answering. One that
    cannot be loaded is kept as a failure, and what was in use before it answers.

    Args:
        own: the card of INSPECTION_MODEL's model.

    Attributes:
        last_known: the version that answered or was announced last, "" before any.
    """

    def __init__(self, settings: Settings, database: Database, own: ModelCard | None) -> None:
        self._settings = settings
        self._database = database
        self._own = own
        self._store = store_of(settings)
        self._pool = ModelPool(self._load, failed=self._keep_failure, needed=self._last_answers)
        self._identities: dict[str, ModelIdentity] = {}
        self._answered_last: dict[ModelScope, str] = {}
        self.last_known = ""
        if own is not None:
            self._identities[own.fingerprint] = ModelIdentity.of(own)

    def start(self) -> None:
        """Begin to load what the desk answers with."""
        try:
            for fingerprint in self._wanted(DESK)[:1]:
                self._pool.request(fingerprint)
                self.last_known = self._identity(fingerprint).model_version
        except DatabaseError as error:
            logger.warning("which model to load is asked again with the first request: %s", error)

    def answering(self, project_id: int | None) -> AnsweringModel:
        """The model for one request, waiting for it where none is loaded yet.

        Raises:
            ModelUnavailableError: no version can be loaded, or not within 90 s.
            DatabaseError: the database is away.
        """
        scope = scope_of(self._settings, project_id)
        wanted = self._wanted(scope)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for _ in wanted:
            fingerprint = self._pick(scope, wanted)
            try:
                decider = self._pool.wait(fingerprint, deadline - time.monotonic())
            except ModelUnavailableError:
                if self._pool.failure(fingerprint) is None:
                    raise
                continue
            self._answered_last[scope] = fingerprint
            identity = self._identity(fingerprint)
            self.last_known = identity.model_version
            return AnsweringModel(identity, decider)
        raise ModelUnavailableError(self._nothing_answers(wanted))

    def announced(self, project_id: int | None) -> ModelIdentity:
        """What would answer for a project now; never waits for a model.

        Where the database is away it is what answered last.

        Raises:
            ModelUnavailableError: nothing is in use.
            DatabaseError: the database is away, and nothing answered before.
        """
        scope = scope_of(self._settings, project_id)
        try:
            wanted = self._wanted(scope)
        except DatabaseError:
            last = self._answered_last.get(scope, self._own.fingerprint if self._own else None)
            if last is None:
                raise
            return self._identity(last)
        if not wanted:
            raise ModelUnavailableError(self._nothing_answers(wanted))
        identity = self._identity(self._pick(scope, wanted))
        self.last_known = identity.model_version
        return identity

    def in_use(self, project_id: int | None) -> ModelIdentity | None:
        """What is meant to answer for a project and is not known to be unusable; None where nothing is in use.

        Nothing is loaded for the question: another may answer still.

        Raises:
            DatabaseError: the database is away.
        """
        wanted = self._wanted(scope_of(self._settings, project_id))
        return self._identity(self._usable(wanted)) if wanted else None

    def versions(self) -> tuple[ModelIdentity, ...]:
        """All versions in use, the desk's first, each once.

        Raises:
            DatabaseError: the database is away.
        """
        found = [self._answers_now(scope, wanted) for scope in self._scopes() if (wanted := self._wanted(scope))]
        return tuple(map(self._identity, dict.fromkeys(found)))

    def problems(self) -> tuple[str, ...]:
        """Why nothing answers where no project has a version of its own; empty when something does."""
        wanted = self._wanted(DESK)
        if not wanted:
            return (self._nothing_answers(wanted),)
        picked = self._pick(DESK, wanted)
        if self._pool.ready(picked) is not None:
            return ()
        if all(self._pool.failure(fingerprint) for fingerprint in wanted):
            return (self._nothing_answers(wanted),)
        return ("the model is still being loaded",)

    def warnings(self) -> tuple[str, ...]:
        """Where another version answers than the one activated, and why, a sentence each."""
        found = []
        for scope in self._scopes():
            wanted = self._wanted(scope)
            reason = self._pool.failure(wanted[0]) if wanted else None
            if reason is not None:
                stands_in = self._answers_now(scope, wanted)
                told = "nothing" if self._pool.failure(stands_in) else self._identity(stands_in).model_version
                meant = self._identity(wanted[0]).model_version
                found.append(f"{told} answers for {scope}, as {meant}, which was activated, cannot be used: {reason}")
        return tuple(found)

    def _scopes(self) -> tuple[ModelScope, ...]:
        """The desk, and the projects of its Label Studio that have a version of their own."""
        with self._database.read() as session:
            used = model_events.in_use(session)
        return (DESK, *(scope for scope in used if scope.instance == self._settings.label_studio_url))

    def _wanted(self, scope: ModelScope) -> tuple[str, ...]:
        """Fingerprints of the versions that may answer in a scope, the one in use first."""
        own = self._own.fingerprint if self._own else None
        with self._database.read() as session:
            activated = model_events.choices(session, scope)
            if own is None or own in activated:
                return activated
            model = model_versions.find_by_fingerprint(session, own)
            is_retired = model is not None and model.model_version_id in model_events.retired(session)
        return activated if is_retired else (*activated, own)

    def _pick(self, scope: ModelScope, wanted: tuple[str, ...]) -> str:
        """The version that answers now, and a beginning made with loading what should."""
        self._pool.request(wanted[0])
        self._pool.request(self._usable(wanted))
        return self._answers_now(scope, wanted)

    def _usable(self, wanted: tuple[str, ...]) -> str:
        return next((one for one in wanted if self._pool.failure(one) is None), wanted[0])

    def _answers_now(self, scope: ModelScope, wanted: tuple[str, ...]) -> str:
        """The version in use, or what answers while or because that cannot. Nothing is loaded for the question."""
        first = self._usable(wanted)
        if self._pool.ready(first) is None:
            former = self._answered_last.get(scope)
            # What was retired or taken back meanwhile is not wanted any more, so the new one is waited for.
            if former in wanted and former != first and self._pool.ready(former) is not None:
                return former
        return first

    def _last_answers(self) -> frozenset[str]:
        """What answers on where the version in use cannot yet, or cannot any more."""
        return frozenset(self._answered_last.copy().values())

    def _identity(self, fingerprint: str) -> ModelIdentity:
        if fingerprint not in self._identities:
            with self._database.read() as session:
                model = model_versions.find_by_fingerprint(session, fingerprint)
            if model is None:
                raise ModelUnavailableError(f"no model version with fingerprint {fingerprint} is registered")
            self._identities[fingerprint] = ModelIdentity.of(model)
        return self._identities[fingerprint]

    def _nothing_answers(self, wanted: tuple[str, ...]) -> str:
        if not wanted:
            return (
                "no model is in use: activate one with `inspection models activate DIRECTORY`, or let INSPECTION_MODEL "
                "name one that is not retired"
            )
        told = (f"{self._identity(one).model_version}: {self._pool.failure(one)}" for one in wanted)
        return f"no model can be used ({'; '.join(told)})"

    def _load(self, fingerprint: str) -> Decider:
        from backend.decider import Decider  # noqa: PLC0415 - brings torch in
        from backend.pipeline import DecisionPipeline  # noqa: PLC0415
        from inspection_models.classifier import DefectClassifier  # noqa: PLC0415
        from inspection_models.compute import use_threads  # noqa: PLC0415

        with self._database.read() as session:
            recorded = model_locations.of(session, fingerprint)
        if self._own is not None and fingerprint == self._own.fingerprint:
            recorded = (str(self._settings.resolved_model.absolute()), *recorded)
        directory = self._store.locate(fingerprint, recorded)
        use_threads(self._settings.threads)
        classifier = DefectClassifier.load(directory, device=self._settings.device)
        if classifier.version.fingerprint != fingerprint:
            raise ModelError(
                f"{directory} was overwritten with {model_version_string(classifier.card)} while it was read; activate "
                "the version that is wanted"
            )
        pipeline = DecisionPipeline(classifier, max_pixels=self._settings.max_image_pixels)
        decider = Decider(pipeline, self._database)
        with self._database.write() as session:
            model_locations.record(session, fingerprint, str(directory.absolute()))
        return decider

    def _keep_failure(self, fingerprint: str, reason: str) -> None:
        """Remember a model that could not be loaded, once for each reason."""
        try:
            failure = NewFailure(
                kind="model",
                reason=f"model {self._identity(fingerprint).model_version} cannot be used: {reason}",
                detail=fingerprint,
                instance=self._settings.label_studio_url,
            )
            with self._database.write() as session:
                failures.record(session, failure)
        except (DatabaseError, ModelUnavailableError) as error:
            logger.warning("the failure to load model %s was not kept: %s", fingerprint[:12], error)
