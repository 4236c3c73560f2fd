"""`inspection db`: bring the schema up to date, and check that the database is what it should be."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

commands = typer.Typer(help="The database: upgrade its schema, check it.", no_args_is_help=True)


@commands.command("upgrade")
def upgrade() -> int:
    """Create the database or bring its schema to this release's; safe to repeat, safe from two processes at once."""
    from backend.settings import Settings  # noqa: PLC0415
    from db import migrate  # noqa: PLC0415

    settings = Settings()
    if settings.database_url is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate.upgrade(settings.resolved_database_url)
    typer.echo(f"schema is at {migrate.head()}")
    return 0


@commands.command("check")
def check(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False) -> int:
    """Schema at head, append-only triggers in place, writable: exit 0, else 1 with what is wrong."""
    from backend.settings import Settings  # noqa: PLC0415
    from db.check import check as check_database  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    database = Database(Settings().resolved_database_url)
    found = check_database(database)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "ok": found.is_ok}, indent=2))
    else:
        for problem in found.problems:
            typer.echo(problem)
        typer.echo(f"{found.database}: {'in order' if found.is_ok else 'not in order'}")
    return 0 if found.is_ok else 1
