"""A database that an earlier program filled, brought to this one's schema with its content."""

from __future__ import annotations

import re
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from db import decisions, migrate, predictions, reviews, triggers
from db.check import check
from db.engine import Database
from db.errors import AppendOnlyError
from db.keys import canonical_json
from db.schema import Base
from tests.db import samples

# Names that JSON writers escape in different ways, and one that SQL must quote.
CLASSES = ("good", "scratch", 'say "ä"\u007f', "it's")


@pytest.fixture
def filled(empty_database_url: str) -> Database:
    """At revision 0001, with decisions of several classes, a prediction and a review."""
    database = Database(empty_database_url, create=True)
    with database.connect() as connection:
        configuration = Config()
        configuration.set_main_option("script_location", "db:migrations")
        configuration.set_main_option("path_separator", "os")
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0001")
        triggers.install(connection)
        model = {**vars(samples.model()), "model_version_id": identifier(1), "created_at": samples.NOON}
        insert(connection, "model_version", model)
        environment = {"sha256": samples.sha("e"), "content": {"python": "3.11"}, "created_at": samples.NOON}
        insert(connection, "environment", environment)
        for number, name in enumerate(CLASSES):
            insert(connection, "decision", decision_columns(number, name))
        sent = {**vars(samples.prediction(identifier(10))), "prediction_id": identifier(20)}
        sent |= {"result_sha256": samples.sha("r"), "sent_at": samples.NOON}
        insert(connection, "prediction", sent)
        made = {**vars(samples.review(decision_id=identifier(10), prediction_id=identifier(20)))}
        made |= {"review_id": identifier(30), "review_key": samples.review().key, "received_at": samples.NOON}
        insert(connection, "review", made)
    return database


def identifier(number: int) -> Any:
    import uuid

    return uuid.UUID(int=number)


def decision_columns(number: int, name: str) -> dict[str, Any]:
    new = samples.decision(f"image {number}")
    columns = {key: value for key, value in vars(new).items() if key not in ("settings", "environment", "explanations")}
    return columns | {
        "decision_id": identifier(10 + number),
        "decision_key": new.key,
        "model_version_id": identifier(1),
        "environment_sha256": samples.sha("e"),
        "predicted_class": name,
        "is_defect": name != "good",
        "settings": new.settings.content,
        "settings_sha256": new.settings.sha256,
        "environment_class": new.settings.environment_class,
        "explanation_method": new.settings.method,
        "regions_sha256": samples.sha("regions"),
        "recorded_at": samples.NOON,
    }


def insert(connection: Connection, table: str, values: dict[str, Any]) -> None:
    """Those of the values that revision 0001 has columns for, as the program of its time wrote them."""
    known = {column.name: column.type for column in Base.metadata.tables[table].columns}
    found = connection.execute(text(f"SELECT * FROM {table} WHERE false")).keys()
    bound = {}
    for name in found:
        processor = known[name].dialect_impl(connection.dialect).bind_processor(connection.dialect)
        bound[name] = processor(values[name]) if processor else values[name]
    columns = ", ".join(bound)
    marks = ", ".join(f":{name}" for name in bound)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({marks})"), bound)


def content(database: Database, table: str) -> dict[str, list[Any]]:
    with database.read() as session:
        found = session.execute(text(f"SELECT * FROM {table} ORDER BY 1"))
        return {name: list(values) for name, values in zip(found.keys(), zip(*found.all(), strict=True), strict=True)}


def test_what_was_recorded_stays_and_gets_its_verdict_by_rule(filled: Database, empty_database_url: str) -> None:
    tables = ("model_version", "environment", "decision", "prediction", "review")
    before = {table: content(filled, table) for table in tables}
    assert "verdict" not in before["decision"]
    assert migrate.upgrade(empty_database_url) == migrate.head()
    for table in tables:
        after = content(filled, table)
        assert {name: after[name] for name in before[table]} == before[table]
    new = content(filled, "decision")
    assert new["verdict"] == ["good", "defect", "defect", "defect"]
    assert new["labels"] == [canonical_json([name]) for name in CLASSES]
    assert (new["distance"], new["unlike_from"]) == ([None] * 4, [None] * 4)
    assert content(filled, "review")["labels_final"] == [None]
    assert content(filled, "review")["reasons"] == [None]
    assert check(filled).problems == ()
    filled.close()


@pytest.mark.slow
def test_the_repositories_read_what_an_earlier_program_recorded(filled: Database, empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    with filled.read() as session:
        found = decisions.find(session, identifier(12))
        sent = predictions.find(session, identifier(20))
        made = reviews.find(session, identifier(30))
    assert found is not None and sent is not None and made is not None
    assert (found.verdict, found.labels, found.predicted_class) == ("defect", (CLASSES[2],), CLASSES[2])
    assert (found.distance, found.unlike_from, found.is_unlike) == (None, None, False)
    assert (made.outcome, made.labels_final, made.decision_id) == ("accepted", None, sent.decision_id)
    assert made.found_by == "webhook"
    with filled.write() as session:
        reviews.record(session, samples.review(annotation_id=2, outcome="decided", decision_id=found.decision_id))
    filled.close()


def test_the_rows_are_guarded_again_afterwards(filled: Database, empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    for table in ("decision", "review"):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {table}_id = {table}_id"):
            with pytest.raises(AppendOnlyError), filled.write() as session:
                session.execute(text(statement))
    filled.close()


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    filled: Database, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {table: content(filled, table) for table in ("decision", "review")}

    def fail(_connection: Connection) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(triggers, "install", fail)
    with pytest.raises(ZeroDivisionError):
        migrate.upgrade(empty_database_url)
    assert migrate.current(filled) == "0001"
    assert {table: content(filled, table) for table in before} == before
    with pytest.raises(AppendOnlyError), filled.write() as session:
        session.execute(text("DELETE FROM review"))
    assert re.search("0001.*needs.*run `inspection db upgrade`", check(filled).problems[0])
    filled.close()
