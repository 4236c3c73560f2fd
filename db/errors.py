"""What can go wrong with the database, as typed errors that say what to do next and never carry a password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from db.redaction import redact_database_url

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.exc import SQLAlchemyError

APPEND_ONLY = "append-only"
"""The word by which the triggers' messages are known again, on both databases."""


class DatabaseError(RuntimeError):
    """The database could not do what was asked; nothing of the unit of work was kept."""


class DatabaseUrlError(ValueError):
    """The database URL cannot be used."""


class DatabaseUnreachableError(DatabaseError):
    """The database does not answer, refuses the login, or its file is missing or damaged."""


class SchemaOutdatedError(DatabaseError):
    """The database's schema is not the one that this program was built for."""


class DatabaseReadOnlyError(DatabaseError):
    """The database, or this unit of work, may only be read."""


class DatabaseFullError(DatabaseError):
    """There is no room left to write."""


class DatabaseBusyError(DatabaseError):
    """Another unit of work held what this one needed for too long; trying again can succeed."""


class AppendOnlyError(DatabaseError):
    """A recorded row was about to be changed, removed or replaced."""


class InvalidRecordError(DatabaseError):
    """A row breaks a rule of the schema; the message names the constraint."""


class LeaseLostError(DatabaseError):
    """A job is no longer this worker's: its lease ran out, and it was handed to another or settled."""


class UnknownModelVersionError(DatabaseError):
    """A decision names a model version that was never registered."""


class ModelVersionConflictError(DatabaseError):
    """Another model was registered under this name and version before."""


class ModelSwitchError(DatabaseError):
    """A model version cannot be activated, taken back, retired or reinstated as things stand; the message says why."""


_UPGRADE = "run `inspection db upgrade`"
_FREE_SPACE = "free disk space or raise the database's limit, then try again"
_GRANT = "check mount, file rights and role"

_SQLITE: tuple[tuple[str, type[DatabaseError], str], ...] = (
    (APPEND_ONLY, AppendOnlyError, "recorded rows stay as they are; record a new one instead"),
    ("unable to open database file", DatabaseUnreachableError, f"check the path, or {_UPGRADE} to create it"),
    ("not a database", DatabaseUnreachableError, "restore it from a backup"),
    ("malformed", DatabaseUnreachableError, "restore it from a backup"),
    ("disk i/o error", DatabaseUnreachableError, "check the disk that holds it"),
    ("no such table", SchemaOutdatedError, _UPGRADE),
    ("no such column", SchemaOutdatedError, _UPGRADE),
    ("has no column named", SchemaOutdatedError, _UPGRADE),
    ("readonly database", DatabaseReadOnlyError, _GRANT),
    ("disk is full", DatabaseFullError, _FREE_SPACE),
    ("locked", DatabaseBusyError, "try again"),
)
# By SQLSTATE, the longest prefix first (PostgreSQL manual, appendix A).
_POSTGRESQL: tuple[tuple[str, type[DatabaseError], str], ...] = (
    ("25006", DatabaseReadOnlyError, _GRANT),
    ("42501", DatabaseReadOnlyError, _GRANT),
    ("42P01", SchemaOutdatedError, _UPGRADE),
    ("42703", SchemaOutdatedError, _UPGRADE),
    ("53100", DatabaseFullError, _FREE_SPACE),
    ("55P03", DatabaseBusyError, "try again"),
    ("57P", DatabaseUnreachableError, "try again when the server is up"),
    ("08", DatabaseUnreachableError, "check host, port and network"),
    ("28", DatabaseUnreachableError, "check user and password"),
    ("3D", DatabaseUnreachableError, "create the database first"),
    ("40", DatabaseBusyError, "try again"),
    ("53", DatabaseBusyError, "the server is short of connections or memory; try again"),
)


def translate(error: SQLAlchemyError, url: URL) -> DatabaseError | None:
    """The typed error that stands for a driver's, or None where there is no better word for it."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseBusyError(f"all connections to {_name(url)} are in use; try again, or run fewer workers")
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    said = str(error.orig)
    if url.get_backend_name() == "sqlite":
        found = next(((kind, advice) for word, kind, advice in _SQLITE if word in said.lower()), None)
    else:
        found = _postgresql(error, said)
    if found is None and isinstance(error, IntegrityError):
        found = InvalidRecordError, "give values that keep this rule"
    if found is None:
        return None
    kind, advice = found
    return kind(f"{_name(url)}: {(said.strip().splitlines() or ['no reason given'])[0]}; {advice}")


def _postgresql(error: DBAPIError, said: str) -> tuple[type[DatabaseError], str] | None:
    if APPEND_ONLY in said:
        return AppendOnlyError, "recorded rows stay as they are; record a new one instead"
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # libpq gives no SQLSTATE when no connection came about or an open one broke.
        unreachable = isinstance(error, OperationalError) or error.connection_invalidated
        return (DatabaseUnreachableError, "check that the server runs and the URL is right") if unreachable else None
    return next(((kind, advice) for prefix, kind, advice in _POSTGRESQL if state.startswith(prefix)), None)


def _name(url: URL) -> str:
    return f"database {redact_database_url(url)}"
