"""`inspection failures`: what was asked for and could not be done, and a second try for what can be tried again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("failures")(show_failures)


def show_failures(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many of the newest to show.")] = 50,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let failed webhooks start over; `inspection predict` retries images.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> int:
    """Show failed predictions and webhooks with their reasons, and how the queue stands."""
    from backend.reviews import WEBHOOK_JOB  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415
    from db import failures, jobs, migrate  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    database = Database(Settings().resolved_database_url)
    migrate.require_head(database)
    requeued = 0
    if retry:
        with database.write() as session:
            requeued = jobs.requeue_failed(session, WEBHOOK_JOB)
    with database.read() as session:
        kept = failures.recent(session, limit=limit)
        depth = jobs.depth(session, kind=WEBHOOK_JOB)
    if as_json:
        content = {"queue": asdict(depth), "requeued": requeued, "failures": [asdict(one) for one in kept]}
        typer.echo(json.dumps(content, indent=2, default=str))
        return 0
    table = Table()
    for column in ("when (UTC)", "what", "project", "task", "reason"):
        table.add_column(column, overflow="fold")
    for one in kept:
        numbers = ("–" if number is None else str(number) for number in (one.project_id, one.task_id))
        table.add_row(f"{one.occurred_at:%Y-%m-%d %H:%M:%S}", one.kind, *numbers, one.reason)
    console = Console()
    console.print(table)
    started_over = f", {requeued} started over" if retry else ""
    console.print(
        f"queue: {depth.queued} waiting, {depth.running} running, {depth.failed} failed{started_over}", highlight=False
    )
    return 0
