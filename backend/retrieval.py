"""Tasks predicted through Label Studio, which asks the desk and stores what it answers."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from backend.bulk_prediction import Asked, stored
from backend.label_studio.errors import (
    LabelStudioBackendAwayError,
    LabelStudioError,
    LabelStudioFailedError,
    LabelStudioUnreachableError,
)
from backend.requests_in_hand import RequestsInHand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.bulk_prediction import WaitingTask
    from backend.label_studio.client import LabelStudioClient
    from db.engine import Database


logger = logging.getLogger(__name__)

# Label Studio waits 100 s for the desk, then stores what it answered, some tenths of a second a task.
_ANSWER_SECONDS = 110.0
_POLL_SECONDS = 2.0
# Label Studio's own word that it failed, or was not asked at all: nothing goes on there.
_IS_OVER = frozenset({500, 503})
# What it found when it last asked its backend: disconnected, or an error.
_AWAY_STATES = frozenset({"DI", "ER"})


class RetrievalError(RuntimeError):
    """The desk does not answer a project as it should; the message says what to do."""


class Retrieval:
    """Label Studio retrieves. It reports success whatever happened, and leaves out what has its prediction already.

    It looks which tasks have one before it asks the desk, and not again when it stores: of two requests for a task at
    the same time each brings a prediction. So one whose answer was lost, to a proxy's time-out say, is given the time
    to end: at most `answer_seconds` from when it was sent, looked after each `poll_seconds`. And so is a request of
    another run, which may have been killed since.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        project_id: int,
        model_version: str,
        *,
        database: Database,
        answer_seconds: float = _ANSWER_SECONDS,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._version = model_version
        self._answer_seconds = answer_seconds
        self._poll_seconds = poll_seconds
        self._in_hand = RequestsInHand(
            database, client.url, project_id, seconds=answer_seconds, poll_seconds=poll_seconds
        )

    def ask(self, tasks: Sequence[WaitingTask]) -> Asked:
        """Let Label Studio ask the desk about all of them in one request.

        Raises:
            LabelStudioError: Label Studio is away or refuses, or does not reach the desk.
            DatabaseError: the database is away.
        """
        with self._in_hand.asking([task.number for task in tasks], self._is_stored):
            self._retrieve(tasks)
        if not self._is_stored(tasks[0].number):
            self._require_desk()
        return Asked()

    def _retrieve(self, tasks: Sequence[WaitingTask]) -> None:
        ends_at = time.monotonic() + self._answer_seconds
        try:
            self._client.retrieve_predictions(self._project_id, [task.number for task in tasks])
        except (LabelStudioFailedError, LabelStudioUnreachableError) as error:
            if error.status not in _IS_OVER:
                self._let_end(tasks, ends_at)
            raise

    def _is_stored(self, task: int) -> bool:
        return stored(self._client, task, self._version)

    def _require_desk(self) -> None:
        """Where Label Studio does not reach the desk it stores nothing of any task, and tells success all the same."""
        backends = self._client.ml_backends(self._project_id)
        if backends and backends[0].get("state") in _AWAY_STATES:
            raise LabelStudioBackendAwayError(
                f"Label Studio does not reach the desk at {backends[0].get('url')}, or gets an error from there; start "
                "`inspection serve`, or run `inspection connect` after its address has changed"
            )

    def _let_end(self, tasks: Sequence[WaitingTask], ends_at: float) -> None:
        """Wait until a request whose answer was lost has stored all it was to store, or is over."""
        try:
            while time.monotonic() < ends_at:
                if all(self._is_stored(task.number) for task in tasks):
                    return
                time.sleep(self._poll_seconds)
        except LabelStudioError as error:
            # Not even this is answered: Label Studio is away, and with it what it was at.
            logger.info("Label Studio does not answer after a lost request either: %s", error)


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
                "`inspection doctor` says why"
            )
        time.sleep(pause)
