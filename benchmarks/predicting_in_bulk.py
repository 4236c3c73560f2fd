"""Many tasks predicted beside a real Label Studio on SQLite: by either way of `inspection predict`, which is killed in
the middle and gone on with, and by Label Studio's own action over all tasks at once.

The model is tiny and the photographs are few, each shown by many tasks, so that this is about the path: Label Studio's
listing, asking and storing. `BULK_TASKS` narrows it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import torch
from PIL import Image

from backend.bulk_prediction import BulkPrediction
from backend.demo.label_studio_server import LabelStudioServer, prepare_template
from backend.demo.processes import ManagedProcess, free_port
from backend.desk import Desk
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.errors import LabelStudioError
from backend.models_in_use import version_in_use
from backend.pushing import Pushing
from backend.retrieval import Retrieval
from backend.settings import Settings
from benchmarks.machine import described
from inspection_models.classifier import DefectClassifier
from inspection_models.model_card import ExplanationSettings
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
LABEL_STUDIO = ROOT / ".venv-label-studio" / "bin" / "label-studio"
_TASKS = int(os.environ.get("BULK_TASKS", "2000"))
_PICTURES = 20
_SIDE = 64
_ALONE = "Label Studio's own action"
_IMPORTED_AT_ONCE = 500
_LOOK_SECONDS = 1.0
_OPEN_EVERY_SECONDS = 2.0


@dataclass
class Answers(httpx.BaseTransport):
    """A way to Label Studio that notes how long its slowest answer took, in seconds."""

    slowest: float = 0.0
    _inner: httpx.BaseTransport = field(default_factory=httpx.HTTPTransport)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on, and wait for the whole of its answer."""
        began = time.monotonic()
        try:
            response = self._inner.handle_request(request)
            response.read()
        finally:
            self.slowest = max(self.slowest, time.monotonic() - began)
        return response

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


@dataclass(frozen=True)
class Place:
    """A running Label Studio and a running desk."""

    server: LabelStudioServer
    settings: Settings
    environment: dict[str, str]

    @property
    def key(self) -> str:
        """The API key that everybody uses."""
        return str(self.server.credentials.personal_access_token)

    @contextmanager
    def client(self) -> Iterator[tuple[LabelStudioClient, Answers]]:
        """A client, and what it notes."""
        answers = Answers()
        with LabelStudioClient(self.server.url, self.key, transport=answers) as client:
            yield client, answers

    def command(self, *arguments: str) -> list[str]:
        """A command of the desk's."""
        return [sys.executable, "-m", "backend.cli", *arguments]


def run(folder: Path) -> dict[str, Any]:
    """Measure; nothing is kept in `folder` but the logs."""
    with _standing(folder) as place:
        ways = {}
        for name in ("retrieve", _ALONE, "push"):
            ways[name] = _at_once(place) if name == _ALONE else _killed_and_gone_on_with(place, name)
            print(json.dumps({name: ways[name]}), file=sys.stderr)
    return {
        "narrowed": "BULK_TASKS" in os.environ,
        "machine": described(),
        "tasks": _TASKS,
        "pictures": _PICTURES,
        "ways": ways,
    }


@contextmanager
def _standing(folder: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inspection-bulk-")))
        cache = Path(os.environ.get("INSPECTION_CACHE") or Path.home() / ".cache" / "inspection")
        template = prepare_template(LABEL_STUDIO, cache)
        server = LabelStudioServer(LABEL_STUDIO, scratch / "label-studio", port=free_port(), template=template)
        stack.enter_context(server)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("INSPECTION_")},
            "INSPECTION_DATA_DIR": str(scratch / "desk"),
            "INSPECTION_MODEL": str(_model(scratch / "model")),
            "INSPECTION_PORT": str(free_port()),
            "INSPECTION_LABEL_STUDIO_URL": server.url,
            "INSPECTION_LABEL_STUDIO_API_KEY": str(server.credentials.personal_access_token),
        }
        settings = Settings(
            data_dir=scratch / "desk",
            model=scratch / "model",
            port=int(environment["INSPECTION_PORT"]),
            label_studio_url=server.url,
            label_studio_api_key=str(server.credentials.personal_access_token),  # type: ignore[arg-type]
        )
        place = Place(server, settings, environment)
        desk = ManagedProcess(
            "desk",
            place.command("serve"),
            log_file=folder / "desk.log",
            environment=environment,
            working_directory=ROOT,
        )
        stack.enter_context(desk)
        desk.wait_until_healthy(f"http://127.0.0.1:{settings.port}/readyz", timeout=120)
        yield place


def _killed_and_gone_on_with(place: Place, way: str) -> dict[str, Any]:
    """`inspection predict`, killed when half is done, then the same run to its end in this process."""
    with place.client() as (client, answers):
        project = _filled_project(place, client, f"By {way}")
        with _opening_tasks(place, project) as opened:
            began = time.monotonic()
            options = ["--push"] if way == "push" else []
            command = place.command("predict", "--project", str(project), *options)
            first = subprocess.Popen(command, cwd=ROOT, env=place.environment, stderr=subprocess.DEVNULL)
            while first.poll() is None and _predicted(client, project) < _TASKS // 2:
                time.sleep(_LOOK_SECONDS)
            first.kill()
            first.wait()
            before = _predicted(client, project)
            answers.slowest = 0.0
            _go_on(place, client, project, way)
            seconds = time.monotonic() - began
        return {"predicted_when_killed": before, **_found(client, project, seconds, answers.slowest, opened)}


def _go_on(place: Place, client: LabelStudioClient, project: int, way: str) -> None:
    desk = Desk.open(place.settings, work_off_queue=False)
    try:
        version = version_in_use(place.settings, desk.database, project).model_version
        asking = (
            Pushing(client, project, version, desk.predictions)
            if way == "push"
            else Retrieval(client, project, version, database=desk.database)
        )
        bulk = BulkPrediction(client, project, version, asking, database=desk.database, in_use=lambda: version)
        done = bulk.run()
        if done.failed:
            raise SystemExit(f"{len(done.failed)} tasks were not predicted, such as {done.failed[0]}")
    finally:
        desk.close()


def _at_once(place: Place) -> dict[str, Any]:
    """Label Studio's "Retrieve predictions" over all tasks of a project, in the one request that its page sends."""
    with place.client() as (client, answers):
        project = _filled_project(place, client, "By Label Studio alone")
        numbers = [int(task["id"]) for task in client.tasks(project)]
        answers.slowest = 0.0
        error = None
        with _opening_tasks(place, project) as opened:
            began = time.monotonic()
            try:
                client.retrieve_predictions(project, numbers)
            except LabelStudioError as refused:
                error = str(refused)
            seconds = time.monotonic() - began
        return {"error": error, **_found(client, project, seconds, answers.slowest, opened)}


def _found(
    client: LabelStudioClient, project: int, seconds: float, slowest: float, opened: list[float]
) -> dict[str, Any]:
    """What a way came to. A page is Label Studio's list of the project's first tasks, asked for all the while."""
    often = Counter(len(task["predictions"]) for task in client.tasks(project))
    have = sum(count for predictions, count in often.items() if predictions)
    return {
        "seconds": round(seconds, 1),
        "tasks_per_second": round(have / seconds, 2),
        "tasks_with_one": often[1],
        "tasks_with_none": often[0],
        "tasks_with_several": have - often[1],
        "slowest_answer_seconds": round(slowest, 2),
        "slowest_page_seconds": round(max(opened), 2),
        "median_page_seconds": round(float(np.median(opened)), 2),
    }


def _filled_project(place: Place, client: LabelStudioClient, title: str) -> int:
    """A connected project with all its tasks; each picture is uploaded once and shown by many tasks."""
    connect = place.command("connect", "--new", title, "--json")
    made = subprocess.run(connect, cwd=ROOT, env=place.environment, capture_output=True, text=True, check=True)
    project = int(json.loads(made.stdout)["project_id"])
    client.import_files(project, [(f"part_{number:02d}.png", _picture(number)) for number in range(_PICTURES)])
    addresses = [str(task["data"]["image"]) for task in client.tasks(project)]
    further = [
        {"data": {"image": addresses[number % _PICTURES], "part": f"{title} {number}"}}
        for number in range(_PICTURES, _TASKS)
    ]
    headers = {"Authorization": f"Token {place.server.credentials.legacy_token}"}
    for start in range(0, len(further), _IMPORTED_AT_ONCE):
        address = f"{place.server.url}/api/projects/{project}/import"
        part = further[start : start + _IMPORTED_AT_ONCE]
        httpx.post(address, json=part, headers=headers, timeout=600).raise_for_status()
    return project


@contextmanager
def _opening_tasks(place: Place, project: int) -> Iterator[list[float]]:
    """Somebody looks at the list of tasks every so often; gives the seconds that each look took."""
    looks: list[float] = []
    stop = threading.Event()
    headers = {"Authorization": f"Token {place.server.credentials.legacy_token}"}

    def look() -> None:
        with httpx.Client(base_url=place.server.url, headers=headers, timeout=600) as http:
            while not stop.wait(_OPEN_EVERY_SECONDS):
                began = time.monotonic()
                http.get("/api/tasks", params={"project": project, "page": 1, "page_size": 30}).raise_for_status()
                looks.append(time.monotonic() - began)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield looks
    finally:
        stop.set()
        thread.join()


def _predicted(client: LabelStudioClient, project: int) -> int:
    return int(client.project(project)["total_predictions_number"])


def _picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(60, 200, (_SIDE, _SIDE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _model(directory: Path) -> Path:
    """A random network that calls everything a crack, so that each prediction has a class and regions."""
    torch.manual_seed(0)
    classes = ("good", "crack")
    network = build_network("squeezenet1_1", len(classes), pretrained=False).eval()
    head = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        head.bias = torch.nn.Parameter(torch.tensor([0.0, 2.0]))
    classifier = DefectClassifier.assemble(
        network,
        name="tiny",
        architecture="squeezenet1_1",
        classes=classes,
        good_class="good",
        preprocessing=Preprocessing(mode="letterbox", size=(_SIDE, _SIDE), mean=(127.0,) * 3, std=(128.0,) * 3),
        explanation=ExplanationSettings(method="quorum", options={}),
    )
    classifier.save(directory)
    return directory
