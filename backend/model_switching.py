"""Switching models: a version checked, kept and put in use for a project or the desk, and that taken back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backend.connection import what_cannot_be_said
from backend.label_studio.binding import bind_known
from backend.label_studio.errors import LabelStudioError
from backend.label_studio.labeling_config import LabelingConfigError, parse
from backend.model_loading import model_version_string
from backend.model_registration import registration
from backend.models_in_use import ModelIdentity, own_card, scope_of, store_of
from db import model_events, model_locations, model_versions, predictions
from db.errors import ModelSwitchError
from inspection_models.model_card import CARD_FILE, read_card

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from backend.label_studio.client import LabelStudioClient
    from backend.settings import Settings
    from db.engine import Database
    from db.records import ModelEvent, ModelScope, ModelVersion
    from inspection_models.model_card import ModelCard

_SHORTEST_FINGERPRINT = 6
_NOT_FOUND = 404


class SwitchRefusedError(RuntimeError):
    """A model is not put in use; the message says why and what to do."""


@dataclass(frozen=True)
class Switch:
    """What a switch came to.

    Attributes:
        event: as recorded; None where nothing had to be changed.
        model: in use now in the scope.
        projects: of Label Studio that this model answers now.
        notes: what the labeling configurations cannot say, and what Label Studio was not told, a sentence each.
    """

    event: ModelEvent | None
    model: ModelIdentity
    projects: tuple[int, ...]
    notes: tuple[str, ...]


class ModelSwitching:
    """Puts model versions in use, once everything that can be checked was.

    Args:
        client: of the desk's Label Studio; None where no key is set, which is enough as long as no project is
            concerned.
    """

    def __init__(self, settings: Settings, database: Database, client: LabelStudioClient | None) -> None:
        self._settings = settings
        self._database = database
        self._client = client
        self._store = store_of(settings)

    def activate(self, model: str, project_id: int | None, *, actor: str, note: str | None) -> Switch:
        """Put a version in use for a project, or for the desk and all projects without a version of their own.

        The model directory is copied into the data directory first, so that it cannot vanish under the desk.

        Args:
            model: a model directory, or a registered version by name and version, or by its fingerprint's beginning.

        Raises:
            SwitchRefusedError: no such model, or a project's labeling configuration cannot say its classes.
            ModelError: the model is damaged.
            LabelStudioError: the projects concerned cannot be looked at.
            DatabaseError: it is retired, another model was registered under its name and version, or the database is
                away.
        """
        card = self._kept(self._source(model))
        identity = ModelIdentity.of(card)
        scope = scope_of(self._settings, project_id)
        projects, notes = self._fitting_projects(identity, scope)
        with self._database.write() as session:
            registered = model_versions.register(session, registration(card))
            model_locations.record(session, card.fingerprint, str(self._store.directory(card.fingerprint).absolute()))
            event = model_events.activate(session, registered.id, scope, actor=actor, note=note)
        return Switch(event, identity, projects, (*notes, *self._show(projects)))

    def take_back(self, project_id: int | None, *, actor: str, note: str | None) -> Switch:
        """Undo the last activation for a project or the desk, so that the version in use before it is again.

        Raises:
            SwitchRefusedError: a project's labeling configuration cannot say the former version's classes, or somebody
                else switched in the meantime.
            ModelError: the former version cannot be found unharmed.
            LabelStudioError: the projects concerned cannot be looked at.
            DatabaseError: there is nothing to take back, the former version is retired (INSPECTION_MODEL's among them),
                or the database is away.
        """
        scope = scope_of(self._settings, project_id)
        with self._database.read() as session:
            standing = model_events.activations(session, scope)
        identity = self._uncovered(standing, scope)
        projects, notes = self._fitting_projects(identity, scope)
        with self._database.write() as session:
            event = model_events.take_back(session, scope, actor=actor, note=note)
            still = event.undoes_event_id == standing[-1].model_event_id
            if not still or self._below(session, standing, scope) != identity:
                raise SwitchRefusedError(f"the model of {scope} was switched meanwhile; look at it, then try again")
        return Switch(event, identity, projects, (*notes, *self._show(projects)))

    def retire(self, model: str, *, actor: str, note: str | None) -> tuple[ModelVersion, ModelEvent | None]:
        """End a version's use; the event is None where it was retired before.

        Raises:
            SwitchRefusedError: no such version.
            DatabaseError: it is in use, or the database is away.
        """
        version = self._registered(model)
        own = own_card(self._settings)
        with self._database.write() as session:
            # Before anything is read, lest the desk's activation be taken back between the look and the retirement.
            model_events.take_turns(session)
            desk_has_own = bool(model_events.activations(session, model_events.DESK))
            if own is not None and own.fingerprint == version.fingerprint and not desk_has_own:
                raise ModelSwitchError(
                    f"model {version.name} {version.version} is in use for the desk, as INSPECTION_MODEL names it and "
                    "nothing was activated; activate another version first"
                )
            return version, model_events.retire(session, version.model_version_id, actor=actor, note=note)

    def reinstate(self, model: str, *, actor: str, note: str | None) -> tuple[ModelVersion, ModelEvent | None]:
        """Take a retirement back; the event is None where the version is not retired.

        Raises:
            SwitchRefusedError: no such version.
            DatabaseError: the database is away.
        """
        version = self._registered(model)
        with self._database.write() as session:
            return version, model_events.reinstate(session, version.model_version_id, actor=actor, note=note)

    def _source(self, model: str) -> Path:
        """The directory to take a model from."""
        if (Path(model) / CARD_FILE).is_file():
            return Path(model)
        return self._located(self._registered(model).fingerprint)

    def _located(self, fingerprint: str) -> Path:
        with self._database.read() as session:
            recorded = model_locations.of(session, fingerprint)
        return self._store.locate(fingerprint, (*recorded, str(self._settings.resolved_model)))

    def _registered(self, model: str) -> ModelVersion:
        with self._database.read() as session:
            known = model_versions.everything(session)
        found = [one for one in known if _answers_to(one, model)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(f"{model_version_string(one)} ({one.fingerprint[:12]})" for one in found or known) or "none"
        if found:
            raise SwitchRefusedError(f"{model!r} could be {names}; give more of the fingerprint")
        raise SwitchRefusedError(f"{model!r} is no model directory, and no version registered here is ({names})")

    def _kept(self, source: Path) -> ModelCard:
        """The card of the kept copy, loaded once as the desk will load it."""
        from inspection_models.classifier import DefectClassifier  # noqa: PLC0415 - brings torch in

        return DefectClassifier.load(self._store.keep(source)).card

    def _uncovered(self, standing: tuple[ModelEvent, ...], scope: ModelScope) -> ModelIdentity:
        """What will be in use once the last activation is taken back."""
        if not standing:
            raise ModelSwitchError(f"nothing was activated for {scope} that could be taken back")
        with self._database.read() as session:
            identity = self._below(session, standing, scope)
        self._located(identity.fingerprint)
        return identity

    def _below(self, session: Session, standing: tuple[ModelEvent, ...], scope: ModelScope) -> ModelIdentity:
        below = standing[-2:-1]
        if not below and scope != model_events.DESK:
            below = model_events.activations(session, model_events.DESK)[-1:]
        before = below[0].model_version_id if below else None
        version = None if before is None else model_versions.find(session, before)
        if version is not None:
            return ModelIdentity.of(version)
        # Nothing activated is left, so INSPECTION_MODEL's model answers again.
        own = read_card(self._settings.resolved_model / CARD_FILE)
        registered = model_versions.find_by_fingerprint(session, own.fingerprint)
        if registered is not None and registered.model_version_id in model_events.retired(session):
            raise ModelSwitchError(
                f"model {own.name} {own.version}, which INSPECTION_MODEL names and which would be in use for {scope} "
                "again, is retired; activate another version, or allow its use with `inspection models reinstate`"
            )
        return ModelIdentity.of(own)

    def _fitting_projects(self, model: ModelIdentity, scope: ModelScope) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The projects concerned, each of which can say the model's classes, and what it can only half say."""
        projects, notes = [], []
        for number in self._concerned(scope):
            unbound = self._unbound(number, model, must_exist=scope.project_id is not None)
            if unbound is not None:
                projects.append(number)
                notes += [f"project {number}: {sentence}" for sentence in unbound]
        return tuple(projects), tuple(notes)

    def _concerned(self, scope: ModelScope) -> tuple[int, ...]:
        if scope.project_id is not None:
            return (scope.project_id,)
        with self._database.read() as session:
            known = predictions.projects(session, instance=self._settings.label_studio_url)
            used = model_events.in_use(session)
        return tuple(number for number in known if scope_of(self._settings, number) not in used)

    def _unbound(self, number: int, model: ModelIdentity, *, must_exist: bool) -> tuple[str, ...] | None:
        """What a project's labeling configuration cannot say; None where the project is gone."""
        if self._client is None:
            raise SwitchRefusedError(
                f"whether project {number} can say the classes of {model.model_version} cannot be looked up; "
                "set INSPECTION_LABEL_STUDIO_API_KEY"
            )
        try:
            project = self._client.project(number)
        except LabelStudioError as error:
            if error.status == _NOT_FOUND and not must_exist:
                return None
            raise
        try:
            config = parse(str(project.get("label_config") or ""))
        except LabelingConfigError as error:
            raise SwitchRefusedError(f"project {number}: {error}") from error
        binding = bind_known(config, model.classes, model.good_class, self._settings.label_mapping)
        if binding.unsayable:
            raise SwitchRefusedError(
                f"project {number} cannot say {', '.join(binding.unsayable)} of {model.model_version}: "
                + "; ".join(binding.unbound)
            )
        return what_cannot_be_said(config, binding, model)

    def _show(self, projects: tuple[int, ...]) -> Iterator[str]:
        """Have Label Studio ask for the switched model's answer with each task it opens next.

        Left alone it would go on showing the answers of the version that it showed last, and hide any other's.
        """
        for number in projects:
            if self._client is None:
                continue
            try:
                backends = self._client.ml_backends(number)
                if backends:
                    self._client.update_project(number, model_version=backends[0]["title"])
                else:
                    yield f"project {number} has no ML backend; run `inspection connect --project {number}`"
            except LabelStudioError as error:
                yield f"Label Studio goes on showing earlier answers in project {number}: {error}"


def _answers_to(version: ModelVersion, name: str) -> bool:
    by_fingerprint = len(name) >= _SHORTEST_FINGERPRINT and version.fingerprint.startswith(name.lower())
    names = (version.version, f"{version.name} {version.version}", model_version_string(version))
    return by_fingerprint or name in names
