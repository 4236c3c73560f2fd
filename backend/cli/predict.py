"""`inspection predict`: have a project's tasks predicted, in chunks, resumable."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backend.bulk_prediction import BulkPrediction, BulkResult, Way
    from backend.label_studio.client import LabelStudioClient
    from backend.settings import Settings
    from db.engine import Database

_FAILURES_TOLD = 20
# Over so long a time that a few slow images do not make the time left jump.
_RATE_OVER_SECONDS = 300.0


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("predict")(predict)


def predict(
    project: Annotated[int, typer.Option("--project", help="Number of the project.")],
    push: Annotated[
        bool,
        typer.Option(
            "--push",
            help="Decide in this process and hand the predictions to Label Studio, instead of letting it ask the desk.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> int:
    """Predict every task without a prediction of the version in use; run again, it goes on where it stopped."""
    from backend.label_studio.client import LabelStudioClient  # noqa: PLC0415
    from backend.settings import Settings  # noqa: PLC0415

    settings = Settings()
    if settings.label_studio_api_key is None:
        raise typer.BadParameter("set INSPECTION_LABEL_STUDIO_API_KEY to a personal access token or a legacy token")
    console = Console(stderr=True)
    key = settings.label_studio_api_key.get_secret_value()
    started = time.monotonic()
    with LabelStudioClient(settings.label_studio_url, key) as client:
        run = _run_pushing if push else _run_retrieving
        version, done = run(settings, client, project, console)
    seconds = time.monotonic() - started
    if as_json:
        typer.echo(json.dumps({"model_version": version, "seconds": round(seconds, 1), **asdict(done)}, indent=2))
    else:
        gone = f", {len(done.gone)} were deleted meanwhile" if done.gone else ""
        typer.echo(
            f"{done.tasks} tasks: {done.already} had a prediction of {version}, {done.predicted} got one now{gone} "
            f"({seconds:.0f} s{_rate(done.predicted / seconds)})"
        )
    if done.failed:
        _tell_failures(console, done, project)
    return 1 if done.failed else 0


def _run_retrieving(
    settings: Settings, client: LabelStudioClient, project: int, console: Console
) -> tuple[str, BulkResult]:
    from backend.models_in_use import version_in_use  # noqa: PLC0415
    from backend.retrieval import Retrieval, await_version  # noqa: PLC0415
    from db import migrate  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    database = Database(settings.resolved_database_url)
    migrate.require_head(database)
    version = version_in_use(settings, database, project).model_version
    await_version(client, project, version)
    way = Retrieval(client, project, version, database=database)
    return version, _shown(_bulk(settings, database, client, project, version, way, console), console)


def _run_pushing(
    settings: Settings, client: LabelStudioClient, project: int, console: Console
) -> tuple[str, BulkResult]:
    from backend.desk import Desk  # noqa: PLC0415 - brings torch in
    from backend.models_in_use import version_in_use  # noqa: PLC0415
    from backend.pushing import Pushing  # noqa: PLC0415

    desk = Desk.open(settings, work_off_queue=False)
    try:
        version = version_in_use(settings, desk.database, project).model_version
        way = Pushing(client, project, version, desk.predictions)
        return version, _shown(_bulk(settings, desk.database, client, project, version, way, console), console)
    finally:
        desk.close()


def _bulk(
    settings: Settings,
    database: Database,
    client: LabelStudioClient,
    project: int,
    version: str,
    way: Way,
    console: Console,
) -> BulkPrediction:
    from backend.bulk_prediction import BulkPrediction  # noqa: PLC0415
    from backend.label_studio.labeling_config import parse  # noqa: PLC0415
    from backend.models_in_use import version_in_use  # noqa: PLC0415
    from backend.outdated_predictions import remove_outdated  # noqa: PLC0415

    def in_use() -> str:
        return version_in_use(settings, database, project).model_version

    config = parse(str(client.project(project).get("label_config") or ""))
    outdated = remove_outdated(client, project, version, config)
    if outdated:
        console.print(
            f"the labeling configuration was changed: the predictions of {len(outdated)} tasks do not fit it and are "
            "made anew",
            highlight=False,
        )
    return BulkPrediction(client, project, version, way, database=database, in_use=in_use)


def _shown(bulk: BulkPrediction, console: Console) -> BulkResult:
    with _bar(console) as tell:
        return bulk.run(tell)


def _tell_failures(console: Console, done: BulkResult, project: int) -> None:
    console.print(f"{len(done.failed)} tasks have none:", style="red", highlight=False)
    for one in done.failed[:_FAILURES_TOLD]:
        # The reason may hold anything, square brackets included, which are no markup of ours.
        console.print(Text(f"  task {one.task}: {one.reason}"), soft_wrap=True)
    if len(done.failed) > _FAILURES_TOLD:
        console.print(f"  and {len(done.failed) - _FAILURES_TOLD} more; `inspection failures` shows them")
    console.print(
        f"Mend what is named, then run `inspection predict --project {project}` again: it asks for these tasks only.",
        highlight=False,
    )


class _RateColumn(ProgressColumn):
    """Tasks a second, or a minute where they are slow."""

    def render(self, task: Task) -> Text:
        """The rate so far; nothing before the first tasks are done."""
        return Text(_rate(task.speed or 0.0).removeprefix(", "))


def _rate(per_second: float) -> str:
    if per_second <= 0:
        return ""
    return f", {per_second:.1f} tasks/s" if per_second >= 1 else f", {60 * per_second:.1f} tasks/min"


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, speed_estimate_period=_RATE_OVER_SECONDS) as progress:
        bar = progress.add_task("predicting", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
