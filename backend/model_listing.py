"""Every model version known here: where it is in use, whether it is retired, where it lies and in what state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.models_in_use import own_card, store_of
from db import model_events, model_locations, model_versions
from inspection_models.model_card import ModelError

if TYPE_CHECKING:
    from backend.settings import Settings
    from db.engine import Database
    from db.records import ModelScope, ModelVersion


LEARNED_KEY = "reviews"
"""Under which the record of a version's training says what it learned from reviews."""


@dataclass(frozen=True)
class ListedModel:
    """One model version.

    Attributes:
        version: as registered.
        used_by: where it is in use; the desk's own scope for all projects that have no version of their own.
        is_named_by_setting: whether it is in use for the desk because INSPECTION_MODEL names it.
        is_retired: whether its use has ended.
        waits: whether it learned from reviews and was never put in use: it waits at the gate.
        directory: that holds it unharmed; None where there is none.
        problem: why there is none; "" where there is.
    """

    version: ModelVersion
    used_by: tuple[ModelScope, ...]
    is_named_by_setting: bool
    is_retired: bool
    waits: bool
    directory: str | None
    problem: str

    @property
    def figures(self) -> dict[str, Any]:
        """How well it did on the images held out for the test, as far as its card says."""
        test = self.version.metrics.get("test")
        return dict(test) if isinstance(test, dict) else {}


def list_models(settings: Settings, database: Database) -> tuple[ListedModel, ...]:
    """All registered versions, the oldest first. Reads every byte of their directories.

    Raises:
        DatabaseError: the database is away.
    """
    with database.read() as session:
        known = model_versions.everything(session)
        used = model_events.in_use(session)
        gone = model_events.retired(session)
        tried = {event.model_version_id for event in model_events.history(session)}
        places = {one.fingerprint: model_locations.of(session, one.fingerprint) for one in known}
    own = None if model_events.DESK in used else _own_fingerprint(settings)
    store = store_of(settings)
    found = []
    for version in known:
        directory, problem = None, ""
        try:
            directory = str(store.locate(version.fingerprint, places[version.fingerprint]))
        except ModelError as error:
            problem = str(error)
        found.append(
            ListedModel(
                version=version,
                used_by=tuple(scope for scope, one in used.items() if one == version.model_version_id),
                is_named_by_setting=version.fingerprint == own,
                is_retired=version.model_version_id in gone,
                waits=LEARNED_KEY in version.training
                and version.model_version_id not in tried
                and version.fingerprint != own,
                directory=directory,
                problem=problem,
            )
        )
    return tuple(found)


def _own_fingerprint(settings: Settings) -> str | None:
    try:
        own = own_card(settings)
    except ModelError:
        return None
    return own.fingerprint if own is not None else None
