"""Pseudonyms: the record names inspectors only by a random id, and who that is can be erased."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from db.inserting import insert_once
from db.records import Actor
from db.schema import ActorRow
from db.types import utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def pseudonym(session: Session, *, instance: str, ls_user_id: int, display_name: str | None = None) -> uuid.UUID:
    """The id by which the record names a user, made on first sight. A new display name replaces the old one."""
    user = select(ActorRow).where(ActorRow.instance == instance, ActorRow.ls_user_id == ls_user_id)
    if session.scalars(user).one_or_none() is None:
        # Random, not derived: an id computed from the user could be computed again after erasure.
        insert_once(
            session,
            ActorRow,
            {
                "actor_id": uuid.uuid4(),
                "instance": instance,
                "ls_user_id": ls_user_id,
                "display_name": display_name,
                "created_at": utc_now(),
            },
        )
    known = session.scalars(user).one()
    if display_name is not None and known.display_name != display_name:
        known.display_name = display_name
        session.flush()
    return known.actor_id


def find(session: Session, actor_id: uuid.UUID) -> Actor | None:
    """Who stands behind a pseudonym."""
    row = session.get(ActorRow, actor_id)
    if row is None:
        return None
    return Actor(
        actor_id=row.actor_id,
        instance=row.instance,
        ls_user_id=row.ls_user_id,
        display_name=row.display_name,
        erased_at=row.erased_at,
    )


def erase(session: Session, actor_id: uuid.UUID) -> bool:
    """Forget who stands behind a pseudonym; its reviews stay. False when there is nobody to forget."""
    forgotten = session.execute(
        update(ActorRow)
        .where(ActorRow.actor_id == actor_id, ActorRow.erased_at.is_(None))
        .values(instance=None, ls_user_id=None, display_name=None, erased_at=utc_now())
        .returning(ActorRow.actor_id)
    )
    return forgotten.first() is not None
