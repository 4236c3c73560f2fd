from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, text

from db import decisions, failures, jobs, migrate, model_versions
from db.engine import Database
from db.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseFullError,
    DatabaseReadOnlyError,
    DatabaseUnreachableError,
    DatabaseUrlError,
    InvalidRecordError,
    SchemaOutdatedError,
)
from db.records import NewFailure
from tests.db import samples
from tests.postgresql import Server, database_name

A_FAILURE = NewFailure(kind="predict", reason="the image cannot be read")


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url, busy_timeout=0.2)
    yield database
    database.close()


def count_failures(database: Database) -> int:
    with database.read() as session:
        return len(failures.recent(session))


def test_a_unit_of_work_is_kept_as_a_whole_or_not_at_all(database: Database) -> None:
    with database.write() as session:
        failures.record(session, A_FAILURE)
        failures.record(session, A_FAILURE)
    with pytest.raises(ZeroDivisionError), database.write() as session:
        failures.record(session, A_FAILURE)
        raise ZeroDivisionError
    assert count_failures(database) == 2


def test_a_reading_unit_of_work_cannot_write(database: Database) -> None:
    with pytest.raises(DatabaseReadOnlyError), database.read() as session:
        failures.record(session, A_FAILURE)
    with database.write() as session:  # the same pooled connection writes again
        failures.record(session, A_FAILURE)
    assert count_failures(database) == 1


def test_a_reading_unit_of_work_sees_one_state(database: Database) -> None:
    with database.read() as session:
        assert failures.recent(session) == ()
        with database.write() as writing:
            failures.record(writing, A_FAILURE)
        assert failures.recent(session) == ()
    assert count_failures(database) == 1


def test_sqlite_is_set_up_to_lose_nothing(sqlite: Database) -> None:
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "recursive_triggers": 1,
        "busy_timeout": 200,
    }
    with sqlite.write() as session:
        assert {name: session.scalar(text(f"PRAGMA {name}")) for name in expected} == expected


def test_writers_on_sqlite_begin_by_taking_the_lock(sqlite: Database) -> None:
    with sqlite.write() as first:
        first.execute(text("SELECT 1"))
        with pytest.raises(DatabaseBusyError, match="locked"), sqlite.write() as second:
            second.execute(text("SELECT 1"))
        assert count_failures(sqlite) == 0  # readers do not wait


def test_a_broken_rule_is_named(database: Database) -> None:
    with database.write() as session:
        model_versions.register(session, samples.model())
    with pytest.raises(InvalidRecordError, match="ck_decision_probability_range"), database.write() as session:
        decisions.record(session, samples.decision(probability=1.5))
    with database.read() as session:
        assert decisions.find_by_image(session, samples.sha("image")) == ()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "inspection.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=ro",
        "mysql://root:hunter2@localhost/x",
        "postgresql+psycopg2://root:hunter2@localhost/x",
        "postgresql://root:hunter2@localhost:port/x",
        "postgresql://root:p@hunter2@localhost/x",
    ],
)
def test_unusable_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        Database(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_any_spelling_of_postgresql_gets_the_one_driver(scheme: str) -> None:
    database = Database(f"{scheme}://u:hunter2@localhost/x")
    assert database.engine.url.drivername == "postgresql+psycopg"
    assert database.name == "postgresql+psycopg://u:***@localhost/x"


def test_a_dead_server_is_told_without_the_password() -> None:
    database = Database("postgresql://inspector:hunter2@127.0.0.1:1/inspection")
    with pytest.raises(DatabaseUnreachableError, match="check that the server runs") as caught:
        count_failures(database)
    told = "".join(traceback.format_exception(caught.value))
    assert "127.0.0.1" in told
    assert "hunter2" not in told


def test_secrets_among_the_options_are_not_shown() -> None:
    database = Database("postgresql://u@/x?host=/tmp&port=1&password=hunter2&sslpassword=hunter2")
    assert database.name == "postgresql+psycopg://u@/x?host=%2Ftmp&port=1"
    with pytest.raises(DatabaseUnreachableError) as caught:
        count_failures(database)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_what_was_to_be_written_is_not_in_the_error(database: Database) -> None:
    token = uuid4().hex  # nowhere in the source lines that a traceback shows
    with pytest.raises(DatabaseReadOnlyError) as caught, database.read() as session:
        jobs.enqueue(session, "webhook", {"token": token})
    assert token not in "".join(traceback.format_exception(caught.value))


@pytest.mark.slow
def test_a_missing_database_is_told(postgresql_server: Server) -> None:
    database = Database(postgresql_server.url("nowhere"))
    with pytest.raises(DatabaseUnreachableError, match="nowhere"):
        count_failures(database)


@pytest.mark.slow
def test_a_connection_that_died_between_two_units_of_work_is_replaced(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    assert count_failures(database) == 0
    kill_connections(postgresql_url)
    assert count_failures(database) == 0
    database.close()


def test_a_connection_that_dies_within_a_unit_of_work_keeps_nothing(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    with pytest.raises(DatabaseUnreachableError), database.write() as session:
        failures.record(session, A_FAILURE)
        kill_connections(postgresql_url)
        failures.record(session, A_FAILURE)
    assert count_failures(database) == 0
    database.close()


def kill_connections(url: str) -> None:
    killer = Database(url)
    with killer.write() as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    killer.close()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("53100", DatabaseFullError),
        ("53300", DatabaseBusyError),
        ("40P01", DatabaseBusyError),
        ("40001", DatabaseBusyError),
        ("57P03", DatabaseUnreachableError),
        ("42501", DatabaseReadOnlyError),
        ("42P01", SchemaOutdatedError),
    ],
)
def test_each_postgresql_error_gets_its_type(postgresql_url: str, state: str, expected: type[DatabaseError]) -> None:
    database = Database(postgresql_url)
    with pytest.raises(expected) as caught, database.write() as session:
        failures.record(session, A_FAILURE)
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{state}'; END $$"))
    assert type(caught.value) is expected
    assert "injected" in str(caught.value)
    assert count_failures(database) == 0
    database.close()


@pytest.mark.slow
def test_a_read_only_server_is_told(postgresql_server: Server, migrated_template: str) -> None:
    url = postgresql_server.new_database(template=migrated_template)
    postgresql_server.sql(f'ALTER DATABASE "{database_name(url)}" SET default_transaction_read_only = on')
    database = Database(url)
    with pytest.raises(DatabaseReadOnlyError, match="read-only"), database.write() as session:
        failures.record(session, A_FAILURE)
    assert count_failures(database) == 0
    database.close()
    postgresql_server.drop(url)


def test_no_sqlite_file_is_an_error_and_stays_none(tmp_path: Path) -> None:
    path = tmp_path / "missing.db"
    with pytest.raises(DatabaseUnreachableError, match="inspection db upgrade"):
        count_failures(Database(f"sqlite:///{path}"))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"GIF89a" + b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_damaged_sqlite_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(content)
    with pytest.raises(DatabaseUnreachableError, match="backup"):
        count_failures(Database(f"sqlite:///{path}"))
    assert path.read_bytes() == content


def test_paths_with_odd_characters_work(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a b/100% #1.db"
    migrate.upgrade(url)
    assert count_failures(Database(url)) == 0
    assert (tmp_path / "a b" / "100% #1.db").exists()


def test_a_database_without_schema_says_what_to_run(empty_database_url: str) -> None:
    database = Database(empty_database_url, create=True)
    with pytest.raises(SchemaOutdatedError, match="inspection db upgrade"):
        count_failures(database)
    with pytest.raises(SchemaOutdatedError, match="inspection db upgrade"), database.write() as session:
        jobs.enqueue(session, "webhook", {})
    database.close()


def test_a_full_disk_keeps_what_was_there_and_takes_more_later(sqlite: Database) -> None:
    with sqlite.write() as session:
        model_versions.register(session, samples.model())
        pages = session.scalar(text("PRAGMA page_count"))
    sqlite.close()

    def fill(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    event.listen(sqlite.engine, "connect", fill)
    big = samples.decision(regions=["x" * 100_000])
    with pytest.raises(DatabaseFullError, match="free disk space"), sqlite.write() as session:
        decisions.record(session, big)
    with sqlite.read() as session:
        assert decisions.find_by_key(session, big.key) is None
    event.remove(sqlite.engine, "connect", fill)
    sqlite.close()
    with sqlite.write() as session:
        assert decisions.record(session, big).is_new


def test_a_file_without_write_permission_is_read_only() -> None:
    folder = Path(tempfile.mkdtemp())
    database = Database(f"sqlite:///{folder / 'inspection.db'}")
    user = os.geteuid()
    try:
        migrate.upgrade(f"sqlite:///{folder / 'inspection.db'}")
        folder.chmod(0o777)
        (folder / "inspection.db").chmod(0o444)
        if user == 0:
            os.seteuid(65534)  # root may write anything
        with pytest.raises(DatabaseReadOnlyError, match="check mount, file rights"), database.write() as session:
            failures.record(session, A_FAILURE)
    finally:
        os.seteuid(user)
        database.close()
        shutil.rmtree(folder)
