"""A project's annotations in Label Studio compared with its recorded reviews, and what is missing recorded.

Label Studio's present annotations are the truth. Of one that no webhook told of only the last state is known: edits
before it, and when it was deleted, stay unknown.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import httpx
from pydantic import ValidationError

from backend.deletions import UnconfirmedDeletionsError, doubt
from backend.expected_webhooks import ExpectedWebhooks
from backend.label_studio.errors import (
    LabelStudioError,
    LabelStudioFailedError,
    LabelStudioMissingError,
    LabelStudioUnauthorisedError,
    LabelStudioUnreachableError,
)
from backend.label_studio.payloads import ListedTask
from backend.recovery import ContradictionError, Found, Recovery
from backend.tally import Balance, Tally, balance
from backend.worker import JobRefusedError
from db import failures, reviews
from db.errors import DatabaseError, InvalidRecordError
from db.keys import CanonicalJsonError
from db.records import NewFailure
from db.types import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backend.label_studio.client import LabelStudioClient
    from backend.reviews import ReviewService
    from db.engine import Database

logger = logging.getLogger(__name__)

RECONCILE = "reconcile"
"""The kind of its failures."""
Progress: TypeAlias = "Callable[[int, int, int], None]"
Json = dict[str, Any]
_Item = TypeVar("_Item")
Outcome: TypeAlias = "Found | Literal['waiting', 'gone'] | None"

_TASKS_AT_ONCE = 50
# So many values a database takes in one statement.
_NUMBERS_AT_ONCE = 500
_SAME_FAILURE_EVERY = timedelta(days=1)
_FORESEEN = (
    ContradictionError, JobRefusedError, ValidationError, CanonicalJsonError, InvalidRecordError, LabelStudioError,
)  # fmt: skip


class ProjectComparison:
    """Compares a project; what cannot be recorded is kept as a failure, and the rest compared all the same.

    Args:
        client: of the Label Studio that has the annotations.
        database: has the reviews, and takes those that are missing.
        review_service: makes reviews of what is found, as it does of webhooks.
        grace: younger changes are left to the next time, as their webhooks may be on the way.
        are_deletions_confirmed: whether a person said that what is gone was deleted; otherwise what may have gone with
            a restored backup is kept as a failure.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        database: Database,
        review_service: ReviewService,
        grace: timedelta,
        *,
        are_deletions_confirmed: bool,
    ) -> None:
        self._client = client
        self._database = database
        self._instance = client.url
        self._are_deletions_confirmed = are_deletions_confirmed
        self._recovery = Recovery(client, database, review_service, grace)
        self._expected = ExpectedWebhooks(database)

    def compare(
        self,
        tally: Tally,
        project: Json,
        since: datetime | None,
        known_surplus: int | None,
        progress: Progress | None,
    ) -> tuple[Balance, Json]:
        """A pass over the tasks that changed since an instant, or over all, that records what is missing.

        Args:
            tally: takes what it comes to.
            project: as Label Studio's API gives it, with its counts before the pass.
            since: an instant by Label Studio's clock; None for all tasks.
            known_surplus: what failures accounted for the last time; None for all tasks.
            progress: hears the project's number, how many of its tasks were looked at, and how many it has.

        Returns:
            How the record compares with Label Studio's counts, and the project as it is after the pass.

        Raises:
            LabelStudioError: Label Studio is away or does not let the project be read; what was found is recorded.
            DatabaseError: the database is away.
        """
        tally.begin_pass()
        number, looked_at = int(project["id"]), 0
        for tasks in _parts(self._client.tasks(number, updated_after=since), _TASKS_AT_ONCE):
            self._compare_tasks(tally, project, tasks)
            looked_at += len(tasks)
            if progress is not None:
                progress(number, looked_at, int(project.get("task_number") or looked_at))
        if since is None:
            self._look_for_missing(tally, number)
        self._record_deletions(tally, number, project)
        present = self.present(number)
        # Asked after the record was read, so that an annotation made meanwhile is not taken for a lack.
        afterwards = self._client.project(number)
        return balance(tally, present, (_counted(project), _counted(afterwards)), known_surplus), afterwards

    def look_for_all(self, tally: Tally, project_id: int) -> None:
        """Look for every annotation of a project that is gone.

        Raises:
            LabelStudioError, DatabaseError: as `compare`.
        """
        self._look_for_missing(tally, project_id)
        self._record_deletions(tally, project_id, None)

    def present(self, project_id: int) -> frozenset[int]:
        """Numbers of the annotations that the record takes for present."""
        with self._database.read() as session:
            return reviews.present(session, instance=self._instance, project_id=project_id)

    def _compare_tasks(self, tally: Tally, project: Json, listed: list[Json]) -> None:
        project_id = int(project["id"])
        tasks = []
        for one in listed:
            try:
                tasks.append(ListedTask.model_validate(one))
            except ValidationError as error:
                tally.unread.add(int(one["id"]))
                self.keep_failure(project_id, int(one["id"]), error)
        annotations = [(int(one["id"]), one, task) for task in tasks for one in task.annotations]
        numbers = [number for number, _, _ in annotations]
        # Before the record is read: what is settled in between stands there.
        expected = self._expected.annotations()
        with self._database.read() as session:
            states = reviews.states(session, instance=self._instance, annotation_ids=numbers)
        for number, one, task in annotations:
            state, is_expected = states.get(number), number in expected
            step = partial(self._recovery.settle, project, task, one, state, is_expected=is_expected)
            self._settle(tally, project_id, task, number, step)
        tally.seen.update(numbers)
        self._look_for_missing(tally, project_id, [task.id for task in tasks])
        tally.listed.update((task.id, task.updated_at) for task in tasks)
        changes = [task.updated_at for task in tasks]
        tally.latest = max(changes if tally.latest is None else [*changes, tally.latest], default=None)

    def _look_for_missing(self, tally: Tally, project_id: int, task_ids: list[int] | None = None) -> None:
        """What the record takes for present, of these tasks or of all, and was not seen."""
        expected = self._expected.annotations()
        with self._database.read() as session:
            known = reviews.present(session, instance=self._instance, project_id=project_id, task_ids=task_ids)
        for number in sorted(known - tally.seen):
            step = partial(self._recovery.settle_missing, number, is_expected=number in expected)
            self._settle(tally, project_id, None, number, step)

    def _record_deletions(self, tally: Tally, project_id: int, project: Json | None) -> None:
        """Record what is gone as deleted, or keep as one failure why it may not have been."""
        gone, tally.gone = sorted(tally.gone), set()
        if not gone:
            return
        with self._database.read() as session:
            present = len(reviews.present(session, instance=self._instance, project_id=project_id))
            states = [
                one
                for numbers in _parts(gone, _NUMBERS_AT_ONCE)
                for one in reviews.states(session, instance=self._instance, annotation_ids=numbers).values()
            ]
        why = doubt(states, present=present, project=project, listed=tally.listed, newest=tally.latest)
        if why is not None and not self._are_deletions_confirmed:
            tally.failed.update(gone)
            tally.unconfirmed.update(gone)
            self.keep_failure(project_id, None, UnconfirmedDeletionsError(project_id, len(gone), why))
            return
        for number in gone:
            step = partial(self._recovery.settle_deleted, project_id, number)
            self._settle(tally, project_id, None, number, step)

    def _settle(
        self,
        tally: Tally,
        project_id: int,
        task: ListedTask | None,
        annotation_id: int,
        step: Callable[[], Outcome],
    ) -> None:
        try:
            outcome = self._twice(step)
        except Exception as error:
            # Asking on for each annotation of what does not answer would take hours.
            if isinstance(error, LabelStudioUnreachableError) or is_everybodys(self._client, error):
                raise
            if not isinstance(error, _FORESEEN):
                logger.exception("annotation %s met what nobody foresaw", annotation_id)
            tally.failed.add(annotation_id)
            self.keep_failure(project_id, task.id if task is not None else None, error)
            return
        tally.failed.discard(annotation_id)
        if outcome == "waiting":
            tally.waiting[annotation_id] = task.updated_at if task is not None else None
        elif outcome == "gone":
            tally.gone.add(annotation_id)
        elif outcome is not None:
            tally.found[outcome] += 1

    def _twice(self, step: Callable[[], Outcome]) -> Outcome:
        """A step, once more where a task or a project vanished in the middle of it: then the annotation is gone too."""
        try:
            return step()
        except LabelStudioMissingError:
            return step()

    def keep_failure(self, project_id: int, task_id: int | None, error: Exception) -> None:
        """Keep why a project, or a task of it, is not in agreement; the very same once a day."""
        failure = NewFailure(
            kind=RECONCILE,
            reason=str(error),
            detail=type(error).__name__,
            instance=self._instance,
            project_id=project_id,
            task_id=task_id,
        )
        with self._database.write() as session:
            failures.record_news(session, failure, since=utc_now() - _SAME_FAILURE_EVERY)


def is_everybodys(client: LabelStudioClient, error: Exception) -> bool:
    """Whether every other project would meet the same: Label Studio or the database is away, the key not taken."""
    if isinstance(error, LabelStudioUnauthorisedError):
        return error.status == httpx.codes.UNAUTHORIZED
    if isinstance(error, DatabaseError):
        return not isinstance(error, InvalidRecordError)
    if not isinstance(error, LabelStudioError):
        return False
    if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
        return True
    try:
        client.health()
    except LabelStudioError:
        return isinstance(error, LabelStudioUnreachableError | LabelStudioFailedError)
    return False


def _counted(project: Json) -> int:
    return int(project["total_annotations_number"]) + int(project["skipped_annotations_number"])


def _parts(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items, so many at a time."""
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part
