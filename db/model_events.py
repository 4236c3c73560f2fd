"""Which model version is in use where: append-only events, and the state that follows from them.

A scope is one Label Studio project or the whole desk; a project without a version of its own follows the desk. An
activation puts a version on top of what the scope had before, and taking it back uncovers that again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import ColumnElement, and_, func, select, text

from db.errors import ModelSwitchError, UnknownModelVersionError
from db.records import ModelEvent, ModelEventKind, ModelScope
from db.schema import ModelEventRow, ModelVersionRow
from db.types import new_id, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy.orm import Session

DESK = ModelScope()
"""The scope that every project without a version of its own follows."""

# Any fixed number: it lets the switches of one PostgreSQL database take turns.
_ADVISORY_LOCK = 0x1A5BEC8


def activate(
    session: Session, model_version_id: UUID, scope: ModelScope, *, actor: str, note: str | None = None
) -> ModelEvent | None:
    """Put a version in use; None where it was in use in this scope already.

    Raises:
        UnknownModelVersionError: no such version is registered.
        ModelSwitchError: it is retired.
    """
    take_turns(session)
    _refuse_unusable(session, model_version_id)
    standing = activations(session, scope)
    if standing and standing[-1].model_version_id == model_version_id:
        return None
    return _record(session, "activated", model_version_id, scope, actor=actor, note=note)


def take_back(session: Session, scope: ModelScope, *, actor: str, note: str | None = None) -> ModelEvent:
    """Undo the activation that stands in a scope, so that what was in use before is in use again.

    Raises:
        ModelSwitchError: there is no activation to take back, or what was in use before is retired by now.
    """
    take_turns(session)
    standing = activations(session, scope)
    if not standing:
        raise ModelSwitchError(f"nothing was activated for {scope} that could be taken back")
    before = standing[-2].model_version_id if len(standing) > 1 else None
    if before is not None:
        _refuse_unusable(session, before)
    return _record(session, "taken back", before, scope, actor=actor, note=note, undoes=standing[-1].model_event_id)


def retire(session: Session, model_version_id: UUID, *, actor: str, note: str | None = None) -> ModelEvent | None:
    """End a version's use: it cannot be activated any more. None where it was retired before.

    Raises:
        UnknownModelVersionError: no such version is registered.
        ModelSwitchError: it is in use.
    """
    take_turns(session)
    _refuse_unknown(session, model_version_id)
    if model_version_id in retired(session):
        return None
    scopes = [scope for scope, used in in_use(session).items() if used == model_version_id]
    if scopes:
        raise ModelSwitchError(
            f"{_name(session, model_version_id)} is in use for {', '.join(map(str, scopes))}; "
            "activate another version there first"
        )
    return _record(session, "retired", model_version_id, DESK, actor=actor, note=note)


def reinstate(session: Session, model_version_id: UUID, *, actor: str, note: str | None = None) -> ModelEvent | None:
    """Take a retirement back. None where the version is not retired.

    Raises:
        UnknownModelVersionError: no such version is registered.
    """
    take_turns(session)
    _refuse_unknown(session, model_version_id)
    if model_version_id not in retired(session):
        return None
    return _record(session, "reinstated", model_version_id, DESK, actor=actor, note=note)


def choices(session: Session, scope: ModelScope) -> tuple[str, ...]:
    """Fingerprints of the versions that a scope can answer with, the one in use first.

    After it come those that were in use before it, the latest first, then the desk's in the same order; without the
    retired ones, and each once. Empty where nothing was ever activated.
    """
    events = _events(session, _of(scope))
    standing = [event.model_version_id for event in reversed(_stack(events))]
    if scope != DESK:
        standing += [event.model_version_id for event in reversed(_stack(_events(session, _of(DESK))))]
    gone = retired(session)
    wanted = [one for one in dict.fromkeys(standing) if one is not None and one not in gone]
    rows = select(ModelVersionRow.model_version_id, ModelVersionRow.fingerprint).where(
        ModelVersionRow.model_version_id.in_(wanted)
    )
    known = {row.model_version_id: row.fingerprint for row in session.execute(rows)} if wanted else {}
    return tuple(known[one] for one in wanted)


def activations(session: Session, scope: ModelScope) -> tuple[ModelEvent, ...]:
    """The activations of one scope that stand, the one in use last."""
    return tuple(_stack(_events(session, _of(scope))))


def in_use(session: Session) -> dict[ModelScope, UUID]:
    """The version in use in each scope that has one of its own; the desk's under `DESK`."""
    events = history(session)
    scopes = dict.fromkeys(event.scope for event in events if event.kind == "activated")
    used = {}
    for scope in scopes:
        standing = _stack(event for event in events if event.scope == scope)
        if standing and standing[-1].model_version_id is not None:
            used[scope] = standing[-1].model_version_id
    return used


def retired(session: Session) -> frozenset[UUID]:
    """The versions whose use has ended."""
    rows = session.execute(
        select(ModelEventRow.model_version_id, ModelEventRow.kind)
        .where(ModelEventRow.kind.in_(("retired", "reinstated")))
        .order_by(ModelEventRow.number)
    )
    last = {row.model_version_id: row.kind for row in rows}
    return frozenset(identifier for identifier, kind in last.items() if identifier is not None and kind == "retired")


def history(session: Session) -> tuple[ModelEvent, ...]:
    """All events in the order they came about."""
    return _events(session)


def take_turns(session: Session) -> None:
    """Wait until nobody else is switching; from then to the end of the unit of work what is read here stays so.

    Whatever is switched calls it by itself; a caller that reads before it switches calls it before it reads.
    """
    # On SQLite a writing unit of work already holds the one write lock.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _stack(events: Iterable[ModelEvent]) -> list[ModelEvent]:
    """The activations of one scope that stand, the one in use last."""
    standing: list[ModelEvent] = []
    for event in events:
        if event.kind == "activated":
            standing.append(event)
        elif event.kind == "taken back":
            standing.pop()
    return standing


def _of(scope: ModelScope) -> ColumnElement[bool]:
    if scope == DESK:
        return ModelEventRow.instance.is_(None)
    return and_(ModelEventRow.instance == scope.instance, ModelEventRow.project_id == scope.project_id)


def _events(session: Session, *conditions: ColumnElement[bool]) -> tuple[ModelEvent, ...]:
    rows = session.scalars(select(ModelEventRow).where(*conditions).order_by(ModelEventRow.number))
    return tuple(_read(row) for row in rows)


def _refuse_unusable(session: Session, model_version_id: UUID) -> None:
    _refuse_unknown(session, model_version_id)
    if model_version_id in retired(session):
        raise ModelSwitchError(
            f"{_name(session, model_version_id)} is retired; `inspection models reinstate` would allow its use again"
        )


def _refuse_unknown(session: Session, model_version_id: UUID) -> None:
    if session.get(ModelVersionRow, model_version_id) is None:
        raise UnknownModelVersionError(f"no model version {model_version_id} is registered; register the model first")


def _name(session: Session, model_version_id: UUID) -> str:
    row = session.get_one(ModelVersionRow, model_version_id)
    return f"model {row.name} {row.version}"


def _record(
    session: Session,
    kind: ModelEventKind,
    model_version_id: UUID | None,
    scope: ModelScope,
    *,
    actor: str,
    note: str | None,
    undoes: UUID | None = None,
) -> ModelEvent:
    row = ModelEventRow(
        model_event_id=new_id(),
        number=(session.scalar(select(func.max(ModelEventRow.number))) or 0) + 1,
        kind=kind,
        model_version_id=model_version_id,
        instance=scope.instance,
        project_id=scope.project_id,
        undoes_event_id=undoes,
        actor=actor,
        note=note,
        occurred_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return _read(row)


def _read(row: ModelEventRow) -> ModelEvent:
    return ModelEvent(
        model_event_id=row.model_event_id,
        number=row.number,
        kind=cast("ModelEventKind", row.kind),
        model_version_id=row.model_version_id,
        scope=ModelScope(row.instance, row.project_id),
        undoes_event_id=row.undoes_event_id,
        actor=row.actor,
        note=row.note,
        occurred_at=row.occurred_at,
    )
