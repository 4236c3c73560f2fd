"""`inspection connect`: a project, this backend and its webhooks brought together in an existing Label Studio."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("connect")(connect_project)


def connect_project(
    project: Annotated[int | None, typer.Option("--project", help="Number of an existing project.")] = None,
    new: Annotated[
        str | None, typer.Option("--new", help="Title of a project to make for the model's classes.")
    ] = None,
    backend_url: Annotated[
        str | None, typer.Option("--backend-url", help="This backend's address as Label Studio reaches it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> int:
    """Connect a project with this backend; safe to repeat after the model, the address or the credentials changed."""
    from backend.connection import connect, create_project  # noqa: PLC0415
    from backend.credentials import load_credentials  # noqa: PLC0415
    from backend.label_studio.client import LabelStudioClient  # noqa: PLC0415
    from backend.models_in_use import version_in_use  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415
    from db import migrate  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    if (project is None) == (new is None):
        raise typer.BadParameter("give either --project NUMBER or --new TITLE")
    settings = Settings()
    if settings.label_studio_api_key is None:
        raise typer.BadParameter(
            "set INSPECTION_LABEL_STUDIO_API_KEY to a personal access token (Label Studio: Account & Settings) "
            "or a legacy token"
        )
    database = Database(settings.resolved_database_url)
    migrate.require_head(database)
    model = version_in_use(settings, database, project)
    with LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key.get_secret_value()) as client:
        if project is None:
            project = create_project(client, str(new), model, heading="Which defect, and where?")
        report = connect(
            client,
            project,
            backend_url=backend_url or f"http://{settings.host}:{settings.port}",
            model=model,
            credentials=load_credentials(settings),
            mapping=settings.label_mapping,
            was_created=new is not None,
        )
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
        return 0
    typer.echo(
        f"{'made' if report.was_created else 'connected'} project {report.project_id} “{report.title}”: {report.url}"
    )
    for sentence in report.unbound:
        typer.echo(f"not bound: {sentence}", err=True)
    return 0
