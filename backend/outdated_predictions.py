"""Predictions that Label Studio cannot show any more, as their labeling configuration was changed since.

Its page leaves out in silence what names a control or a label that is not there, and a task that has a prediction is
not asked for again: its inspector would see nothing, and nobody would hear of it. So they make way for new ones. The
record keeps what was sent.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backend.label_studio.results import validate

if TYPE_CHECKING:
    from backend.label_studio.client import LabelStudioClient
    from backend.label_studio.labeling_config import LabelingConfig

logger = logging.getLogger(__name__)


def remove_outdated(
    client: LabelStudioClient, project_id: int, model_version: str, config: LabelingConfig
) -> tuple[int, ...]:
    """Delete a version's predictions that do not fit the project's labeling configuration; gives their tasks' numbers.

    Those of tasks with annotations or drafts stay, as somebody has seen them.

    Raises:
        LabelStudioError: Label Studio is away or refuses.
    """
    tasks = []
    for task in client.tasks(project_id):
        if task.get("annotations") or task.get("drafts"):
            continue
        for prediction in task.get("predictions") or ():
            if prediction.get("model_version") != model_version:
                continue
            problems = validate(prediction, config)
            if problems:
                logger.info("task %s: its prediction does not fit any more: %s", task["id"], "; ".join(problems))
                client.delete_prediction(int(prediction["id"]))
                tasks.append(int(task["id"]))
    return tuple(dict.fromkeys(tasks))
