"""Label Studio's API in memory, as far as annotations go: what it answers, and which webhooks it would send."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx

from backend.label_studio.client import LabelStudioClient

KEY = "0123456789abcdef0123456789abcdef01234567"
Json = dict[str, Any]


def refusal(status: int, detail: str) -> httpx.Response:
    """An error in Label Studio's words."""
    return httpx.Response(status, json={"id": "x", "status_code": status, "version": "1.23.2", "detail": detail})


@dataclass
class FakeLabelStudio:
    """A Label Studio at `url`. `events` are the webhooks that it sent; `fault` may answer a request in its stead.

    Its clock begins an hour ago and goes on by a second with each change.
    """

    url: str
    label_config: str
    projects: dict[int, Json] = field(default_factory=dict)
    tasks: dict[int, Json] = field(default_factory=dict)
    annotations: dict[int, Json] = field(default_factory=dict)
    webhooks: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    fault: Callable[[httpx.Request], httpx.Response | None] = lambda _: None

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self.now = datetime.now(timezone.utc) - timedelta(hours=1)

    def client(self) -> LabelStudioClient:
        return LabelStudioClient(self.url, KEY, pause=0, transport=httpx.MockTransport(self))

    def add_project(self, **fields: Any) -> int:
        number = next(self._numbers)
        self.projects[number] = {
            "id": number, "title": f"Panels {number}", "label_config": self.label_config, "model_version": "",
            "created_at": self._tick(), **fields,
        }  # fmt: skip
        return number

    def add_task(self, project: int) -> int:
        number = next(self._numbers)
        self.tasks[number] = {"id": number, "project": project, "updated_at": self._tick(), "predictions": []}
        return number

    def predict(self, task: int, result: list[Json], model_version: str) -> int:
        number = next(self._numbers)
        prediction = {"id": number, "result": result, "model_version": model_version, "created_at": self._tick()}
        self.tasks[task]["predictions"].append(prediction)
        self._touch(task)
        return number

    def annotate(self, task: int, result: list[Json], *, user: int = 3, **fields: Any) -> int:
        number, made = next(self._numbers), self._tick()
        self.annotations[number] = {
            "id": number, "task": task, "project": self.tasks[task]["project"], "result": result, "completed_by": user,
            "updated_by": user, "created_at": made, "updated_at": made, "was_cancelled": False, "ground_truth": False,
            "lead_time": 4.5, "parent_prediction": None, "parent_annotation": None, **fields,
        }  # fmt: skip
        self._touch(task)
        self._tell("ANNOTATION_CREATED", number)
        return number

    def edit(self, annotation: int, *, user: int = 3, **fields: Any) -> None:
        one = self.annotations[annotation]
        one.update(fields, updated_by=user, updated_at=self._tick())
        self._touch(one["task"])
        self._tell("ANNOTATION_UPDATED", annotation)

    def delete_annotation(self, annotation: int) -> None:
        gone = self.annotations.pop(annotation)
        self._touch(gone["task"])
        project = self.projects[gone["project"]]
        self.events.append(
            {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": annotation}], "project": dict(project)}
        )

    def delete_task(self, task: int) -> None:
        """Sends no webhook of annotations; nor does the deletion of a project."""
        self.annotations = {n: one for n, one in self.annotations.items() if one["task"] != task}
        del self.tasks[task]

    def delete_project(self, project: int) -> None:
        for task in [n for n, one in self.tasks.items() if one["project"] == project]:
            self.delete_task(task)
        del self.projects[project]

    def backup(self) -> Callable[[], None]:
        """Keeps all there is now; the call that comes back restores it, as a database's backup does."""
        kept = copy.deepcopy((self.projects, self.tasks, self.annotations, self._numbers))

        def restore() -> None:
            self.projects, self.tasks, self.annotations, self._numbers = copy.deepcopy(kept)

        return restore

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append(path)
        if (answer := self.fault(request)) is not None:
            return answer
        if path == "/health":
            return httpx.Response(200, json={"status": "UP"})
        if request.headers.get("authorization") != f"Token {KEY}":
            return refusal(401, "Invalid token.")
        kind, _, number = path.removeprefix("/api/").strip("/").partition("/")
        if number:
            return self._one(kind, int(number))
        if kind == "projects":
            return httpx.Response(200, json={"next": None, "results": [self._project(n) for n in self.projects]})
        if kind == "webhooks":
            return httpx.Response(200, json=self.webhooks)
        return self._listing(request) if kind == "tasks" else refusal(404, "Not found.")

    def _one(self, kind: str, number: int) -> httpx.Response:
        listed = [one for task in self.tasks.values() for one in task["predictions"] if isinstance(one, dict)]
        predictions = {one["id"]: one for one in listed}
        known = {
            "projects": self.projects, "annotations": self.annotations, "tasks": self.tasks, "predictions": predictions
        }[kind]  # fmt: skip
        if number not in known:
            return refusal(404, f"No {kind} matches the given query.")
        shown = {
            "projects": self._project,
            "annotations": self.annotations.get,
            "tasks": self._task,
            "predictions": predictions.get,
        }[kind]
        return httpx.Response(200, json=shown(number))

    def _listing(self, request: httpx.Request) -> httpx.Response:
        params = request.url.params
        project, size = int(params["project"]), int(params["page_size"])
        if project not in self.projects:
            return refusal(404, "No Project matches the given query.")
        found = [n for n, one in sorted(self.tasks.items()) if one["project"] == project]
        for item in json.loads(params["query"])["filters"]["items"]:
            found = [n for n in found if self._passes(n, item)]
        return httpx.Response(200, json={"total": len(found), "tasks": [self._task(n) for n in found[:size]]})

    def _passes(self, task: int, item: Json) -> bool:
        if item["filter"] == "filter:tasks:updated_at":
            return datetime.fromisoformat(self.tasks[task]["updated_at"]) > _instant(item["value"])
        assert item["filter"] == "filter:tasks:id"
        return bool(task > item["value"] if item["operator"] == "greater" else task == item["value"])

    def _project(self, number: int) -> Json:
        own = [one for one in self.annotations.values() if one["project"] == number]
        skipped = sum(one["was_cancelled"] for one in own)
        return {
            **self.projects[number],
            "task_number": sum(one["project"] == number for one in self.tasks.values()),
            "total_annotations_number": len(own) - skipped,
            "skipped_annotations_number": skipped,
        }

    def _task(self, number: int) -> Json:
        own = [one for one in self.annotations.values() if one["task"] == number]
        return {**self.tasks[number], "annotations": own, "drafts": [{"id": 1, "result": []}]}

    def _touch(self, task: int) -> None:
        self.tasks[task]["updated_at"] = self._tick()

    def _tick(self) -> str:
        self.now += timedelta(seconds=1)
        return self.now.isoformat(timespec="microseconds")

    def _tell(self, action: str, annotation: int) -> None:
        one = self.annotations[annotation]
        project, task = self.projects[one["project"]], self.tasks[one["task"]]
        # As Label Studio does: the first of the project's version, whatever the annotation was made from.
        shown = next((p for p in task["predictions"] if p["model_version"] == project["model_version"]), {})
        event = {
            "action": action, "annotation": {**one, "prediction": shown}, "project": project, "task": {"id": task["id"]}
        }  # fmt: skip
        self.events.append(json.loads(json.dumps(event)))


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
