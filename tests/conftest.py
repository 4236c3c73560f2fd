"""Fixtures for all rooms: an empty database of either kind, with the product's schema."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import migrate
from db.engine import Database
from tests.postgresql import Server, find_binaries, running_server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL server of this test session's own."""
    binaries = find_binaries()
    if binaries is None:
        reason = "no PostgreSQL server found (initdb); install one, e.g. apt-get install postgresql"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running_server(binaries) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgresql_server: Server) -> str:
    """Name of a PostgreSQL database at head, to copy."""
    url = postgresql_server.new_database()
    migrate.upgrade(url)
    return url.split("@/", 1)[1].split("?", 1)[0]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without a schema, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'inspection.db'}"
        return
    server: Server = request.getfixturevalue("postgresql_server")
    url = server.new_database()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database at head, once of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'inspection.db'}"
        migrate.upgrade(url)
        yield url
        return
    server: Server = request.getfixturevalue("postgresql_server")
    url = server.new_database(template=request.getfixturevalue("migrated_template"))
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database at head, once of each kind."""
    opened = Database(database_url, busy_timeout=20)
    yield opened
    opened.close()
