"""Is the database fit to work with? For `inspection db check` and for readiness probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import jobs, migrate, triggers
from db.errors import DatabaseError

if TYPE_CHECKING:
    from db.engine import Database


@dataclass(frozen=True)
class DatabaseCheck:
    """What was found.

    Attributes:
        database: its URL without password.
        revision: of its schema; None if it has none or does not answer.
        head: the revision that this program needs.
        missing_triggers: names of guards that do not stand.
        is_writable: whether a row could be written; the row is not kept.
        problems: what is wrong and what to do, a sentence each; empty when all is well.
    """

    database: str
    revision: str | None
    head: str
    missing_triggers: tuple[str, ...]
    is_writable: bool
    problems: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems


def check(database: Database) -> DatabaseCheck:
    """Look at schema, guards and room to write. Problems are told, not raised."""
    problems: list[str] = []
    revision: str | None = None
    absent: tuple[str, ...] = ()
    is_writable = False
    try:
        revision = migrate.current(database)
        migrate.require_head(database)
        absent = _missing_triggers(database)
        if absent:
            problems.append(
                f"{database.name}: rows are not guarded against change, as triggers are missing or altered "
                f"({', '.join(absent)}); find out who did it, then run `inspection db upgrade`"
            )
        _try_writing(database)
        is_writable = True
    except DatabaseError as error:
        problems.append(str(error))
    return DatabaseCheck(database.name, revision, migrate.head(), absent, is_writable, tuple(problems))


def _missing_triggers(database: Database) -> tuple[str, ...]:
    with database.read() as session:
        return triggers.missing(session.connection())


def _try_writing(database: Database) -> None:
    with database.write() as session, session.begin_nested() as trial:
        jobs.enqueue(session, "check", None)
        trial.rollback()
