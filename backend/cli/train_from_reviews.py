"""What `inspection train --from-reviews` does: gather, tell, train, and register what waits at the gate."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.console import Console

from backend.cli.progress import counting
from backend.desk import image_source
from backend.label_studio.client import LabelStudioClient
from backend.learning.gathering import Gathering
from backend.learning.lesson_set import assemble, refuse_nothing_new
from backend.model_registration import registration
from backend.settings import Settings
from backend.training_progress import describe
from db import migrate, model_locations, model_versions, trainings
from db.engine import Database
from inspection_models.compute import use_threads
from inspection_models.training import CheckpointError, train_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from backend.learning.lesson_set import LessonRequest, LessonSet
    from inspection_models.training import TrainingEvent, TrainingReport, TrainingRequest

# Label Studio and the desk go first.
_NICENESS = 10


def show_lessons(reviewed: LessonRequest, seed: int, *, as_json: bool) -> int:
    """Show what a training would learn from; 1 where it could not be split. Photographs are fetched and kept for it."""
    from backend.cli.train import show_dataset  # noqa: PLC0415 - which calls this

    settings, database = _desk()
    with counting("gathering reviews") as tell:
        found = _lessons(reviewed, settings, database, tell)
    if not as_json:
        _print(found.summary, Console())
    lessons = found.lessons
    return show_dataset(
        lessons.dataset, seed, as_json=as_json, held=lessons.held, more={"reviews": found.summary} if as_json else None
    )


def train_from_reviews(
    request: TrainingRequest, reviewed: LessonRequest, training: str | None, *, again: bool
) -> TrainingReport:
    """Train and register the version, which is not in use by that.

    Args:
        training: id of the training that the desk's worker started, which starts anew where its checkpoint is of no
            use; None for one by hand.
        again: train though a version has learned from the same.

    Raises:
        LearningError: there is nothing, or nothing new, to learn from.
        TrainingError, DatasetError, ImageError, NetworkError, ModelError, RiskError: as `train_on`.
        LabelStudioError: Label Studio is away or refuses.
        DatabaseError: the database is away.
    """
    settings, database = _desk()
    with ExitStack() as stack:
        if training is None:
            tell = stack.enter_context(counting("gathering reviews", stays=True))
        else:
            from backend.learning.telling import Telling  # noqa: PLC0415

            os.nice(_NICENESS)
            use_threads(settings.threads)
            tell = Telling(database, UUID(training))
        found = _lessons(reviewed, settings, database, tell, _asked_at(database, training))
        if not again:
            refuse_nothing_new(found, database)
        if training is None:
            _print(found.summary, Console(stderr=True))

        def progress(event: TrainingEvent) -> None:
            tell(describe(event), event.done, event.total)

        try:
            report = train_on(found.lessons, request, progress)
        except CheckpointError:
            if training is None:
                raise
            # Whoever pressed a button can ask for no restart.
            report = train_on(found.lessons, replace(request, restart=True), progress)
    if training is None:
        with database.write() as session:
            model_versions.register(session, registration(report.classifier.card))
            model_locations.record(session, report.classifier.version.fingerprint, str(report.output))
    return report


def _asked_at(database: Database, training: str | None) -> datetime | None:
    """Until when reviews count: one that is taken up again after a kill has to learn from the same."""
    if training is None:
        return None
    with database.read() as session:
        asked = trainings.find(session, UUID(training))
    return None if asked is None else asked.asked_at


def _lessons(
    reviewed: LessonRequest,
    settings: Settings,
    database: Database,
    tell: Callable[[str, int, int], None],
    until: datetime | None = None,
) -> LessonSet:
    key = settings.label_studio_api_key
    with ExitStack() as stack:
        client = None
        if key is not None:
            client = stack.enter_context(LabelStudioClient(settings.label_studio_url, key.get_secret_value()))
        source = stack.enter_context(image_source(settings))
        gathering = Gathering(settings, database, client, source)
        gathered = gathering.gather(reviewed.projects, until, partial(tell, "fetching reviewed photographs"))
    return assemble(reviewed, gathered, settings, database, tell)


def _desk() -> tuple[Settings, Database]:
    settings = Settings()
    database = Database(settings.resolved_database_url)
    migrate.require_head(database)
    return settings, database


def _print(summary: dict[str, Any], console: Console) -> None:
    say = partial(console.print, highlight=False, markup=False)
    projects = ", ".join(map(str, summary["projects"]))
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in summary["outcomes"].items())
    say(
        f"{summary['photographs']} photographs from {summary['reviews']} reviews of project {projects}: {outcomes}; "
        f"{summary['with_regions_by_hand']} with regions that an inspector worked on"
    )
    if summary["folder_sha256"] is not None:
        say(
            f"also in the folder: {summary['also_in_the_folder']}, of these "
            f"{summary['labelled_otherwise_in_the_folder']} with another label there; the review counts"
        )
    if tested := summary["held"]["tested_only"]:
        say(f"{tested} that the model in use was tested on: tested on again, and not learned from")
    for reason, left_out in summary["left_out"].items():
        named = "; ".join(left_out["named"][:3])
        more = f" and {left_out['count'] - 3} more" if left_out["count"] > 3 else ""
        say(f"left out: {left_out['count']} {reason}: {named}{more}", style="yellow")
    for note in summary["notes"]:
        say(f"note: {note}", style="yellow")
