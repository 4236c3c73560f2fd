"""Insert a row unless its key was recorded before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, inspect
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.schema import Base


def insert_once(session: Session, row: type[Base], values: Mapping[str, Any]) -> bool:
    """Insert `values`; False when another unit of work recorded one of the row's unique keys first.

    The caller has looked for the key in the same unit of work. On SQLite nothing can have come between, as a writing
    unit of work holds the only write lock. On PostgreSQL it can, and then this waits for the other to commit or undo.
    """
    if session.get_bind().dialect.name == "sqlite":
        session.execute(insert(row).values(**values))
        return True
    key = inspect(row).primary_key
    statement = postgresql.insert(row).values(**values).on_conflict_do_nothing().returning(*key)
    return session.execute(statement).first() is not None
