"""`inspection models`: the model versions known here, and which of them is in use where."""

from __future__ import annotations

import getpass
import json
import os
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.model_listing import ListedModel
    from backend.model_switching import ModelSwitching, Switch
    from backend.settings import Settings
    from db.engine import Database
    from db.records import ModelEvent, ModelScope, ModelVersion

commands = typer.Typer(
    help="Model versions: list them, put one in use, take that back, end a version's use.", no_args_is_help=True
)

_Model = Annotated[
    str, typer.Argument(help="Model directory, or a version by name and version or its fingerprint's beginning.")
]
_Project = Annotated[
    int | None,
    typer.Option("--project", help="Number of a Label Studio project; without it, the desk and all that follow it."),
]
_Note = Annotated[str | None, typer.Option("--note", help="Why; kept with the event.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@commands.callback()
def group() -> None:
    """Model versions."""


@commands.command("list")
def list_models(as_json: _AsJson = False) -> int:
    """Show every model version known here, the oldest first: figures, where it is in use, and whether its files are.

    A project without a version of its own follows the desk.
    """
    from backend.model_listing import list_models as listed  # noqa: PLC0415
    from backend.model_loading import model_version_string  # noqa: PLC0415

    settings, database = _desk()
    found = listed(settings, database)
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in found], indent=2))
        return 0
    table = _table("model", "classes", "balanced accuracy", "in use for", "files", "since")
    for one in found:
        version = one.version
        table.add_row(
            model_version_string(version),
            ", ".join(version.classes),
            _percent(one.figures.get("balanced_accuracy")),
            "retired" if one.is_retired else "waits at the gate" if one.waits else ", ".join(_places(one)),
            "in order" if one.directory else "[red]missing or damaged[/red]",
            f"{version.created_at:%Y-%m-%d}",
        )
    console = Console()
    console.print(table)
    for one in found:
        if one.problem and not one.is_retired:
            console.print(f"{model_version_string(one.version)}: {one.problem}", style="yellow", highlight=False)
    return 0


@commands.command("activate")
def activate(model: _Model, project: _Project = None, note: _Note = None, as_json: _AsJson = False) -> int:
    """Put a model version in use, for one project or for the desk. A running desk follows without a restart.

    The model is checked and copied into the data directory first; `models back` takes it back.
    """
    with _switching() as switching:
        switch = switching.activate(model, project, actor=_actor(), note=note)
    return _tell(switch, project, as_json=as_json)


@commands.command("back")
def back(project: _Project = None, note: _Note = None, as_json: _AsJson = False) -> int:
    """Take the last activation back: what was in use before, for the project or the desk, is in use again."""
    with _switching() as switching:
        switch = switching.take_back(project, actor=_actor(), note=note)
    return _tell(switch, project, as_json=as_json)


@commands.command("retire")
def retire(model: _Model, note: _Note = None, as_json: _AsJson = False) -> int:
    """End a version's use: it cannot be activated any more. Refused while it is in use."""
    with _switching() as switching:
        version, event = switching.retire(model, actor=_actor(), note=note)
    return _tell_of_version(version, event, "is retired", as_json=as_json)


@commands.command("reinstate")
def reinstate(model: _Model, note: _Note = None, as_json: _AsJson = False) -> int:
    """Take a version's retirement back: it can be activated again."""
    with _switching() as switching:
        version, event = switching.reinstate(model, actor=_actor(), note=note)
    return _tell_of_version(version, event, "can be activated again", as_json=as_json)


@commands.command("history")
def history(as_json: _AsJson = False) -> int:
    """Show who switched which model where, when and why, the oldest first."""
    from backend.model_loading import model_version_string  # noqa: PLC0415
    from db import model_events, model_versions  # noqa: PLC0415

    _, database = _desk()
    with database.read() as session:
        names = {one.model_version_id: model_version_string(one) for one in model_versions.everything(session)}
        events = model_events.history(session)
    if as_json:
        typer.echo(json.dumps([_event_as_json(event, names) for event in events], indent=2))
        return 0
    numbers = {event.model_event_id: event.number for event in events}
    table = _table("model", "", "when (UTC)", "what", "for", "who", "why")
    for event in events:
        undone = numbers.get(event.undoes_event_id) if event.undoes_event_id else None
        model = names[event.model_version_id] if event.model_version_id else "none of its own"
        table.add_row(
            model,
            str(event.number),
            f"{event.occurred_at:%Y-%m-%d %H:%M:%S}",
            event.kind if undone is None else f"{undone} {event.kind}",
            "" if event.kind in ("retired", "reinstated") else str(event.scope),
            event.actor,
            event.note or "",
        )
    Console().print(table)
    return 0


@contextmanager
def _switching() -> Iterator[ModelSwitching]:
    from backend.label_studio.client import LabelStudioClient  # noqa: PLC0415
    from backend.model_switching import ModelSwitching  # noqa: PLC0415

    settings, database = _desk()
    key = settings.label_studio_api_key
    with ExitStack() as stack:
        client = None
        if key is not None:
            client = stack.enter_context(LabelStudioClient(settings.label_studio_url, key.get_secret_value()))
        yield ModelSwitching(settings, database, client)


def _desk() -> tuple[Settings, Database]:
    from backend.settings import Settings  # noqa: PLC0415
    from db import migrate  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    settings = Settings()
    database = Database(settings.resolved_database_url)
    migrate.require_head(database)
    return settings, database


def _actor() -> str:
    """Who runs this, as the operating system names them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _tell(switch: Switch, project: int | None, *, as_json: bool) -> int:
    where = "the desk" if project is None else f"project {project}"
    if as_json:
        content = {
            "model": switch.model.model_version,
            "fingerprint": switch.model.fingerprint,
            "project": project,
            "changed": switch.event is not None,
            "projects": list(switch.projects),
            "notes": list(switch.notes),
        }
        typer.echo(json.dumps(content, indent=2))
        return 0
    was = "is in use" if switch.event is not None else "was in use already"
    typer.echo(f"{switch.model.model_version} {was} for {where}; a running desk follows with its next prediction")
    for sentence in switch.notes:
        typer.echo(f"note: {sentence}", err=True)
    for number in switch.projects:
        typer.echo(f"to have the waiting images of project {number} judged: inspection predict --project {number}")
    return 0


def _tell_of_version(version: ModelVersion, event: ModelEvent | None, state: str, *, as_json: bool) -> int:
    from backend.model_loading import model_version_string  # noqa: PLC0415

    name = model_version_string(version)
    if as_json:
        typer.echo(json.dumps({"model": name, "fingerprint": version.fingerprint, "changed": event is not None}))
    else:
        typer.echo(f"{name} {state}" if event is not None else f"{name}: nothing had to be changed")
    return 0


def _places(listed: ListedModel) -> list[str]:
    places = [_place(scope) for scope in listed.used_by]
    return [*places, "the desk (INSPECTION_MODEL)"] if listed.is_named_by_setting else places


def _place(scope: ModelScope) -> str:
    return str(scope) if scope.instance is None else f"{scope} of {scope.instance}"


def _as_json(listed: ListedModel) -> dict[str, Any]:
    version = listed.version
    return {
        "name": version.name,
        "version": version.version,
        "architecture": version.architecture,
        "classes": list(version.classes),
        "weights_sha256": version.weights_sha256,
        "fingerprint": version.fingerprint,
        "registered": version.created_at.isoformat(),
        "in_use_for": [{"label_studio": scope.instance, "project": scope.project_id} for scope in listed.used_by],
        "named_by_setting": listed.is_named_by_setting,
        "retired": listed.is_retired,
        "waits_at_the_gate": listed.waits,
        "directory": listed.directory,
        "problem": listed.problem,
        "test": listed.figures,
    }


def _event_as_json(event: ModelEvent, names: dict[Any, str]) -> dict[str, Any]:
    return {
        "number": event.number,
        "what": event.kind,
        "model": names[event.model_version_id] if event.model_version_id else None,
        "label_studio": event.scope.instance,
        "project": event.scope.project_id,
        "undoes": str(event.undoes_event_id) if event.undoes_event_id else None,
        "id": str(event.model_event_id),
        "who": event.actor,
        "why": event.note,
        "when": event.occurred_at.isoformat(),
    }


def _table(*columns: str) -> Table:
    """A table whose first column, a model's name, is never broken."""
    table = Table()
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0)
    return table


def _percent(share: object) -> str:
    return f"{share * 100:.1f} %" if isinstance(share, int | float) else "–"
