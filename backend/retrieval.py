"""A project's tasks predicted through Label Studio, in chunks that it survives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from backend.label_studio.client import LabelStudioClient

# Label Studio asks for a whole chunk in one request and waits 100 s for the answer.
CHUNK = 8


@dataclass(frozen=True)
class Retrieval:
    """How a retrieval ended.

    Attributes:
        tasks: in the project.
        already: had a prediction of this model version before.
        predicted: got one now.
        unanswered: numbers of the tasks that have none still; the reasons are in the table `failure`.
    """

    tasks: int
    already: int
    predicted: int
    unanswered: tuple[int, ...]


class RetrievalError(RuntimeError):
    """The desk does not answer a project as it should; the message says what to do."""


def await_version(
    client: LabelStudioClient, project_id: int, model_version: str, *, seconds: float = 90.0, pause: float = 1.0
) -> None:
    """Wait until the desk answers a project with this model version, which it begins to load once Label Studio asks.

    Asked for predictions before, it would still answer with the former version, and Label Studio would store those.

    Raises:
        RetrievalError: the project has no ML backend, or that goes on answering with another version.
        LabelStudioError: Label Studio is away or refuses.
    """
    deadline = time.monotonic() + seconds
    while True:
        # Label Studio asks a backend which version it has whenever it lists it, and only the first for predictions.
        backends = client.ml_backends(project_id)
        if not backends:
            raise RetrievalError(
                f"project {project_id} has no ML backend; run `inspection connect --project {project_id}`"
            )
        answers = backends[0].get("model_version")
        if answers == model_version:
            return
        if time.monotonic() > deadline:
            raise RetrievalError(
                f"the desk answers project {project_id} with {answers or 'nothing'}, though {model_version} is in use; "
                "`inspection doctor` and /readyz say why"
            )
        time.sleep(pause)


def retrieve(
    client: LabelStudioClient,
    project_id: int,
    model_version: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    chunk: int = CHUNK,
) -> Retrieval:
    """Have every task predicted that has no prediction of this model version yet.

    Label Studio reports success whatever happened, so what it stored is counted afterwards.

    Args:
        progress: hears how many of how many tasks were asked for.

    Raises:
        LabelStudioError: Label Studio is away or refuses.
    """
    tasks = list(client.tasks(project_id))
    waiting = [int(task["id"]) for task in tasks if not _has(task, model_version)]
    asked = 0
    for part in _parts(waiting, chunk):
        client.retrieve_predictions(project_id, part)
        asked += len(part)
        if progress is not None:
            progress(asked, len(waiting))
    answered = _answered(client, project_id, model_version)
    for task_id in waiting:
        # A chunk that took longer than Label Studio waits is lost to it but recorded here, so asking again is quick.
        if task_id not in answered:
            client.retrieve_predictions(project_id, [task_id])
    answered = _answered(client, project_id, model_version)
    unanswered = tuple(task_id for task_id in waiting if task_id not in answered)
    if answered:
        # Of several models' predictions Label Studio prefills with those of the project's version, and it takes only a
        # version that it has predictions of.
        client.update_project(project_id, model_version=model_version)
    return Retrieval(len(tasks), len(tasks) - len(waiting), len(waiting) - len(unanswered), unanswered)


def _answered(client: LabelStudioClient, project_id: int, model_version: str) -> set[int]:
    return {int(p["task"]) for p in client.predictions(project_id) if p.get("model_version") == model_version}


def _has(task: Mapping[str, Any], model_version: str) -> bool:
    return any(prediction.get("model_version") == model_version for prediction in task.get("predictions") or [])


def _parts(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
