"""`inspection models`: the model versions that ever decided here."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

commands = typer.Typer(help="Model versions: list those that ever decided here.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """Model versions."""


@commands.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False) -> int:
    """Show every model version in the database, the oldest first."""
    from backend.settings import Settings  # noqa: PLC0415
    from db import migrate, model_versions  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    database = Database(Settings().resolved_database_url)
    migrate.require_head(database)
    with database.read() as session:
        found = model_versions.everything(session)
    if as_json:
        rows = [
            {
                "name": one.name,
                "version": one.version,
                "architecture": one.architecture,
                "classes": list(one.classes),
                "weights_sha256": one.weights_sha256,
                "fingerprint": one.fingerprint,
                "registered": one.created_at.isoformat(),
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, indent=2))
        return 0
    table = Table()
    for column in ("name", "version", "network", "classes", "registered (UTC)"):
        table.add_column(column)
    for one in found:
        table.add_row(
            one.name, one.version, one.architecture, ", ".join(one.classes), f"{one.created_at:%Y-%m-%d %H:%M:%S}"
        )
    Console().print(table)
    return 0
