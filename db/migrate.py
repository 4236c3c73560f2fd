"""Bring a database to this program's schema, or say how far it is from it. Needs no alembic.ini: works from a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from db import triggers
from db.engine import Database, parse_url
from db.errors import SchemaOutdatedError

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Any fixed number: it keeps two upgrades of one PostgreSQL database apart.
_ADVISORY_LOCK = 0x1A5BEC7


def upgrade(url: str) -> str:
    """Create the schema or bring it to head, and set its triggers anew.

    Several processes may call it at once: they take turns. A revision that fails leaves the database as it was.

    Returns:
        The revision that the database is at now.

    Raises:
        DatabaseUrlError: the URL cannot be used.
        DatabaseError: the database does not answer or cannot be written, or a newer program has upgraded it.
    """
    location = parse_url(url)
    if location.get_backend_name() == "sqlite":
        Path(str(location.database)).absolute().parent.mkdir(parents=True, exist_ok=True)
    database = Database(url, create=True)
    try:
        with database.connect() as connection:
            _take_turns(connection)
            _refuse_newer(connection, database.name)
            configuration = _configuration()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
            triggers.install(connection)
    finally:
        database.close()
    return head()


def current(database: Database) -> str | None:
    """The revision that a database is at; None for one without a schema.

    Raises:
        DatabaseError: the database does not answer.
    """
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def head() -> str:
    """The revision that this program was built for."""
    revision = _scripts().get_current_head()
    if revision is None:
        raise RuntimeError("the package holds no schema revisions: it was built or installed incompletely")
    return revision


def require_head(database: Database) -> None:
    """Refuse to work on another schema than this program's.

    Raises:
        SchemaOutdatedError: the database is at another revision; the message says what to run.
        DatabaseError: the database does not answer.
    """
    found = current(database)
    if found == head():
        return
    if found is not None and found not in _known():
        raise _newer(database.name, found)
    raise SchemaOutdatedError(
        f"database {database.name} is at schema revision {found or 'none'}, this program needs {head()}; "
        "run `inspection db upgrade`"
    )


def _take_turns(connection: Connection) -> None:
    # On SQLite the connection's immediate transaction already holds the one write lock.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _refuse_newer(connection: Connection, name: str) -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in _known():
        raise _newer(name, found)


def _newer(name: str, found: str) -> SchemaOutdatedError:
    return SchemaOutdatedError(
        f"database {name} is at schema revision {found}, which this program does not know; "
        "it was upgraded by a newer one: install that"
    )


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", "db:migrations")
    configuration.set_main_option("path_separator", "os")
    return configuration


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_configuration())


def _known() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}
