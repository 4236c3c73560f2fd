"""`inspection doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from backend.settings import Settings
    from db.engine import Database
    from db.records import ModelScope

_ROOM_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    found: str


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("doctor")(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False) -> int:
    """Look at packages, model, database, Label Studio and disk: exit 0 when all is well, else 1."""
    from backend.settings import Settings  # noqa: PLC0415

    findings = list(_examine(Settings()))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings], indent=2))
    else:
        for one in findings:
            typer.echo(f"{'ok   ' if one.ok else 'WRONG'} {one.what}: {one.found}")
    return 0 if all(one.ok for one in findings) else 1


def _examine(settings: Settings) -> Iterator[Finding]:
    yield _opencv()
    yield _torchvision()
    yield from _models(settings)
    yield _database(settings)
    yield _label_studio(settings)
    yield from _reconciling(settings)
    yield _disk(settings)


def _opencv() -> Finding:
    import cv2  # noqa: PLC0415

    if not hasattr(cv2, "imencode"):
        repair = "pip install --no-deps --force-reinstall opencv-python==4.12.0.88"
        return Finding("OpenCV", False, f"its files were removed together with a twin package; run `{repair}`")
    return Finding("OpenCV", True, str(cv2.__version__))


def _torchvision() -> Finding:
    import torch  # noqa: PLC0415

    from inspection_models._torchvision import torchvision  # noqa: PLC0415

    return Finding("torch", True, f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def _models(settings: Settings) -> Iterator[Finding]:
    """The models that are in use: those activated, and INSPECTION_MODEL's where the desk has none activated."""
    from db import migrate, model_events  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415

    database = Database(settings.resolved_database_url)
    try:
        migrate.require_head(database)
        with database.read() as session:
            used = model_events.in_use(session)
    except DatabaseError:
        used = {}  # told of under "database"
    if model_events.DESK not in used:
        yield _own_model(settings)
    for scope, version in used.items():
        yield _activated_model(settings, database, scope, version)


def _own_model(settings: Settings) -> Finding:
    from inspection_models.classifier import DefectClassifier, ModelError  # noqa: PLC0415

    try:
        classifier = DefectClassifier.load(settings.resolved_model)
    except ModelError as error:
        return Finding("model", False, f"{error}; set INSPECTION_MODEL or run `inspection train`")
    return Finding("model", True, f"{classifier.version} in {settings.resolved_model}")


def _activated_model(settings: Settings, database: Database, scope: ModelScope, version_id: UUID) -> Finding:
    from backend.model_loading import model_version_string  # noqa: PLC0415
    from backend.models_in_use import store_of  # noqa: PLC0415
    from db import model_locations, model_versions  # noqa: PLC0415
    from inspection_models.classifier import DefectClassifier, ModelError  # noqa: PLC0415

    what = "model" if scope.project_id is None else f"model of {scope}"
    with database.read() as session:
        version = model_versions.find(session, version_id)
        recorded = model_locations.of(session, version.fingerprint) if version is not None else ()
    if version is None:
        return Finding(what, False, f"version {version_id} is in use and not registered; run `inspection db check`")
    name = model_version_string(version)
    try:
        directory = store_of(settings).locate(version.fingerprint, recorded)
        DefectClassifier.load(directory)
    except ModelError as error:
        return Finding(what, False, f"{name} was activated and cannot be used, so the one before answers: {error}")
    return Finding(what, True, f"{name}, activated, in {directory}")


def _database(settings: Settings) -> Finding:
    from db.check import check  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415

    found = check(Database(settings.resolved_database_url))
    return Finding("database", found.is_ok, "; ".join(found.problems) or f"{found.database} at {found.revision}")


def _label_studio(settings: Settings) -> Finding:
    from backend.label_studio.client import LabelStudioClient  # noqa: PLC0415
    from backend.label_studio.errors import LabelStudioError  # noqa: PLC0415

    if settings.label_studio_api_key is None:
        return Finding("Label Studio", False, "INSPECTION_LABEL_STUDIO_API_KEY is not set, so no image can be read")
    try:
        with LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key.get_secret_value()) as client:
            return Finding(
                "Label Studio", True, f"{client.version()} at {client.url}, key of {client.whoami()['email']}"
            )
    except LabelStudioError as error:
        return Finding("Label Studio", False, str(error))


def _reconciling(settings: Settings) -> Iterator[Finding]:
    """When the record was last compared with Label Studio's annotations, and how that ended."""
    from backend.project_comparison import RECONCILE  # noqa: PLC0415
    from backend.reconciliation_timer import job_kind  # noqa: PLC0415
    from db import failures, reconciliations  # noqa: PLC0415
    from db.engine import Database  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415

    instance = settings.label_studio_url
    try:
        with Database(settings.resolved_database_url).read() as session:
            done = reconciliations.marks(session, instance=instance)
            told = failures.recent(session, kind=RECONCILE, instance=instance, limit=1)
            ended = failures.recent(session, kind=job_kind(instance), limit=1)
    except DatabaseError:
        return  # told of under "database"
    last = max((one.compared_at for one in done), default=None)
    failed = sorted((*told, *ended), key=lambda one: one.occurred_at, reverse=True)
    disagreeing = [str(one.project_id) for one in done if one.failed]
    if failed and (last is None or failed[0].occurred_at > last):
        yield Finding("reconciling", False, failed[0].reason)
    elif disagreeing:
        advice = "`inspection failures` says why"
        yield Finding("reconciling", False, f"not in agreement in project {', '.join(disagreeing)}; {advice}")
    elif last is None:
        yield Finding("reconciling", True, "not done yet; `inspection reconcile` does it, and `serve` by itself")
    else:
        yield Finding(
            "reconciling", True, f"{len(done)} projects in agreement, last compared {last:%Y-%m-%d %H:%M} UTC"
        )


def _disk(settings: Settings) -> Finding:
    folder = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    return Finding("disk", free >= _ROOM_BYTES, f"{free / 1e9:.1f} GB free at {folder}")
