"""Fixtures for all rooms: an empty database of either kind, with the product's schema."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

from db import migrate
from db.engine import Database
from tests.postgresql import Server, database_name, find_binaries, running_server

# The inner loop does with SQLite.
DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.slow))


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Exported networks stay with this test session: neither does it find older ones, nor leave any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSPECTION_ENGINE_CACHE", str(tmp_path_factory.mktemp("engines")))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks of a few layers only lose by threads, and other work on the machine makes that worse."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    return database_name(url)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database at head, to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "head.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without a schema, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'inspection.db'}"
        return
    server: Server = request.getfixturevalue("postgresql_server")
    url = server.new_database()
    yield url
    server.drop(url)


@pytest.fixture(scope="session")
def shared_postgresql_url(postgresql_server: Server, migrated_template: str) -> str:
    """URL of the PostgreSQL database at head that tests use one after the other."""
    return postgresql_server.new_database(template=migrated_template)


@pytest.fixture
def postgresql_url(postgresql_server: Server, shared_postgresql_url: str) -> Iterator[str]:
    """URL of an empty PostgreSQL database at head; not for tests that change its schema."""
    yield shared_postgresql_url
    postgresql_server.empty(shared_postgresql_url)


@pytest.fixture
def sqlite_url(migrated_file: Path) -> str:
    """URL of an empty SQLite database at head."""
    for left_over in migrated_file.parent.glob("inspection.db*"):
        left_over.unlink()
    return f"sqlite:///{shutil.copy(migrated_file, migrated_file.with_name('inspection.db'))}"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database at head, once of each kind; not for tests that change its schema."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def open_database() -> Callable[[str], Database]:
    """Opens a database once a session: SQLAlchemy compiles each statement anew for each engine."""
    return cache(partial(Database, busy_timeout=20))


@pytest.fixture
def database(database_url: str, open_database: Callable[[str], Database]) -> Iterator[Database]:
    """An empty database at head, once of each kind; not for tests that change its schema."""
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def own_database_url(empty_database_url: str) -> str:
    """URL of a database at head, once of each kind, that a test may do anything with."""
    migrate.upgrade(empty_database_url)
    return empty_database_url


@pytest.fixture
def own_database(own_database_url: str) -> Iterator[Database]:
    """A database at head, once of each kind, that a test may do anything with."""
    opened = Database(own_database_url, busy_timeout=20)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def payloads() -> Path:
    """The requests captured from a real Label Studio."""
    folder = Path(__file__).parents[1] / ".." / "shared" / "label_studio_payloads"
    if not folder.is_dir():
        reason = "the captured Label Studio payloads (../shared/label_studio_payloads) are not here"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
