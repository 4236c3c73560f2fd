from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db import reconciliations
from db.engine import Database
from db.errors import AppendOnlyError, InvalidRecordError
from db.records import NewReconciliation
from tests.db import samples


def record(database: Database, new: NewReconciliation) -> Any:
    with database.write() as session:
        return reconciliations.record(session, new)


def rows(database: Database, columns: str) -> list[tuple[Any, ...]]:
    with database.read() as session:
        return [tuple(row) for row in session.execute(text(f"SELECT {columns} FROM reconciliation ORDER BY 1"))]


def test_what_was_found_stays_beside_what_was_found_before(database: Database) -> None:
    record(database, samples.reconciliation(annotations=1))
    record(database, samples.reconciliation(annotations=2, is_full=False, through=None))
    assert rows(database, "annotations, created, updated, skipped, deleted, failed, waiting, surplus") == [
        (1, 3, 2, 1, 4, 0, 1, -2), (2, 3, 2, 1, 4, 0, 1, -2)
    ]  # fmt: skip
    assert samples.reconciliation().found == 10


def test_a_clock_that_was_set_back_keeps_nothing_from_the_record(database: Database) -> None:
    record(database, samples.reconciliation(started_at=samples.NOON + timedelta(days=36500)))
    [(started, finished)] = rows(database, "started_at, finished_at")
    assert finished == started


def test_the_mark_is_the_last_one_that_was_set(database: Database) -> None:
    later = samples.NOON + timedelta(hours=1)
    marks = [
        samples.mark(),
        samples.mark(since=later, through=None, failed=0),
        samples.mark(project_id=4),
        samples.mark(project_id=5),
        samples.mark(instance="http://elsewhere", surplus=7),
    ]
    with database.write() as session:
        for one in marks:
            reconciliations.set_mark(session, one)
    with database.read() as session:
        assert reconciliations.mark(session, instance=samples.INSTANCE, project_id=3) == marks[1]
        assert reconciliations.mark(session, instance=samples.INSTANCE, project_id=6) is None
        assert reconciliations.marks(session, instance=samples.INSTANCE) == tuple(marks[1:4])
    with database.write() as session:
        reconciliations.forget_others(session, instance=samples.INSTANCE, project_ids=[3, 9])
    with database.read() as session:
        assert reconciliations.marks(session, instance=samples.INSTANCE) == (marks[1],)
        assert reconciliations.marks(session, instance="http://elsewhere") == (marks[4],)
    with pytest.raises(InvalidRecordError, match="failed_range"), database.write() as session:
        reconciliations.set_mark(session, samples.mark(failed=-1))


def test_impossible_counts_are_refused_and_rows_stay(database: Database) -> None:
    with pytest.raises(InvalidRecordError, match="ck_reconciliation_counts_range"):
        record(database, samples.reconciliation(deleted=-1))
    record(database, samples.reconciliation())
    for statement in ("DELETE FROM reconciliation", "UPDATE reconciliation SET failed = 0"):
        with pytest.raises(AppendOnlyError), database.write() as session:
            session.execute(text(statement))
