"""How much work SQLite does for a statement, which unlike its time is the same each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from db.engine import Database

_AT_ONCE = 100


def needed(database: Database, work: Callable[[], Any]) -> int:
    """Hundreds of steps of SQLite's virtual machine that it takes to do some work."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    def begun(connection: Any) -> None:
        connection.connection.dbapi_connection.set_progress_handler(step, _AT_ONCE)

    def ended(connection: Any) -> None:
        connection.connection.dbapi_connection.set_progress_handler(None, _AT_ONCE)

    event.listen(database.engine, "begin", begun)
    event.listen(database.engine, "rollback", ended)
    event.listen(database.engine, "commit", ended)
    try:
        work()
    finally:
        event.remove(database.engine, "begin", begun)
        event.remove(database.engine, "rollback", ended)
        event.remove(database.engine, "commit", ended)
    return taken
