"""Label Studio's API, as far as the desk needs it. Every method raises a LabelStudioError that says what to do next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from typing_extensions import Self

from backend.label_studio import errors
from backend.label_studio.connection import Connection, Json
from backend.label_studio.tokens import Authorization

_SECONDS = 30.0
_LONG_SECONDS = 600.0
_PAUSE_SECONDS = 0.5
_UPLOAD_FILES = 20
_UPLOAD_BYTES = 50_000_000
_PAGE = 100
# Of the server's own time limits the usual one is shorter.
_LISTING_SECONDS = 120.0


class LabelStudioClient:
    """A Label Studio at `url`, used with a personal access token or a legacy token; safe to share between threads.

    `timeout` is in seconds for each call; calls that make Label Studio predict or import wait up to ten minutes.
    Reading calls and uploads are repeated up to three times where the connection or Label Studio fails, with `pause`
    seconds (and twice that) in between.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = _SECONDS,
        pause: float = _PAUSE_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._api = Connection(url, api_key, timeout=timeout, pause=pause, transport=transport)

    @property
    def url(self) -> str:
        """Label Studio's address, without a slash at its end."""
        return self._api.url

    @property
    def authorization(self) -> Authorization:
        """The `Authorization` header that this client sends, for an ImageSource to send as well."""
        return self._api.authorization

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def health(self) -> None:
        """Return where Label Studio is up; needs no valid key."""
        errors.check(self._api.send("GET", "health", with_key=False), "ask for Label Studio's health")

    def version(self) -> str:
        """Label Studio's release, such as "1.23.2"."""
        return str(self._api.object("GET", "api/version/", "ask for Label Studio's version").get("release", ""))

    def whoami(self) -> Json:
        """The user the key belongs to (`id`, `email`, …)."""
        return self._api.object("GET", "api/current-user/whoami", "ask whose API key this is")

    def projects(self, title: str | None = None) -> Iterator[Json]:
        """All projects the user sees, or those of exactly this title."""
        page: Json = {"next": True}
        number = 0
        while page.get("next"):
            number += 1
            page = self._api.object(
                "GET", "api/projects/", "list the projects", params={"page": number, "page_size": _PAGE}
            )
            yield from (one for one in page.get("results", []) if title is None or one.get("title") == title)

    def project(self, project_id: int) -> Json:
        """One project with its `label_config`."""
        return self._api.object("GET", f"api/projects/{project_id}/", f"read project {project_id}")

    def create_project(self, title: str, label_config: str, **fields: Any) -> Json:
        """A new project; a title has at least three characters."""
        body = {"title": title, "label_config": label_config, **fields}
        return self._api.object("POST", "api/projects/", f"create the project '{title}'", json=body)

    def update_project(self, project_id: int, **fields: Any) -> Json:
        """Change a project's fields, such as `label_config` or `show_collab_predictions`."""
        return self._api.object("PATCH", f"api/projects/{project_id}/", f"change project {project_id}", json=fields)

    def import_files(self, project_id: int, files: Sequence[Path | tuple[str, bytes]]) -> int:
        """Upload images, each as a task; gives the number of tasks made. Files go in batches that Label Studio takes.

        An upload is repeated only where Label Studio certainly did not take it or failed in it.
        """
        made = 0
        for batch in _batches(files):
            # Label Studio keeps one file a form field: the same field twice loses all but the last.
            form = {f"file{index}": part for index, part in enumerate(batch)}
            answer = self._api.object(
                "POST", f"api/projects/{project_id}/import", f"upload images to project {project_id}",
                files=form, timeout=_LONG_SECONDS, repeat=True,
            )  # fmt: skip
            if answer.get("task_count") != len(batch):
                raise errors.LabelStudioFailedError(
                    f"Label Studio made {answer.get('task_count')} tasks of {len(batch)} uploaded files; "
                    "check the file types and the project's labeling configuration"
                )
            made += len(batch)
        return made

    def tasks(self, project_id: int, *, updated_after: datetime | None = None) -> Iterator[Json]:
        """All tasks of a project with their annotations and predictions in full, by number.

        `updated_after` (with a time zone) leaves out the tasks that did not change since; a new, edited or deleted
        annotation changes its task.
        """
        changed = [] if updated_after is None else [_filter("updated_at", "greater", _instant(updated_after))]
        last, size = 0, _PAGE
        while True:
            # By number and not by page: a task that is deleted between two pages would push others out of both.
            filters = [_filter("id", "greater", last), *changed]
            try:
                found, remaining = self._listing(project_id, filters, size)
            except errors.LabelStudioSlowError:
                if size == 1:
                    raise
                size //= 2
                continue
            yield from found
            if not found or remaining <= len(found):
                return
            last = max(int(one["id"]) for one in found)

    def find_task(self, project_id: int, task_id: int) -> Json | None:
        """One task of a project as `tasks` lists it; None where it is not listed. Opens no task."""
        found, _ = self._listing(project_id, [_filter("id", "equal", task_id)], 1)
        return next(iter(found), None)

    def _listing(self, project_id: int, filters: Sequence[Json], size: int) -> tuple[list[Json], int]:
        """The first of the tasks that pass the filters, and how many do."""
        query = {"ordering": ["tasks:id"], "filters": {"conjunction": "and", "items": list(filters)}}
        answer = self._api.object(
            "GET", "api/tasks/", f"list the tasks of project {project_id}", timeout=_LISTING_SECONDS,
            again_when_slow=False,
            params={"project": project_id, "fields": "all", "page_size": size, "query": json.dumps(query)},
        )  # fmt: skip
        return answer.get("tasks", []), int(answer.get("total", 0))

    def task(self, task_id: int) -> Json:
        """One task with its annotations and predictions. Opening a task may make Label Studio ask for a prediction."""
        return self._api.object("GET", f"api/tasks/{task_id}/", f"read task {task_id}", timeout=_LONG_SECONDS)

    def annotations(self, task_id: int) -> list[Json]:
        """The annotations of a task."""
        return self._api.list(f"api/tasks/{task_id}/annotations/", f"list the annotations of task {task_id}")

    def annotation(self, annotation_id: int) -> Json:
        """One annotation."""
        return self._api.object("GET", f"api/annotations/{annotation_id}/", f"read annotation {annotation_id}")

    def find_annotation(self, annotation_id: int) -> Json | None:
        """One annotation; None where Label Studio itself says that there is none, whoever asks."""
        return self._found(self.annotation, annotation_id)

    def find_project(self, project_id: int) -> Json | None:
        """One project with its `label_config`; None where the user's organization has none of this number."""
        return self._found(self.project, project_id)

    def _found(self, read: Callable[[int], Json], number: int) -> Json | None:
        try:
            return read(number)
        except errors.LabelStudioMissingError:
            return None

    def create_annotation(self, task_id: int, result: Sequence[Mapping[str, Any]], **fields: Any) -> Json:
        """Annotate a task as the key's user; fields such as `was_cancelled`, `lead_time`, `parent_prediction`."""
        body = {"result": list(result), **fields}
        return self._api.object("POST", f"api/tasks/{task_id}/annotations/", f"annotate task {task_id}", json=body)

    def update_annotation(self, annotation_id: int, **fields: Any) -> Json:
        """Change an annotation's fields, such as `result`."""
        doing = f"change annotation {annotation_id}"
        return self._api.object("PATCH", f"api/annotations/{annotation_id}/", doing, json=fields)

    def delete_annotation(self, annotation_id: int) -> None:
        """Delete an annotation."""
        self._api.call("DELETE", f"api/annotations/{annotation_id}/", f"delete annotation {annotation_id}")

    def predictions(self, project_id: int) -> list[Json]:
        """All stored predictions of a project."""
        return self._api.list("api/predictions/", f"list the predictions of project {project_id}", project=project_id)

    def find_prediction(self, prediction_id: int) -> Json | None:
        """One stored prediction; None where Label Studio itself says that there is none."""
        doing = f"read prediction {prediction_id}"
        return self._found(lambda number: self._api.object("GET", f"api/predictions/{number}/", doing), prediction_id)

    def task_predictions(self, task_id: int) -> list[Json]:
        """The stored predictions of a task; refused for a task that is not there."""
        return self._api.list("api/predictions/", f"list the predictions of task {task_id}", task=task_id)

    def create_prediction(
        self, task_id: int, result: Sequence[Mapping[str, Any]], *, score: float, model_version: str
    ) -> Json:
        """Store a prediction for a task, beside those that it has, with a score in [0, 1]."""
        body = {"task": task_id, "result": list(result), "score": score, "model_version": model_version}
        return self._api.object("POST", "api/predictions/", f"store a prediction for task {task_id}", json=body)

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete a stored prediction."""
        self._api.call("DELETE", f"api/predictions/{prediction_id}/", f"delete prediction {prediction_id}")

    def retrieve_predictions(self, project_id: int, task_ids: Sequence[int]) -> Json:
        """Let Label Studio ask its ML backend about these tasks and wait until it has stored the answers.

        It asks for all of them in one request and tells success whatever happens: give 20 to 50 at a time, and look at
        `predictions` afterwards. An empty list would be all tasks to it.
        """
        if not task_ids:
            raise ValueError("no tasks are named, which Label Studio takes for all tasks of the project")
        body = {"selectedItems": {"all": False, "included": list(task_ids)}, "project": project_id}
        return self._api.object(
            "POST", "api/dm/actions/", f"retrieve predictions in project {project_id}",
            params={"id": "retrieve_tasks_predictions", "project": project_id}, json=body, timeout=_LONG_SECONDS,
        )  # fmt: skip

    def ml_backends(self, project_id: int) -> list[Json]:
        """The ML backends of a project. Label Studio calls their /health and /setup meanwhile."""
        return self._api.list("api/ml/", f"list the ML backends of project {project_id}", project=project_id)

    def add_ml_backend(
        self,
        project_id: int,
        url: str,
        title: str,
        *,
        user: str,
        password: str,
        is_interactive: bool = False,
        extra_params: Mapping[str, Any] | None = None,
    ) -> Json:
        """Connect an ML backend with basic authentication; Label Studio calls its /health and /setup meanwhile.

        `is_interactive` lets the labeling page ask it about what the smart tool draws.

        It also adds a webhook to the same address, for all actions and without credentials: change or remove that one.
        """
        body = {
            "project": project_id, "url": url, "title": title, "auth_method": "BASIC_AUTH",
            "basic_auth_user": user, "basic_auth_pass": password, "is_interactive": is_interactive,
            "extra_params": dict(extra_params or {}),
        }  # fmt: skip
        return self._api.object("POST", "api/ml/", f"connect the ML backend {url}", json=body)

    def update_ml_backend(self, backend_id: int, **fields: Any) -> Json:
        """Change an ML backend; Label Studio calls it again, so give its `url`, `project` and credentials too."""
        return self._api.object("PATCH", f"api/ml/{backend_id}", f"change ML backend {backend_id}", json=fields)

    def delete_ml_backend(self, backend_id: int) -> None:
        """Disconnect an ML backend."""
        self._api.call("DELETE", f"api/ml/{backend_id}", f"disconnect ML backend {backend_id}")

    def webhooks(self, project_id: int) -> list[Json]:
        """The webhooks of a project."""
        return self._api.list("api/webhooks/", f"list the webhooks of project {project_id}", project=project_id)

    def all_webhooks(self) -> list[Json]:
        """The webhooks of all projects of the user's organization."""
        return self._api.list("api/webhooks/", "list the webhooks")

    def add_webhook(self, project_id: int, url: str, *, headers: Mapping[str, str], actions: Sequence[str]) -> Json:
        """Have these actions sent to `url` with these headers, the only authentication a webhook can carry."""
        body = {"project": project_id, "url": url, **webhook_fields(headers, actions)}
        return self._api.object("POST", "api/webhooks/", f"add the webhook {url}", json=body)

    def update_webhook(self, webhook_id: int, **fields: Any) -> Json:
        """Change a webhook's fields; `webhook_fields` gives those of headers and actions."""
        return self._api.object("PATCH", f"api/webhooks/{webhook_id}/", f"change webhook {webhook_id}", json=fields)

    def delete_webhook(self, webhook_id: int) -> None:
        """Remove a webhook."""
        self._api.call("DELETE", f"api/webhooks/{webhook_id}/", f"remove webhook {webhook_id}")


def webhook_fields(headers: Mapping[str, str], actions: Sequence[str]) -> Json:
    """The fields of a webhook that sends exactly these actions, with their payload and these headers."""
    return {
        "send_payload": True,
        "send_for_all_actions": False,
        "is_active": True,
        "actions": list(actions),
        "headers": dict(headers),
    }


def _filter(field: str, operator: str, value: object) -> Json:
    kind = "Number" if isinstance(value, int) else "Datetime"
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


def _instant(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _batches(files: Sequence[Path | tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Names and contents of the files, so many at a time as one upload may hold."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for file in files:
        name, data = (file.name, file.read_bytes()) if isinstance(file, Path) else file
        if batch and (len(batch) == _UPLOAD_FILES or size + len(data) > _UPLOAD_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((name, data))
        size += len(data)
    if batch:
        yield batch
