from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from db import migrate, triggers
from db.check import check
from db.engine import Database
from db.errors import SchemaOutdatedError
from db.schema import Base
from tests.db import workers

ROOT = Path(__file__).parents[2]


def constraints(connection: Connection) -> dict[str, Any]:
    """What Alembic's comparison does not look at."""
    inspector = inspect(connection)
    return {
        table: {
            "checks": {c["name"]: c["sqltext"] for c in inspector.get_check_constraints(table)},
            "keys": inspector.get_pk_constraint(table),
            "unique": sorted((c["name"], *c["column_names"]) for c in inspector.get_unique_constraints(table)),
            "foreign": sorted((str(c["name"]), c["referred_table"]) for c in inspector.get_foreign_keys(table)),
            "indexes": sorted((str(i["name"]), *map(str, i["column_names"])) for i in inspector.get_indexes(table)),
        }
        for table in Base.metadata.tables
    }


def test_the_migrations_lead_to_the_schema_of_the_code(empty_database_url: str) -> None:
    database = Database(empty_database_url, create=True)
    with database.connect() as connection:
        Base.metadata.create_all(connection)
        of_the_code = constraints(connection)
        Base.metadata.drop_all(connection)
    assert migrate.upgrade(empty_database_url) == migrate.head() == migrate.current(database)
    with database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert constraints(connection) == of_the_code
        assert triggers.missing(connection) == ()
    database.close()


def test_every_constraint_has_a_name_that_fits() -> None:
    for table in Base.metadata.tables.values():
        for constraint in (*table.constraints, *table.indexes):
            assert constraint.name
            assert len(str(constraint.name)) <= 63  # PostgreSQL cuts longer ones off


def test_upgrading_again_changes_nothing(database_url: str, database: Database) -> None:
    with database.connect() as connection:
        before = constraints(connection)
    assert migrate.upgrade(database_url) == migrate.head()
    with database.connect() as connection:
        assert constraints(connection) == before


@pytest.mark.slow
def test_processes_that_upgrade_at_once_take_turns(empty_database_url: str) -> None:
    barrier = workers.CONTEXT.Barrier(3)
    processes = [workers.CONTEXT.Process(target=workers.upgrade, args=(empty_database_url, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    database = Database(empty_database_url)
    assert check(database).problems == ()
    database.close()


def test_a_failing_upgrade_leaves_nothing(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_connection: Connection) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(triggers, "install", fail)
    with pytest.raises(ZeroDivisionError):
        migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    with database.connect() as connection:
        assert inspect(connection).get_table_names() == []
    assert migrate.current(database) is None
    database.close()


def test_a_schema_of_another_program_is_refused(own_database_url: str, own_database: Database) -> None:
    migrate.require_head(own_database)
    with own_database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaOutdatedError, match=r"9999.*newer"):
        migrate.require_head(own_database)
    with pytest.raises(SchemaOutdatedError, match=r"9999.*newer"):
        migrate.upgrade(own_database_url)


def test_a_database_without_schema_is_refused(empty_database_url: str) -> None:
    database = Database(empty_database_url, create=True)
    with pytest.raises(SchemaOutdatedError, match="inspection db upgrade"):
        migrate.require_head(database)
    database.close()


@pytest.mark.slow
def test_the_wheel_can_migrate(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    (source / "README.md").touch()
    shutil.copytree(ROOT / "db", source / "db", ignore=shutil.ignore_patterns("__pycache__"))
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*wheel, "-q", "-w", tmp_path, source], check=True)
    shutil.unpack_archive(next(tmp_path.glob("*.whl")), site, "zip")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import db; from db import migrate\n"
        "assert db.__file__.startswith(sys.argv[1]), db.__file__\n"
        "print(migrate.upgrade(sys.argv[2]))"
    )
    url = f"sqlite:///{tmp_path / 'x.db'}"
    done = subprocess.run(
        [sys.executable, "-c", program, site, url], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == migrate.head()
