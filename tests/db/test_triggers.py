from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Integer, create_engine, text

from db import (
    actors,
    decisions,
    failures,
    jobs,
    labeling_configurations,
    migrate,
    model_events,
    model_locations,
    model_versions,
    predictions,
    reconciliations,
    reviews,
    triggers,
)
from db.check import check
from db.engine import Database
from db.errors import AppendOnlyError
from db.records import NewFailure, PredictedImage
from db.schema import Base
from tests.db import samples


@pytest.fixture
def filled(database: Database) -> Iterator[Database]:
    """A row in every table."""
    with database.write() as session:
        model = model_versions.register(session, samples.model())
        model_locations.record(session, samples.model().fingerprint, "/models/steel")
        model_events.activate(session, model.id, model_events.DESK, actor="ada")
        labeling_configurations.register(session, samples.sha("config"), "<View/>")
        decision = decisions.record(session, samples.decision())
        image = PredictedImage(name="image_1", decision_id=decision.id)
        prediction = predictions.record(session, samples.prediction(decision.id, images=[image]))
        actor = actors.pseudonym(session, instance=samples.INSTANCE, ls_user_id=1)
        reviews.record(session, samples.review(decision_id=decision.id, prediction_id=prediction.id, actor_id=actor))
        failures.record(session, NewFailure(kind="predict", reason="no"))
        reconciliations.record(session, samples.reconciliation())
        reconciliations.set_mark(session, samples.mark())
        jobs.enqueue(session, "webhook", {})
    return database


def content(database: Database, table: str) -> list[tuple[object, ...]]:
    with database.read() as session:
        return [tuple(row) for row in session.execute(text(f"SELECT * FROM {table}"))]


def test_the_tables_guarded_are_all_but_four() -> None:
    assert set(Base.metadata.tables) - set(triggers.IMMUTABLE_TABLES) == {
        "actor",
        "job",
        "reconciliation_mark",
        "training",
    }


@pytest.mark.parametrize("table", triggers.IMMUTABLE_TABLES)
def test_rows_can_be_neither_changed_nor_removed(filled: Database, table: str) -> None:
    before = content(filled, table)
    assert before
    column = Base.metadata.tables[table].columns.values()[-1].name
    statements = [f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"]
    if filled.engine.dialect.name == "postgresql":
        statements.append(f"TRUNCATE {table} CASCADE")
    for statement in statements:
        denied = pytest.raises(AppendOnlyError, match=f"append-only table .*{statement.split()[0]}")
        with denied, filled.write() as session:
            session.execute(text(statement))
    assert content(filled, table) == before


@pytest.mark.parametrize("table", triggers.IMMUTABLE_TABLES)
def test_rows_cannot_be_replaced(filled: Database, table: str) -> None:
    before = content(filled, table)
    key = ", ".join(c.name for c in Base.metadata.tables[table].primary_key)
    column = Base.metadata.tables[table].columns.values()[-1].name
    copy = f"INTO {table} SELECT * FROM {table} WHERE true"
    statement = (
        f"INSERT OR REPLACE {copy}"
        if filled.engine.dialect.name == "sqlite"
        else f"INSERT {copy} ON CONFLICT ({key}) DO UPDATE SET {column} = EXCLUDED.{column}"
    )
    with pytest.raises(AppendOnlyError), filled.write() as session:
        session.execute(text(statement))
    assert content(filled, table) == before


UNIQUE_KEYS = [("decision", "decision_id"), ("model_version", "model_version_id"), ("review", "review_id")]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # REPLACE is SQLite's alone
@pytest.mark.parametrize(("table", "key"), UNIQUE_KEYS)
def test_sqlite_replaces_nothing_on_anyones_connection_nor_by_another_key(
    filled: Database, table: str, key: str
) -> None:
    before = content(filled, table)
    others = ", ".join(c.name for c in Base.metadata.tables[table].columns if c.name != key)
    # A plain connection: without the recursive triggers that the product's own asks for.
    stranger = sqlite3.connect(str(filled.engine.url.database))
    for values in (f"{key}, {others}", f"'{'0' * 32}', {others}"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            stranger.execute(f"INSERT OR REPLACE INTO {table} ({key}, {others}) SELECT {values} FROM {table}")
        stranger.rollback()
    stranger.close()
    assert content(filled, table) == before


def test_pseudonyms_and_jobs_can_be_changed(filled: Database) -> None:
    with filled.write() as session:
        session.execute(text("UPDATE actor SET display_name = NULL"))
        session.execute(text("DELETE FROM job"))
    assert content(filled, "job") == []


def test_each_missing_trigger_is_told(own_database: Database) -> None:
    assert check(own_database).is_ok
    sqlite = own_database.engine.dialect.name == "sqlite"
    with own_database.connect() as connection:
        for name in ("decision_no_delete", "review_no_replace") if sqlite else ("decision_no_change",):
            connection.execute(text(f"DROP TRIGGER {name}" + ("" if sqlite else " ON decision")))
        if not sqlite:
            connection.execute(text("ALTER TABLE review DISABLE TRIGGER review_no_truncate"))
        missing = triggers.missing(connection)
    assert missing == (
        ("decision_no_delete", "review_no_replace") if sqlite else ("decision_no_change", "review_no_truncate")
    )
    found = check(own_database)
    assert not found.is_ok
    assert found.missing_triggers == missing
    assert all(name in found.problems[0] for name in missing)


def test_a_trigger_that_was_made_toothless_is_told(own_database: Database, own_database_url: str) -> None:
    with own_database.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER decision_no_delete"))
            connection.exec_driver_sql(
                "CREATE TRIGGER decision_no_delete BEFORE DELETE ON decision BEGIN SELECT 1; END"
            )
        else:
            connection.exec_driver_sql(
                "CREATE OR REPLACE FUNCTION deny_change() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RETURN OLD; END $$"
            )
        assert (
            "decision_no_delete" in triggers.missing(connection)
            or len(triggers.missing(connection)) == len(triggers.IMMUTABLE_TABLES) * 2
        )
    migrate.upgrade(own_database_url)
    assert check(own_database).is_ok


@pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)  # it alone rebuilds a table to alter a column
def test_a_table_rebuilt_by_a_migration_gets_its_triggers_back(own_database: Database, own_database_url: str) -> None:
    engine = create_engine(own_database.engine.url)
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("failure") as batch:
            batch.alter_column("project_id", type_=Integer())
    engine.dispose()
    assert [name for name in check(own_database).missing_triggers if name.startswith("failure")]
    migrate.upgrade(own_database_url)
    assert check(own_database).is_ok
