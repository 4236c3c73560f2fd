"""Triggers that keep recorded rows as they are: the one source of their DDL, and a check that they stand.

Whoever may alter the schema can drop a trigger. They guard against mistakes; the hashes are what proves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import UniqueConstraint, inspect, text

from db.errors import APPEND_ONLY
from db.schema import ActorRow, Base, JobRow, ReconciliationMarkRow, TrainingRow

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

MUTABLE_TABLES = frozenset(row.__tablename__ for row in (ActorRow, JobRow, ReconciliationMarkRow, TrainingRow))
IMMUTABLE_TABLES = tuple(t for t in sorted(Base.metadata.tables) if t not in MUTABLE_TABLES)

_FUNCTION = "deny_change"
_FUNCTION_BODY = f"""
BEGIN
  RAISE EXCEPTION '{APPEND_ONLY} table %: % denied', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END;
"""


def install(connection: Connection) -> None:
    """Create the triggers of every append-only table there is, anew: a table that a migration rebuilt lost its own."""
    present = set(inspect(connection).get_table_names())
    tables = [Base.metadata.tables[name] for name in IMMUTABLE_TABLES if name in present]
    if connection.dialect.name == "sqlite":
        _install_sqlite(connection, tables)
    else:
        _install_postgresql(connection, tables)


def missing(connection: Connection) -> tuple[str, ...]:
    """Names of the triggers that are absent, disabled or not as this program writes them; empty when all stand."""
    found = _standing_sqlite(connection) if connection.dialect.name == "sqlite" else _standing_postgresql(connection)
    return tuple(sorted(_expected(connection.dialect.name) - found))


def _expected(dialect: str) -> set[str]:
    if dialect == "sqlite":
        return {name for table in IMMUTABLE_TABLES for name in _sqlite_triggers(Base.metadata.tables[table])}
    return {name for table in IMMUTABLE_TABLES for name in _postgresql_triggers(table)}


def _sqlite_triggers(table: Table) -> dict[str, str]:
    """DDL by trigger name.

    REPLACE removes a row without firing delete triggers unless the connection asked for recursive ones, so a trigger
    before the insert looks for every key that the new row would take over.
    """
    triggers = {}
    for operation in ("UPDATE", "DELETE"):
        name = f"{table.name}_no_{operation.lower()}"
        triggers[name] = (
            f"CREATE TRIGGER {name} BEFORE {operation} ON {table.name} "
            f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY} table {table.name}: {operation} denied'); END"
        )
    name = f"{table.name}_no_replace"
    taken = " OR ".join(f"({' AND '.join(f'{c} = NEW.{c}' for c in key)})" for key in _keys(table))
    triggers[name] = (
        f"CREATE TRIGGER {name} BEFORE INSERT ON {table.name} "  # noqa: S608 - names of this package's own tables
        f"WHEN EXISTS (SELECT 1 FROM {table.name} WHERE {taken}) "
        f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY} table {table.name}: key already recorded'); END"
    )
    return triggers


def _keys(table: Table) -> list[list[str]]:
    unique = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
    return sorted([[c.name for c in constraint.columns] for constraint in (table.primary_key, *unique)])


def _postgresql_triggers(table: str) -> dict[str, str]:
    return {
        f"{table}_no_change": (
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {_FUNCTION}()"
        ),
        f"{table}_no_truncate": (
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {_FUNCTION}()"
        ),
    }


def _install_sqlite(connection: Connection, tables: list[Table]) -> None:
    for table in tables:
        for name, ddl in _sqlite_triggers(table).items():
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
            connection.exec_driver_sql(ddl)


def _install_postgresql(connection: Connection, tables: list[Table]) -> None:
    connection.execute(
        text(f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $${_FUNCTION_BODY}$$")
    )
    for table in tables:
        for name, ddl in _postgresql_triggers(table.name).items():
            connection.execute(text(f"DROP TRIGGER IF EXISTS {name} ON {table.name}"))
            connection.execute(text(ddl))


def _standing_sqlite(connection: Connection) -> set[str]:
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    wanted = {n: ddl for t in IMMUTABLE_TABLES for n, ddl in _sqlite_triggers(Base.metadata.tables[t]).items()}
    return {name for name, ddl in rows if wanted.get(name) == ddl}


def _standing_postgresql(connection: Connection) -> set[str]:
    # 'O' and 'A' are the states in which a trigger fires for an ordinary session.
    rows = connection.execute(
        text(
            "SELECT t.tgname, t.tgrelid::regclass::text, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND p.proname = :function"
        ),
        {"function": _FUNCTION},
    )
    return {name for name, table, body in rows if body == _FUNCTION_BODY and name.startswith(f"{table}_no_")}
