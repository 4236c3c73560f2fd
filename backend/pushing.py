"""Tasks predicted by the desk itself, which tells Label Studio the answers through its API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.bulk_prediction import Asked, BulkPredictionError, may_pass, stored
from backend.label_studio.errors import LabelStudioRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backend.bulk_prediction import WaitingTask
    from backend.label_studio.client import LabelStudioClient
    from backend.predictions import PredictionService


class Pushing:
    """The desk decides, records and creates predictions, as `service` answers Label Studio's own requests.

    Label Studio need not reach the desk for it, and waits for nothing.
    """

    def __init__(
        self, client: LabelStudioClient, project_id: int, model_version: str, service: PredictionService
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._version = model_version
        self._service = service

    def ask(self, tasks: Sequence[WaitingTask]) -> Asked:
        """Answer the tasks in the labeling configuration that the project has now, and create the predictions.

        What could not be answered is kept as a failure by the service.

        Raises:
            LabelStudioError: Label Studio is away; what it was told before stays.
            BulkPredictionError: another model answered than the one that is asked for.
            LabelingConfigError: the project's labeling configuration cannot be read.
            ModelUnavailableError: no model can be loaded.
            DatabaseError: the database is away.
        """
        config = str(self._client.project(self._project_id)["label_config"])
        sent = [{"id": task.number, "data": task.data} for task in tasks]
        answers = self._service.answer(sent, config, self._project_id)
        has_it: set[int] = set()
        refused: dict[int, str] = {}
        for task, answer in zip(tasks, answers, strict=True):
            if not answer:
                continue
            if answer["model_version"] != self._version:
                raise BulkPredictionError(
                    f"{answer['model_version']} answers for project {self._project_id}, though {self._version} is in "
                    "use; `inspection doctor` says why"
                )
            try:
                self._create(task.number, answer)
            except LabelStudioRefusedError as error:
                if may_pass(error):
                    raise
                refused[task.number] = str(error)
            else:
                has_it.add(task.number)
        return Asked(frozenset(has_it), refused)

    def _create(self, task: int, answer: Mapping[str, Any]) -> None:
        # Somebody may have opened the task meanwhile, for which Label Studio asks the desk, or the answer to an
        # earlier attempt was lost on the way here.
        if not stored(self._client, task, self._version):
            self._client.create_prediction(
                task, answer["result"], score=answer["score"], model_version=answer["model_version"]
            )
