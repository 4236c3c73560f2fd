"""`inspection predict`: have a project's tasks predicted, in chunks, resumable."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("predict")(predict)


def predict(
    project: Annotated[int, typer.Option("--project", help="Number of the project.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> int:
    """Predict every task without a prediction of the version in use; run again, it goes on where it stopped."""
    from backend.label_studio.client import LabelStudioClient  # noqa: PLC0415
    from backend.models_in_use import version_in_use  # noqa: PLC0415
    from backend.retrieval import await_version, retrieve  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415
    from db import migrate  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    settings = Settings()
    if settings.label_studio_api_key is None:
        raise typer.BadParameter("set INSPECTION_LABEL_STUDIO_API_KEY to a personal access token or a legacy token")
    database = Database(settings.resolved_database_url)
    migrate.require_head(database)
    version = version_in_use(settings, database, project).model_version
    console = Console(stderr=True)
    key = settings.label_studio_api_key.get_secret_value()
    with LabelStudioClient(settings.label_studio_url, key) as client, Progress(console=console) as progress:
        await_version(client, project, version)
        bar = progress.add_task("predicting", total=None)
        done = retrieve(
            client, project, version, progress=lambda n, total: progress.update(bar, completed=n, total=total)
        )
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2))
    else:
        typer.echo(f"{done.tasks} tasks: {done.already} had a prediction of {version}, {done.predicted} got one now")
    if done.unanswered:
        numbers = ", ".join(map(str, done.unanswered[:20]))
        console.print(
            f"{len(done.unanswered)} tasks have none (numbers {numbers}{' …' if len(done.unanswered) > 20 else ''}); "
            "`inspection failures` says why",
            style="red",
        )
    return 1 if done.unanswered else 0
