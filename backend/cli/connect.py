"""`inspection connect`: a project, this backend and its webhooks brought together in an existing Label Studio."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Literal, TypeAlias

import typer

TemplateName: TypeAlias = Literal["default", "multi-label", "brush", "boxes", "several-images"]


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("connect")(connect_project)


def connect_project(
    project: Annotated[int | None, typer.Option("--project", help="Number of an existing project.")] = None,
    new: Annotated[
        str | None, typer.Option("--new", help="Title of a project to make for the model's classes.")
    ] = None,
    blind: Annotated[
        bool,
        typer.Option("--blind", help="With --new: inspectors see nothing of what the model says."),
    ] = False,
    template: Annotated[
        TemplateName, typer.Option("--template", help="With --new: what its labeling configuration is made for.")
    ] = "default",
    images: Annotated[
        int, typer.Option("--images", min=2, max=9, help="With --template several-images: how many each part has.")
    ] = 2,
    backend_url: Annotated[
        str | None, typer.Option("--backend-url", help="This backend's address as Label Studio reaches it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> int:
    """Connect a project with this backend; safe to repeat after the model, the address or the credentials changed."""
    from backend.connection import connect, create_project  # noqa: PLC0415
    from backend.credentials import load_credentials  # noqa: PLC0415
    from backend.label_studio.client import LabelStudioClient  # noqa: PLC0415
    from backend.map_addresses import MapAddresses  # noqa: PLC0415
    from backend.map_check import what_keeps_maps_away  # noqa: PLC0415
    from backend.models_in_use import version_in_use  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415
    from db import migrate  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    if (project is None) == (new is None):
        raise typer.BadParameter("give either --project NUMBER or --new TITLE")
    if blind and new is None:
        raise typer.BadParameter("--blind goes with --new TITLE; of a project that is there nobody knows who saw what")
    if template != "default" and new is None:
        raise typer.BadParameter(
            "--template goes with --new TITLE; the configuration of a project that is there is yours to change"
        )
    settings = Settings()
    if settings.label_studio_api_key is None:
        raise typer.BadParameter(
            "set INSPECTION_LABEL_STUDIO_API_KEY to a personal access token (Label Studio: Account & Settings) "
            "or a legacy token"
        )
    database = Database(settings.resolved_database_url)
    migrate.require_head(database)
    model = version_in_use(settings, database, project)
    backend_url = backend_url or f"http://{settings.host}:{settings.port}"
    credentials = load_credentials(settings)
    maps = MapAddresses(settings.public_url or backend_url, credentials.map_key)
    with LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key.get_secret_value()) as client:
        if project is None:
            heading = "Which defect, and where?"
            project = create_project(
                client, str(new), model, heading=heading, maps=maps, template=template, images=images, is_blind=blind
            )
        report = connect(
            client,
            project,
            backend_url=backend_url,
            model=model,
            credentials=credentials,
            mapping=settings.label_mapping,
            maps=maps,
            was_created=new is not None,
        )
    away = None if report.is_blind else what_keeps_maps_away(maps.of(report.project_id))
    if as_json:
        typer.echo(json.dumps({**asdict(report), "maps_away": away}, indent=2))
        return 0
    typer.echo(
        f"{'made' if report.was_created else 'connected'} project {report.project_id} “{report.title}”: {report.url}"
    )
    for sentence in report.unbound:
        typer.echo(f"not bound: {sentence}", err=True)
    if report.is_blind:
        typer.echo(
            "its inspectors see nothing of what the model says, and their reviews count as blind; "
            f"have the model judge its tasks with `inspection predict --project {report.project_id}`"
        )
    if report.map_tag is not None:
        typer.echo(f"to see the maps beside the image, add to the labeling configuration: {report.map_tag}")
    if away is not None:
        typer.echo(f"no maps: {away}", err=True)
    return 0
