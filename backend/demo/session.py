"""The demo: Label Studio, the desk and a model brought up together on one machine, and kept for the next start."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
import unicodedata
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from backend.bulk_prediction import BulkPrediction, BulkResult
from backend.connection import ConnectedProject, connect, create_project
from backend.credentials import load_credentials
from backend.demo.label_studio_server import LabelStudioServer, prepare_template, write_private
from backend.demo.material import DemoMaterial, distinct_title, prepare_material
from backend.demo.processes import ManagedProcess, require_free_port
from backend.demo.record import DemoRecord, KeptProject, read_record, write_record
from backend.label_studio.client import LabelStudioClient
from backend.map_addresses import MapAddresses
from backend.models_in_use import ModelIdentity, version_in_use
from backend.retrieval import Retrieval, await_version
from backend.settings import Settings
from db.engine import Database
from inspection_models.model_card import CARD_FILE, read_card

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
    from typing_extensions import Self

    from backend.demo.progress import DemoProgress
    from inspection_models.model_card import ModelCard

_API_KEY_FILE = "label-studio-api-key"
_BACKEND_PATIENCE_SECONDS = 120.0
_WATCH_SECONDS = 1.0
_UPLOAD_FILES = 20
# Characters that Label Studio drops from the name of an uploaded file.
_DROPPED = re.compile(r"[^-\w.]")


class DemoError(RuntimeError):
    """The demo cannot be brought up or go on; the message says what to do."""


class DemoSettings(Settings):
    """The desk's settings in the demo: what the demo gives, whatever the user's environment says of another desk."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the constructor is given."""
        return (init_settings,)


@dataclass(frozen=True)
class DemoOptions:
    """What the demo runs on.

    Attributes:
        directory: everything the demo keeps.
        label_studio: its `label-studio` program.
        label_studio_port, backend_port: on loopback.
        images: the user's own photographs; None for synthetic steel strip.
        model: the user's own model; None for one trained on synthetic steel strip.
    """

    directory: Path
    label_studio: Path
    label_studio_port: int
    backend_port: int
    images: Path | None = None
    model: Path | None = None


class DemoSession:
    """A running demo. Leaving the context stops all that it started."""

    def __init__(self, options: DemoOptions, progress: DemoProgress) -> None:
        self._options = options
        self._progress = progress
        self._stack = ExitStack()
        self.timings: dict[str, float] = {}

    def __enter__(self) -> Self:
        try:
            self._bring_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _bring_up(self) -> None:
        options = self._options
        options.directory.mkdir(parents=True, exist_ok=True)
        self._record = required_record(options)
        # Said before minutes of training, not after.
        require_free_port(options.label_studio_port, "--label-studio-port")
        require_free_port(options.backend_port, "--backend-port")
        with self._step("material", "images and model"):
            self.material: DemoMaterial = prepare_material(
                options.directory, images=options.images, model=options.model, progress=self._progress
            )
        self.card: ModelCard = read_card(self.material.model / CARD_FILE)
        with self._step("label_studio", "Label Studio") as tick:
            template = prepare_template(options.label_studio, _cache_directory(), progress=tick)
            self.server = LabelStudioServer(
                options.label_studio,
                options.directory / "label-studio",
                port=options.label_studio_port,
                template=template,
            )
            self.server.start(progress=tick)
            self._stack.callback(self.server.stop)
        write_record(options.directory, self._record)
        with self._step("backend", "the inspection desk") as tick:
            self._start_backend(tick)
        self.client = self._stack.enter_context(
            LabelStudioClient(self.server.url, str(self.server.credentials.personal_access_token))
        )
        with self._step("project", "project, backend and webhooks connected"):
            self.project = self._connected_project()
        # Another model may have been activated here since the demo began.
        self.model_version = self._version_in_use()
        with self._step("upload", "images uploaded"):
            self._upload()
        with self._step("predict", "images judged and explained") as tick:
            self.predicted = self._predict()

    @property
    def settings(self) -> Settings:
        """The desk's settings in this demo."""
        return DemoSettings(**self._desk_settings())

    def watch(self) -> None:
        """Wait as long as Label Studio and the desk run.

        Raises:
            DemoError: one of them ended.
        """
        while True:
            for name, child in (("Label Studio", self.server), ("the inspection desk", self._desk)):
                if not child.is_running:
                    raise DemoError(f"{name} ended; its log {child.log_file} says why, and the rest was stopped")
            time.sleep(_WATCH_SECONDS)

    def _desk_settings(self) -> dict[str, Any]:
        return {
            "data_dir": self._options.directory / "desk",
            "model": self.material.model,
            "host": "127.0.0.1",
            "port": self._options.backend_port,
            "label_studio_url": self.server.url,
            "label_studio_api_key_file": self._options.directory / _API_KEY_FILE,
        }

    def _predict(self) -> BulkResult:
        project = self.project.project_id
        database = Database(self.settings.resolved_database_url)
        try:
            return BulkPrediction(
                self.client,
                project,
                self.model_version,
                Retrieval(self.client, project, self.model_version, database=database),
                database=database,
                in_use=lambda: version_in_use(self.settings, database, project).model_version,
                chunk=4,
            ).run(lambda done, total: self._progress.count("judging and explaining", done, total))
        finally:
            database.close()

    def _start_backend(self, tick: Any) -> None:
        write_private(self._options.directory / _API_KEY_FILE, f"{self.server.credentials.personal_access_token}\n")
        outer = {name: value for name, value in os.environ.items() if not name.upper().startswith("INSPECTION_")}
        given = {f"INSPECTION_{name.upper()}": str(value) for name, value in self._desk_settings().items()}
        self._desk = ManagedProcess(
            "the inspection desk",
            [sys.executable, "-m", "backend.cli", "serve"],
            log_file=self._options.directory / "desk.log",
            environment={**outer, **given},
        )
        self._desk.start()
        self._stack.callback(self._desk.stop)
        self._desk.wait_until_healthy(
            f"http://127.0.0.1:{self._options.backend_port}/readyz", timeout=_BACKEND_PATIENCE_SECONDS, progress=tick
        )

    def _connected_project(self) -> ConnectedProject:
        classes = tuple(self.card.classes)
        credentials = load_credentials(self.settings)
        maps = MapAddresses(f"http://127.0.0.1:{self._options.backend_port}", credentials.map_key)
        kept = self._record.project_for(self.material.source, classes)
        there = {int(project["id"]) for project in self.client.projects()}
        was_created = kept is None or kept.project_id not in there
        if kept is None or was_created:
            title = (
                kept.title if kept else distinct_title(self.material.title, {p.title for p in self._record.projects})
            )
            number = create_project(
                self.client, title, ModelIdentity.of(self.card), heading=self.material.heading, maps=maps
            )
            kept = KeptProject(number, title, self.material.source, classes)
        self._keep(kept)
        return connect(
            self.client,
            kept.project_id,
            backend_url=f"http://127.0.0.1:{self._options.backend_port}",
            model=ModelIdentity.of(self.card),
            credentials=credentials,
            mapping={},
            maps=maps,
            was_created=was_created,
        )

    def _version_in_use(self) -> str:
        database = Database(self.settings.resolved_database_url)
        try:
            version = version_in_use(self.settings, database, self.project.project_id).model_version
        finally:
            database.close()
        await_version(self.client, self.project.project_id, version)
        return version

    def _upload(self) -> None:
        """Upload what never was; each batch is kept in the record as soon as Label Studio has it."""
        files = [(path, (path.name, hashlib.sha256(path.read_bytes()).hexdigest())) for path in self.material.images]
        recorded = set(self.kept.uploaded)
        # Label Studio may have files that the record lacks, where the demo was ended between the two.
        unrecorded = Counter(uploaded_name(task) for task in self.client.tasks(self.kept.project_id))
        unrecorded.subtract(label_studio_name(name) for name, _ in recorded)
        missing, there = [], []
        for path, key in files:
            if key in recorded:
                continue
            if unrecorded[label_studio_name(path.name)] > 0:
                unrecorded[label_studio_name(path.name)] -= 1
                there.append(key)
            else:
                missing.append((path, key))
        if there:
            self._keep(replace(self.kept, uploaded=(*self.kept.uploaded, *there)))
        for start in range(0, len(missing), _UPLOAD_FILES):
            batch = missing[start : start + _UPLOAD_FILES]
            self.client.import_files(self.kept.project_id, [path for path, _ in batch])
            self._keep(replace(self.kept, uploaded=(*self.kept.uploaded, *(key for _, key in batch))))

    def _keep(self, project: KeptProject) -> None:
        self.kept = project
        self._record = self._record.with_project(project)
        write_record(self._options.directory, self._record)

    @contextmanager
    def _step(self, name: str, what: str) -> Iterator[Any]:
        started = time.monotonic()
        with self._progress.step(what) as tick:
            yield tick
        self.timings[name] = round(time.monotonic() - started, 2)


def required_record(options: DemoOptions) -> DemoRecord:
    """The record of the demo in this folder, a new one at its first start.

    Raises:
        DemoError: it was begun with Label Studio on another port.
        DemoRecordError: it is damaged.
    """
    record = read_record(options.directory)
    if record is None:
        return DemoRecord(options.label_studio_port)
    if record.label_studio_port != options.label_studio_port:
        raise DemoError(
            f"the demo in {options.directory} has its Label Studio on port {record.label_studio_port}, and its reviews "
            f"are bound to that address; give --label-studio-port {record.label_studio_port} or another --directory"
        )
    return record


def label_studio_name(name: str) -> str:
    """A file's name as Label Studio keeps it: spaces become underscores, what is no word character is dropped."""
    return unicodedata.normalize("NFC", _DROPPED.sub("", name.strip().replace(" ", "_")))


def uploaded_name(task: Mapping[str, Any]) -> str:
    """The name of a task's uploaded file, without the eight digits and the hyphen that Label Studio puts before it."""
    address = str((task.get("data") or {}).get("image", ""))
    return unicodedata.normalize("NFC", unquote(address.rsplit("/", 1)[-1]).partition("-")[2])


def _cache_directory() -> Path:
    chosen = os.environ.get("INSPECTION_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "inspection"
