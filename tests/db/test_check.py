from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from db import failures, jobs, migrate
from db.check import check
from db.engine import Database
from db.records import NewFailure


def test_a_sound_database_passes_and_stays_as_it_was(database: Database) -> None:
    found = check(database)
    assert (found.is_ok, found.problems, found.is_writable, found.missing_triggers) == (True, (), True, ())
    assert found.revision == found.head == migrate.head()
    assert found.database == database.name
    with database.read() as session:
        assert jobs.depth(session, kind="webhook").queued == 0


def test_a_database_without_schema_is_told(empty_database_url: str) -> None:
    database = Database(empty_database_url, create=True)
    found = check(database)
    assert (found.is_ok, found.is_writable, found.revision) == (False, False, None)
    assert "inspection db upgrade" in found.problems[0]
    database.close()


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@127.0.0.1:1/x", "sqlite:///{}/missing.db"])
def test_a_dead_database_is_told_not_raised(url: str, tmp_path: Path) -> None:
    found = check(Database(url.format(tmp_path)))
    assert (found.is_ok, found.is_writable, found.revision) == (False, False, None)
    assert found.problems
    assert "hunter2" not in str(found)


def test_a_database_that_cannot_be_written_is_told(own_database: Database) -> None:
    if own_database.engine.dialect.name == "postgresql":
        with own_database.write() as session:
            session.execute(text("ALTER TABLE job ADD CONSTRAINT nothing_goes CHECK (false)"))
    else:
        with own_database.write() as session:
            session.execute(
                text("CREATE TRIGGER nothing_goes BEFORE INSERT ON job BEGIN SELECT RAISE(ABORT, 'no'); END")
            )
    found = check(own_database)
    assert (found.is_ok, found.is_writable) == (False, False)


def test_failures_are_listed_newest_first_and_by_kind(database: Database) -> None:
    with database.write() as session:
        for number in range(4):
            kind = "webhook" if number % 2 else "predict"
            failures.record(
                session, NewFailure(kind=kind, reason=str(number), task_id=2**40, image_uri="http://u:pw@h/x?t=1")
            )
    with database.read() as session:
        assert [f.reason for f in failures.recent(session)] == ["3", "2", "1", "0"]
        assert [f.reason for f in failures.recent(session, limit=1)] == ["3"]
        (newest, _) = failures.recent(session, kind="webhook")
    assert (newest.reason, newest.task_id, newest.image_uri) == ("3", 2**40, "http://h/x?t=***")
