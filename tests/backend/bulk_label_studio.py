"""Label Studio in memory, for predicting in bulk: tasks by number, stored predictions, and faults at will."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import httpx

from backend.label_studio.client import LabelStudioClient

URL = "http://desk.example:8080"
PROJECT = 7
Json = dict[str, Any]
Predict = Callable[[list[Json]], list[Json]]


def refusal(status: int, detail: str) -> httpx.Response:
    """An error in Label Studio's words."""
    return httpx.Response(status, json={"id": "x", "status_code": status, "version": "1.23.2", "detail": detail})


class BulkLabelStudio:
    """Answers as Label Studio 1.23.2 was seen to.

    `backend` is what it asks for predictions. `fault` sees each request first, with how often one of its kind came
    before: what it gives is the answer, what it raises the fate of the connection. `after` sees it when it was done.

    While `backend_is_away` says so it does not reach the backend, stores nothing, and tells success.

    With `store_after_looks` the answer to the first request to retrieve is lost to a proxy's time-out, and what it
    brings is stored after so many looks at tasks' predictions, whatever was stored meanwhile.
    """

    def __init__(self, tasks: int, *, backend: Predict, label_config: str = "<View/>", url: str = URL) -> None:
        self.url = url
        self.tasks = {n: {"id": n, "data": {"image": f"/data/upload/{n}.png"}} for n in range(1, tasks + 1)}
        self.stored: list[Json] = []
        self.requests: list[str] = []
        self.largest_chunk = 0
        self.shown: str | None = None
        self.fault: Callable[[str, int], httpx.Response | None] = lambda _kind, _nth: None
        self.after: Callable[[str, int], None] = lambda _kind, _nth: None
        self.backend_is_away: Callable[[], bool] = lambda: False
        self.store_after_looks = 0
        self._late: list[tuple[int, Json]] = []
        self._backend = backend
        self._config = label_config
        self._numbers = itertools.count(1)

    def client(self) -> LabelStudioClient:
        return LabelStudioClient(self.url, "0123456789abcdef", pause=0, transport=httpx.MockTransport(self))

    def of(self, task: int) -> list[Json]:
        return [prediction for prediction in self.stored if prediction["task"] == task]

    def store(self, task: int, answer: Json) -> None:
        self.stored.append({"id": next(self._numbers), "task": task, **answer})

    def count(self, kind: str) -> int:
        return self.requests.count(kind)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.strip("/")
        kind, answer = self._route(request, path)
        nth = self.count(kind)
        self.requests.append(kind)
        met = self.fault(kind, nth)
        if met is not None:
            return met
        response = answer()
        self.after(kind, nth)
        return response

    def _route(self, request: httpx.Request, path: str) -> tuple[str, Callable[[], httpx.Response]]:
        body = json.loads(request.content or b"{}")
        words = path.split("/")
        if path == "api/tasks":
            return "list", lambda: self._list(request.url.params)
        if path == "api/dm/actions":
            return "retrieve", lambda: self._retrieve(body["selectedItems"]["included"])
        if path == "api/predictions" and request.method == "POST":
            return "create", lambda: self._create(body)
        if words[:2] == ["api", "predictions"] and request.method == "DELETE":
            return "delete", lambda: self._delete(int(words[2]))
        if path == "api/ml":
            state = "DI" if self.backend_is_away() else "CO"
            return "backends", lambda: httpx.Response(200, json=[{"url": "http://desk.example:9090", "state": state}])
        if path == "api/predictions":
            return "look", lambda: self._look(int(request.url.params["task"]))
        if words[:2] == ["api", "tasks"] and words[3:] == ["annotations"]:
            return "annotations", lambda: self._annotations(int(words[2]))
        if words[:2] == ["api", "projects"]:
            return "project", lambda: self._project(request.method, body)
        raise AssertionError(f"{request.method} {path} is not known here")

    def _list(self, params: httpx.QueryParams) -> httpx.Response:
        (above,) = json.loads(params["query"])["filters"]["items"]
        assert (above["filter"], above["operator"]) == ("filter:tasks:id", "greater")
        numbers = [n for n in sorted(self.tasks) if n > above["value"]]
        tasks = [
            {"annotations": [], **self.tasks[n], "predictions": self.of(n)} for n in numbers[: int(params["page_size"])]
        ]
        return httpx.Response(200, json={"tasks": tasks, "total": len(numbers)})

    def _retrieve(self, numbers: list[int]) -> httpx.Response:
        """One request to the backend with all tasks that lack the version; what it answers is stored; always well."""
        self.largest_chunk = max(self.largest_chunk, len(numbers))
        waiting = [] if self.backend_is_away() else numbers
        tasks = [self.tasks[n] for n in waiting if n in self.tasks and not self.of(n)]
        answers = [(task["id"], answer) for task, answer in zip(tasks, self._backend(tasks), strict=True) if answer]
        if self.store_after_looks and self.count("retrieve") == 1:
            self._late = answers
            return httpx.Response(504, text="<h1>504 Gateway Time-out</h1>")
        for number, answer in answers:
            self.store(number, answer)
        return httpx.Response(200, json={"processed_items": len(numbers), "detail": "Retrieved"})

    def _create(self, body: Json) -> httpx.Response:
        if body["task"] not in self.tasks:
            return refusal(400, f'task: Invalid pk "{body["task"]}" - object does not exist.')
        self.store(body.pop("task"), body)
        return httpx.Response(201, json=self.stored[-1])

    def _delete(self, number: int) -> httpx.Response:
        self.stored = [one for one in self.stored if one["id"] != number]
        return httpx.Response(204)

    def _look(self, task: int) -> httpx.Response:
        if self._late and self.count("look") >= self.store_after_looks:
            for number, answer in self._late:
                self.store(number, answer)
            self._late = []
        if task not in self.tasks:
            return refusal(400, "task: Select a valid choice. That choice is not one of the available choices.")
        return httpx.Response(200, json=self.of(task))

    def _annotations(self, task: int) -> httpx.Response:
        return httpx.Response(200, json=[]) if task in self.tasks else refusal(404, "No Task matches the given query.")

    def _project(self, method: str, body: Json) -> httpx.Response:
        if method == "PATCH":
            versions = {one["model_version"] for one in self.stored}
            assert body["model_version"] in versions, "Label Studio refuses a version it has no predictions of"
            self.shown = body["model_version"]
        return httpx.Response(200, json={"id": PROJECT, "label_config": self._config})
