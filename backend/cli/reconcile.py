"""`inspection reconcile`: find the annotations that no webhook told of."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from backend.cli.progress import counting

if TYPE_CHECKING:
    from backend.reconciliation import Summary
    from db.records import NewReconciliation

_KINDS = ("created", "updated", "skipped", "deleted")


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("reconcile")(reconcile)


def reconcile(
    project: Annotated[
        list[int] | None,
        typer.Option("--project", help="Number of a project; may be repeated. All that the desk knows if not given."),
    ] = None,
    confirm_deletions: Annotated[
        bool, typer.Option("--confirm-deletions", help="What is gone was deleted: record it so, however much it is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> int:
    """Compare all annotations in Label Studio with the recorded reviews and record what is missing.

    Exit 0 when the record agrees with Label Studio at the end, else 1.
    """
    from backend.credentials import load_credentials  # noqa: PLC0415
    from backend.known_projects import projects_of  # noqa: PLC0415
    from backend.label_studio.client import LabelStudioClient  # noqa: PLC0415
    from backend.reconciliation import Reconciler  # noqa: PLC0415
    from backend.reviews import ReviewService  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415
    from db import migrate  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    settings = Settings()
    if settings.label_studio_api_key is None:
        raise typer.BadParameter("set INSPECTION_LABEL_STUDIO_API_KEY to a personal access token or a legacy token")
    database = Database(settings.resolved_database_url)
    migrate.require_head(database)
    key = settings.label_studio_api_key.get_secret_value()
    with LabelStudioClient(settings.label_studio_url, key) as client, counting("comparing") as tell:
        service = ReviewService(database, settings, client.find_prediction)
        reconciler = Reconciler(client, database, service, are_deletions_confirmed=confirm_deletions)
        numbers = tuple(project or projects_of(client, database, load_credentials(settings).webhook_token))
        if not project:
            reconciler.forget_others(numbers)
        summary = reconciler.reconcile_all(
            numbers, whole=True, progress=lambda number, done, total: tell(f"comparing project {number}", done, total)
        )
    if as_json:
        typer.echo(json.dumps(_as_json(summary), indent=2, default=str))
    else:
        for one in summary.compared:
            typer.echo(_sentence(one))
        typer.echo("the record agrees with Label Studio" if summary.agrees else "the record does not agree everywhere")
        if waiting := sum(one.waiting for one in summary.compared):
            typer.echo(f"{waiting} annotations are told of by webhooks in the queue, which a running desk works off")
    console = Console(stderr=True)
    for number, reason in summary.unreadable.items():
        console.print(f"project {number} was not compared: {reason}", style="red", highlight=False)
    if any(one.failed for one in summary.compared):
        console.print("`inspection failures` says why some are not in agreement", style="red", highlight=False)
    return 0 if summary.agrees else 1


def _as_json(summary: Summary) -> dict[str, object]:
    return {
        "agrees": summary.agrees,
        "annotations": sum(one.annotations for one in summary.compared),
        "found": {kind: sum(getattr(one, kind) for one in summary.compared) for kind in _KINDS},
        "failed": sum(one.failed for one in summary.compared),
        "waiting": sum(one.waiting for one in summary.compared),
        "projects": [asdict(one) for one in summary.compared],
        "unreadable": summary.unreadable,
    }


def _sentence(one: NewReconciliation) -> str:
    found = ", ".join(f"{getattr(one, kind)} {kind}" for kind in _KINDS if getattr(one, kind))
    return (
        f"project {one.project_id}: {one.annotations} annotations; "
        f"no webhook had told of {found or 'none'}; {one.failed} not in agreement"
    )
