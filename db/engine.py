"""Connections and units of work: SQLite in a file, or PostgreSQL by URL."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from db.errors import DatabaseUnreachableError, DatabaseUrlError, translate
from db.redaction import redact_database_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_CONNECT_TIMEOUT_S = 10
_READ_SQLITE = {"sqlite_begin": "BEGIN"}
# PostgreSQL's default shows each statement another state.
_READ_POSTGRESQL = {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
# A deferred transaction that reads and then writes is refused at once, whatever the busy timeout; this one waits.
_WRITE_SQLITE = {"sqlite_begin": "BEGIN IMMEDIATE"}


class Database:
    """A database and its pool of connections.

    Opening it connects to nothing; the first unit of work does.

    Args:
        url: `sqlite:///path/to/file.db` or `postgresql://user:password@host/name`.
        busy_timeout: seconds that a writer waits for another before DatabaseBusyError (SQLite).
        create: make the SQLite file where there is none. Only migrations want this: elsewhere a missing file is an
            error, not an empty database.

    Raises:
        DatabaseUrlError: the URL is no such thing.
    """

    def __init__(self, url: str, *, busy_timeout: float = 30.0, create: bool = False) -> None:
        self._url = parse_url(url)
        if self._url.get_backend_name() == "sqlite":
            self._engine = _sqlite_engine(self._url, busy_timeout, create=create)
            self._reader = self._engine.execution_options(**_READ_SQLITE)
        else:
            self._engine = _postgresql_engine(self._url)
            self._reader = self._engine.execution_options(**_READ_POSTGRESQL)
        self._writer = self._engine.execution_options(**_WRITE_SQLITE)

    @property
    def engine(self) -> Engine:
        """The engine beneath, for migrations and tests."""
        return self._engine

    @property
    def name(self) -> str:
        """The URL as it may be shown: without its password."""
        return redact_database_url(self._url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A unit of work that sees one state of the database and writes nothing.

        Raises:
            DatabaseError: one of db.errors, by cause.
        """
        with self._translated(), Session(self._reader, autoflush=False, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A unit of work that is committed as a whole at exit, and undone as a whole by an exception.

        Keep it short: SQLite has one writer at a time. Fetch and compute first, then open it.

        Raises:
            DatabaseError: one of db.errors, by cause.
        """
        with self._translated(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A writing connection in one transaction, for migrations and checks.

        Raises:
            DatabaseError: one of db.errors, by cause.
        """
        with self._translated(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            known = translate(error, self._url)
            if known is None:
                raise
            raise known from error


def parse_url(text: str) -> URL:
    """A database URL with its driver filled in.

    Raises:
        DatabaseUrlError: not a URL, another kind of database, or SQLite without a file. The text is not repeated, as it
            may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(
            "the database URL cannot be read; write sqlite:///path/to/file.db or postgresql://user:password@host/name"
        ) from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if not url.database or url.database == ":memory:" or url.query:
            raise DatabaseUrlError("SQLite needs a plain file here: sqlite:///path/to/file.db")
        return url.set(drivername="sqlite+pysqlite")
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        if url.host is not None and "@" in url.host:
            raise DatabaseUrlError("the database URL has an @ too many; if it is in the password, write it as %40")
        return url.set(drivername="postgresql+psycopg")
    raise DatabaseUrlError(f"database kind {url.drivername!r} is not supported; use sqlite or postgresql")


def _postgresql_engine(url: URL) -> Engine:
    return create_engine(
        url, pool_pre_ping=True, hide_parameters=True, connect_args={"connect_timeout": _CONNECT_TIMEOUT_S}
    )


def _sqlite_engine(url: URL, busy_timeout: float, *, create: bool) -> Engine:
    file = Path(str(url.database)).absolute().as_uri() + ("?mode=rwc" if create else "?mode=rw")

    def connect() -> sqlite3.Connection:
        # Isolation level None: the driver opens no transaction of its own, the "begin" event below does.
        return sqlite3.connect(file, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False)

    engine = create_engine(url, creator=connect, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        _set_up_sqlite(connection, busy_timeout)

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        begin = connection.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE")
        connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if begin == 'BEGIN' else 'OFF'}")
        connection.exec_driver_sql(begin)

    return engine


def _set_up_sqlite(connection: sqlite3.Connection, busy_timeout: float) -> None:
    mode = _write_ahead_log(connection, busy_timeout)
    if mode != "wal":
        raise DatabaseUnreachableError(
            f"SQLite cannot keep a write-ahead log beside the database file (journal mode {mode!r}); "
            "put the file on a local, writable disk"
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")
    connection.execute("PRAGMA trusted_schema = OFF")


def _write_ahead_log(connection: sqlite3.Connection, patience: float) -> str:
    # SQLite does not wait for a lock when it switches the journal mode, so two first openers can collide.
    deadline = time.monotonic() + patience
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
