"""The demo: Label Studio, the desk and a model brought up together on one machine, and kept for the next start."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from backend.connection import ConnectedProject, connect, create_project
from backend.credentials import load_credentials
from backend.demo.label_studio_server import LabelStudioServer, prepare_template
from backend.demo.material import DemoMaterial, prepare_material
from backend.demo.processes import ManagedProcess, require_free_port
from backend.label_studio.client import LabelStudioClient
from backend.model_loading import model_version_string
from backend.retrieval import Retrieval, retrieve
from backend.settings import Settings
from inspection_models.model_card import CARD_FILE, read_card

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from backend.demo.progress import DemoProgress
    from inspection_models.model_card import ModelCard

_STATE_FILE = "demo.json"
_BACKEND_PATIENCE_SECONDS = 120.0


class DemoError(RuntimeError):
    """The demo cannot be brought up; the message says what to do."""


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
        # Said before minutes of training, not after.
        require_free_port(options.label_studio_port, "--label-studio-port")
        require_free_port(options.backend_port, "--backend-port")
        with self._step("material", "images and model"):
            self.material: DemoMaterial = prepare_material(
                options.directory, images=options.images, model=options.model, progress=self._progress
            )
        self.card: ModelCard = read_card(self.material.model / CARD_FILE)
        self.model_version = model_version_string(self.card)
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
        with self._step("backend", "the inspection desk") as tick:
            self._start_backend(tick)
        self.client = self._stack.enter_context(
            LabelStudioClient(self.server.url, str(self.server.credentials.personal_access_token))
        )
        with self._step("project", "project, backend and webhooks connected"):
            self.project = self._connected_project()
        with self._step("upload", "images uploaded"):
            self.uploaded = self._upload()
        with self._step("predict", "images judged and explained") as tick:
            self.retrieval: Retrieval = retrieve(
                self.client,
                self.project.project_id,
                self.model_version,
                progress=lambda done, total: self._progress.count("judging and explaining", done, total),
                chunk=4,
            )

    @property
    def settings(self) -> Settings:
        """The desk's settings in this demo."""
        return Settings(
            data_dir=self._options.directory / "desk",
            model=self.material.model,
            host="127.0.0.1",
            port=self._options.backend_port,
            label_studio_url=self.server.url,
            label_studio_api_key=SecretStr(str(self.server.credentials.personal_access_token)),
        )

    def _start_backend(self, tick: Any) -> None:
        settings = self.settings
        process = ManagedProcess(
            "the inspection desk",
            [sys.executable, "-m", "backend.cli", "serve"],
            log_file=self._options.directory / "desk.log",
            environment={
                **{name: value for name, value in os.environ.items() if not name.startswith("INSPECTION_")},
                "INSPECTION_DATA_DIR": str(settings.data_dir),
                "INSPECTION_MODEL": str(self.material.model),
                "INSPECTION_HOST": settings.host,
                "INSPECTION_PORT": str(settings.port),
                "INSPECTION_LABEL_STUDIO_URL": settings.label_studio_url,
                "INSPECTION_LABEL_STUDIO_API_KEY": str(self.server.credentials.personal_access_token),
            },
        )
        process.start()
        self._stack.callback(process.stop)
        process.wait_until_healthy(
            f"http://127.0.0.1:{settings.port}/readyz", timeout=_BACKEND_PATIENCE_SECONDS, progress=tick
        )

    def _connected_project(self) -> ConnectedProject:
        kept = self._state().get("projects", {})
        project_id = kept.get(self.material.title)
        known = {int(project["id"]) for project in self.client.projects()}
        was_created = project_id not in known
        if was_created:
            project_id = create_project(self.client, self.material.title, self.card, heading=self.material.heading)
            self._keep(projects={**kept, self.material.title: project_id})
        return connect(
            self.client,
            int(project_id),
            backend_url=f"http://127.0.0.1:{self._options.backend_port}",
            card=self.card,
            credentials=load_credentials(self.settings),
            mapping={},
            was_created=was_created,
        )

    def _upload(self) -> int:
        """Upload what is not there yet. Label Studio puts eight digits and a hyphen before a file's name."""
        there = {_original_name(task) for task in self.client.tasks(self.project.project_id)}
        missing = [image for image in self.material.images if label_studio_name(image.name) not in there]
        if missing:
            self.client.import_files(self.project.project_id, missing)
        return len(missing)

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads((self._options.directory / _STATE_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DemoError(
                f"{self._options.directory / _STATE_FILE} is damaged; move {self._options.directory} away to begin anew"
            ) from error
        return dict(state)

    def _keep(self, **changes: Any) -> None:
        path = self._options.directory / _STATE_FILE
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({**self._state(), **changes}, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)

    @contextmanager
    def _step(self, name: str, what: str) -> Iterator[Any]:
        started = time.monotonic()
        with self._progress.step(what) as tick:
            yield tick
        self.timings[name] = round(time.monotonic() - started, 2)


def label_studio_name(name: str) -> str:
    """A file's name as Label Studio keeps it: it drops what is no letter, digit, dot, hyphen or underscore."""
    return "".join(c for c in name.replace(" ", "_") if c.isalnum() or c in "._-")


def _original_name(task: Mapping[str, Any]) -> str:
    address = str((task.get("data") or {}).get("image", ""))
    return address.rsplit("/", 1)[-1].partition("-")[2]


def _cache_directory() -> Path:
    chosen = os.environ.get("INSPECTION_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "inspection"
