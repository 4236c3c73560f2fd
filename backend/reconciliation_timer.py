"""Reconciling by itself: a job in the queue that takes in the next one, so that one worker at a time does it."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.credentials import load_credentials
from backend.known_projects import projects_of
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.errors import LabelStudioError
from backend.project_comparison import RECONCILE
from backend.reconciliation import Reconciler
from backend.reviews import ReviewService
from backend.worker import Chore, QueueWorker
from db import failures, jobs
from db.errors import DatabaseError
from db.records import NewFailure
from db.types import utc_now

if TYPE_CHECKING:
    import httpx
    from sqlalchemy.orm import Session

    from backend.settings import Settings
    from backend.worker import Effect
    from db.engine import Database
    from db.records import Job

logger = logging.getLogger(__name__)

# A webhook is worked off within seconds, unless the desk was away.
_GRACE = timedelta(seconds=60)
_LONGEST_PAUSE = timedelta(hours=1)


class _StoppedError(BaseException):
    """This process is to end; what was compared is recorded. No project's failure, so nothing else catches it."""


def job_kind(instance: str) -> str:
    """The kind of a Label Studio's jobs; desks at several of them may share a database."""
    return f"{RECONCILE} {instance}"


class ReconciliationTimer:
    """Reconciles all projects every so often.

    Args:
        settings: how often, and which Label Studio.
        database: has the reviews and the queue.
        transport: reaches Label Studio; the network if None.
    """

    def __init__(self, settings: Settings, database: Database, *, transport: httpx.BaseTransport | None = None) -> None:
        self._settings = settings
        self._database = database
        self._transport = transport
        self._period = timedelta(seconds=settings.reconcile_seconds)
        self._kind = job_kind(settings.label_studio_url)
        take_in = Chore(self._take_in, max(1.0, self._period.total_seconds()))
        self._worker = QueueWorker(database, {self._kind: self.handle}, take_in)
        self._stop = threading.Event()
        self._is_started = False

    @property
    def is_on(self) -> bool:
        """Whether there is anything to do: a period, and a key to read annotations with."""
        return bool(self._period) and self._settings.label_studio_api_key is not None

    def run(self, stop: threading.Event) -> None:
        """Reconcile until `stop` is set, and first at once. Label Studio or a database that is away is waited for."""
        self._stop = stop
        self._worker.run(stop)

    def _take_in(self) -> None:
        """See to it that there is a job, whatever became of the one before; at the start it waits no longer."""
        with self._database.write() as session:
            is_new = jobs.enqueue_only(session, self._kind, {"failed": 0}) is not None
            if not is_new and not self._is_started:
                jobs.hasten(session, self._kind)
        self._is_started = True
        self._worker.wake()

    def handle(self, job: Job) -> Effect:
        """Reconcile once; the effect is the next time's job, later after each failure in a row.

        Raises:
            DatabaseError: the database is away.
        """
        failed, pause = 0, self._period
        try:
            self._reconcile()
        except _StoppedError:
            pause = timedelta(0)
        except DatabaseError:
            raise
        except Exception as error:
            if not isinstance(error, LabelStudioError):
                logger.exception("reconciling met what nobody foresaw, and goes on later")
            failed = int(job.payload["failed"]) + 1
            pause = max(self._period, min(self._period * 2 ** min(failed, 12), _LONGEST_PAUSE))
            self._keep_failure(error)

        def effect(session: Session) -> None:
            jobs.enqueue_only(session, self._kind, {"failed": failed}, run_after=utc_now() + pause, beside=job)

        return effect

    def _go_on(self, *_: int) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _reconcile(self) -> None:
        key = self._settings.label_studio_api_key
        assert key is not None  # noqa: S101 - `is_on` says so
        token = load_credentials(self._settings).webhook_token
        with LabelStudioClient(
            self._settings.label_studio_url, key.get_secret_value(), transport=self._transport
        ) as client:
            self._go_on()
            service = ReviewService(self._database, self._settings, client.find_prediction)
            reconciler = Reconciler(client, self._database, service, grace=_GRACE)
            projects = projects_of(client, self._database, token)
            reconciler.forget_others(projects)
            summary = reconciler.reconcile_all(projects, whole=False, progress=self._go_on)
        found = sum(one.found for one in summary.compared)
        if found or not summary.agrees:
            logger.warning(
                "reconciling found %d annotations that no webhook had told of%s",
                found,
                "" if summary.agrees else "; some are not in agreement still, see `inspection failures`",
            )

    def _keep_failure(self, error: Exception) -> None:
        logger.warning("reconciling will be tried again: %s", error)
        failure = NewFailure(
            kind=RECONCILE,
            reason=str(error),
            detail=type(error).__name__,
            instance=self._settings.label_studio_url,
        )
        with self._database.write() as session:
            failures.record(session, failure)
