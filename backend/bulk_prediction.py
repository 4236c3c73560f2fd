"""A project's tasks predicted, any number of them: in chunks, resumable, whatever fails on the way told at the end.

What lacks a prediction is asked of Label Studio itself, so a run that was killed is gone on with by the next one, and
nothing has to be kept in between.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from backend.label_studio.errors import (
    LabelStudioBackendAwayError,
    LabelStudioError,
    LabelStudioFailedError,
    LabelStudioMissingError,
    LabelStudioRefusedError,
    LabelStudioUnreachableError,
)
from backend.label_studio.image_source import ImageTimeoutError, ImageUnavailableError
from db import failures
from db.records import NewFailure
from db.types import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from backend.label_studio.client import LabelStudioClient
    from db.engine import Database
    from db.records import Failure

logger = logging.getLogger(__name__)

# Label Studio asks for a whole chunk in one request and waits 100 s for the answer.
CHUNK = 8

_PAUSES_SECONDS = (2.0, 8.0, 30.0)
_MOST_LOST_IN_A_ROW = 3
# What a task's own data may bring about; any other refusal is of whatever stands there, and would meet every task.
_BAD_REQUEST, _TOO_LARGE = 400, 413
_PASSING = (LabelStudioUnreachableError, LabelStudioFailedError, LabelStudioRefusedError)
_NOTHING_STORED = (
    "Label Studio stored no prediction, though it was asked for this task alone; its log says why (it waits "
    "ML_TIMEOUT_PREDICT seconds for the desk, 100 by default)"
)
# Kinds of failures of the desk's, by name as they are kept, that a later attempt may not meet.
_OF_THE_MOMENT = frozenset({ImageTimeoutError.__name__, ImageUnavailableError.__name__})
_LISTED_AND_MISSING = "Label Studio lists the task, and says that there is none of its number; its log may say why"


@dataclass(frozen=True)
class WaitingTask:
    """A task without a prediction of the version asked for; `data` as Label Studio lists it."""

    number: int
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Asked:
    """What is known after some tasks were asked for.

    Attributes:
        stored: tasks that certainly have their prediction now; others may have theirs as well.
        refused: tasks that Label Studio takes no prediction for, with its reason.
    """

    stored: frozenset[int] = frozenset()
    refused: Mapping[int, str] = field(default_factory=dict)


class Way(Protocol):
    """How tasks get their predictions: Label Studio retrieves them, or the desk pushes them."""

    def ask(self, tasks: Sequence[WaitingTask]) -> Asked:
        """Have these tasks predicted. Raises a LabelStudioError where it cannot be said what became of all of them."""


@dataclass(frozen=True)
class TaskFailure:
    """A task that has no prediction, and why."""

    task: int
    reason: str


@dataclass(frozen=True)
class BulkResult:
    """How a run ended.

    Attributes:
        tasks: in the project at the end.
        already: had a prediction of this model version that this run did not bring about.
        predicted: got one now.
        gone: deleted while the run was under way.
        failed: have none, each with its reason.
    """

    tasks: int
    already: int
    predicted: int
    gone: tuple[int, ...]
    failed: tuple[TaskFailure, ...]


class BulkPredictionError(RuntimeError):
    """A run cannot go on; the message says what to do. What was predicted so far stays."""


class BulkPrediction:
    """Predicts every task of a project that has no prediction of `model_version` yet.

    Args:
        way: how they are predicted.
        database: where failures are kept, and found with the reason that the desk had.
        in_use: the version that is meant to answer for the project at the moment; where it changes the run ends.
        chunk: tasks asked for at a time.
        patience: what the pauses before a repetition (2, 8 and 30 s) are multiplied with.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        project_id: int,
        model_version: str,
        way: Way,
        *,
        database: Database,
        in_use: Callable[[], str],
        chunk: int = CHUNK,
        patience: float = 1.0,
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._version = model_version
        self._way = way
        self._database = database
        self._in_use = in_use
        self._chunk = chunk
        self._patience = patience
        self._started_at = utc_now()
        self._predicted: set[int] = set()
        self._gone: set[int] = set()
        self._failed: dict[int, str] = {}
        self._tried_again: set[int] = set()
        self._lost_in_a_row = 0

    def run(self, progress: Callable[[int, int], None] | None = None) -> BulkResult:
        """Predict what is waiting, also what is uploaded meanwhile.

        Args:
            progress: hears of how many tasks, of how many, it is known what became.

        Raises:
            BulkPredictionError: Label Studio or the desk does not come back, the project was deleted meanwhile, or
                another model was activated.
            LabelStudioError: the API key or the project is refused.
            DatabaseError: the database is away.
        """
        tell = progress or (lambda _done, _total: None)
        total = 0
        while True:
            present, waiting = self._list()
            for number in self._gone & present:
                self._gone.remove(number)
                self._fail(number, _LISTED_AND_MISSING)
            if not waiting:
                break
            total += len(waiting)
            tell(self._settled, total)
            alone: list[WaitingTask] = []
            for part in _parts(waiting, self._chunk):
                alone += self._predict(part)
                tell(self._settled, total)
            # A chunk that took longer than Label Studio waits is lost to it but recorded at the desk, so asking again
            # is quick; one task that Label Studio fails at keeps no others from their predictions; and an image whose
            # server was busy or slow gets its second chance last.
            for task in alone:
                for one in self._predict([task]):
                    self._fail(one.number, _NOTHING_STORED)
                tell(self._settled, total)
        return self._result(present)

    @property
    def _settled(self) -> int:
        return len(self._predicted) + len(self._gone) + len(self._failed)

    def _result(self, present: frozenset[int]) -> BulkResult:
        failed = tuple(TaskFailure(number, reason) for number, reason in sorted(self._failed.items()))
        already = len(present - self._predicted - self._failed.keys())
        if len(present) > len(failed):
            # Of several models' predictions Label Studio prefills with those of the project's version, and it takes
            # only a version that it has predictions of.
            self._client.update_project(self._project_id, model_version=self._version)
        return BulkResult(len(present), already, len(self._predicted), tuple(sorted(self._gone)), failed)

    def _list(self) -> tuple[frozenset[int], list[WaitingTask]]:
        """Numbers of the project's tasks, and those of which nothing was tried though they have no prediction."""
        present, waiting = set(), []
        tried = self._predicted | self._gone | self._failed.keys()
        for task in self._client.tasks(self._project_id):
            number = int(task["id"])
            present.add(number)
            if number not in tried and not has_version(task.get("predictions") or [], self._version):
                waiting.append(WaitingTask(number, task.get("data") or {}))
        return frozenset(present), waiting

    def _predict(self, tasks: Sequence[WaitingTask]) -> list[WaitingTask]:
        """Ask for tasks until it is known what became of each; those worth another attempt are given back."""
        if (wanted := self._in_use()) != self._version:
            raise BulkPredictionError(
                f"{wanted} was activated for project {self._project_id} meanwhile; run `inspection predict --project "
                f"{self._project_id}` again for its predictions"
            )
        # Where Label Studio is known to be there and fails at task after task, waiting does not mend it.
        pauses = iter(_PAUSES_SECONDS if self._lost_in_a_row < _MOST_LOST_IN_A_ROW else ())
        while asked_for := self._open(tasks):
            try:
                unsettled = self._unsettled(asked_for, self._way.ask(asked_for))
            except LabelStudioMissingError as error:
                raise BulkPredictionError(
                    f"project {self._project_id} is not there any more ({error}); {len(self._predicted)} tasks were "
                    "predicted"
                ) from error
            except _PASSING as error:
                logger.info("tasks %s: %s", [task.number for task in asked_for], error)
                pause = next(pauses, None)
                if pause is None or not may_pass(error):
                    return self._lost(self._open(tasks), error)
                time.sleep(pause * self._patience)
            else:
                self._lost_in_a_row = 0
                return unsettled
        return []

    def _open(self, tasks: Sequence[WaitingTask]) -> list[WaitingTask]:
        settled = self._predicted | self._gone | self._failed.keys()
        return [task for task in tasks if task.number not in settled]

    def _lost(self, tasks: Sequence[WaitingTask], error: LabelStudioError) -> list[WaitingTask]:
        self._lost_in_a_row = self._lost_in_a_row + 1 if may_pass(error) else 0
        if self._lost_in_a_row >= _MOST_LOST_IN_A_ROW and not self._fails_at_tasks_alone(error):
            away = "The desk" if isinstance(error, LabelStudioBackendAwayError) else "Label Studio"
            raise BulkPredictionError(
                f"{away} does not come back ({error}); {len(self._predicted)} tasks were predicted. Run the "
                "command again when it answers: it goes on where this one ended"
            )
        if len(tasks) > 1:
            return list(tasks)
        for task in tasks:
            self._fail(task.number, str(error))
        return []

    def _fails_at_tasks_alone(self, error: LabelStudioError) -> bool:
        """Whether what failed at several tasks is no more than that: Label Studio itself answers."""
        if isinstance(error, LabelStudioRefusedError | LabelStudioBackendAwayError):
            return False
        try:
            self._client.project(self._project_id)
        except _PASSING:
            return False
        return True

    def _unsettled(self, tasks: Sequence[WaitingTask], asked: Asked) -> list[WaitingTask]:
        """Note what became of tasks; those worth another attempt are given back."""
        unsettled = []
        for task in self._open(tasks):
            number = task.number
            if number in asked.refused and not self._is_gone(number):
                self._fail(number, asked.refused[number])
            elif number in asked.stored:
                self._predicted.add(number)
            elif number not in asked.refused:
                unsettled += self._looked_up(task)
        return unsettled

    def _looked_up(self, task: WaitingTask) -> list[WaitingTask]:
        if stored(self._client, task.number, self._version):
            self._predicted.add(task.number)
        elif not self._is_gone(task.number):
            failure = self._failure_at_the_desk(task.number)
            if failure is None:
                return [task]
            if failure.detail in _OF_THE_MOMENT and task.number not in self._tried_again:
                self._tried_again.add(task.number)
                return [task]
            self._failed[task.number] = failure.reason
        return []

    def _is_gone(self, number: int) -> bool:
        if not is_gone(self._client, number):
            return False
        self._gone.add(number)
        return True

    def _failure_at_the_desk(self, number: int) -> Failure | None:
        with self._database.read() as session:
            return failures.latest_of_task(
                session, instance=self._client.url, task_id=number, since=self._started_at, kind="predict"
            )

    def _fail(self, number: int, reason: str) -> None:
        self._failed[number] = reason
        failure = NewFailure(
            kind="predict", reason=reason, instance=self._client.url, project_id=self._project_id, task_id=number
        )
        with self._database.write() as session:
            failures.record(session, failure)


def stored(client: LabelStudioClient, task: int, model_version: str) -> bool:
    """Whether Label Studio has a prediction of this version for a task; False for one that was deleted, too."""
    try:
        return has_version(client.task_predictions(task), model_version)
    except LabelStudioRefusedError as error:
        if may_pass(error):
            raise
        return False


def is_gone(client: LabelStudioClient, task: int) -> bool:
    """Whether a task was deleted."""
    try:
        # Asking for the task itself might make Label Studio predict it.
        client.annotations(task)
    except LabelStudioMissingError:
        return True
    return False


def has_version(predictions: Sequence[Mapping[str, Any]], model_version: str) -> bool:
    """Whether one of a task's predictions is of a model version."""
    return any(prediction.get("model_version") == model_version for prediction in predictions)


def may_pass(error: LabelStudioError) -> bool:
    """Whether asking again in a while may do better: all but a refusal of these very tasks."""
    return not isinstance(error, LabelStudioRefusedError) or error.status not in (_BAD_REQUEST, _TOO_LARGE)


def _parts(tasks: Sequence[WaitingTask], size: int) -> Iterator[Sequence[WaitingTask]]:
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]
