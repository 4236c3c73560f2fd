"""The queue's worker: takes one job at a time, and settles it together with its effect."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from backend.heartbeat import Heartbeat
from db import failures, jobs
from db.engine import Database
from db.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseFullError,
    DatabaseReadOnlyError,
    DatabaseUnreachableError,
    InvalidRecordError,
    LeaseLostError,
)
from db.records import NewFailure
from db.types import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.orm import Session

    from backend.settings import Settings
    from db.records import Job

logger = logging.getLogger(__name__)

Effect: TypeAlias = "Callable[[Session], None]"
Handler: TypeAlias = "Callable[[Job], Effect]"

_LEASE = timedelta(seconds=60)
_POLL_SECONDS = 1.0
_DATABASE_AWAY_SECONDS = 5.0
_LAST_STEP_SECONDS = 15.0
_PURGE_SECONDS = 3600.0
# Of a job that is done only its message's hash is left, which says what came in until then.
_DONE_KEPT = timedelta(days=30)
# So many are removed in a moment.
_PURGED_AT_ONCE = 10_000


# These pass by themselves or with an operator's help; any other error is the job's own.
_AWAY = (DatabaseUnreachableError, DatabaseBusyError, DatabaseFullError, DatabaseReadOnlyError)


class JobRefusedError(ValueError):
    """A job can never be done, however often it is tried; it is kept as failed with this reason."""


@dataclass
class Chore:
    """What a worker does every so often when nothing waits, and first at once; it may raise DatabaseError."""

    do: Callable[[], None]
    every_seconds: float
    due: float = 0.0


class QueueWorker:
    """Works off the queue, and removes from it what was done long ago.

    A handler computes without holding a connection and returns the effect; the effect is then written in the same unit
    of work that settles the job, so a crash at any point neither loses nor doubles it. However long it computes, the
    job stays this worker's as long as its process lives.

    Args:
        database: has the queue.
        handlers: by kind of job; jobs of other kinds are left alone.
        chore: another thing to be done every so often.
    """

    def __init__(self, database: Database, handlers: Mapping[str, Handler], chore: Chore | None = None) -> None:
        self._database = database
        self._handlers = handlers
        self._chores = [*([chore] if chore is not None else []), Chore(self._purge, _PURGE_SECONDS)]
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._wake = threading.Event()

    def wake(self) -> None:
        """Look at the queue now rather than at the next turn."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. A database that is away is waited for."""
        while not stop.is_set():
            try:
                while not stop.is_set() and self.work_off_one():
                    pass
                self._do_chores(stop)
                patience = _POLL_SECONDS
            except DatabaseError as error:
                logger.warning("the queue waits: %s", error)
                patience = _DATABASE_AWAY_SECONDS
            except Exception:
                # The thread must outlive whatever happens to one job; that job comes back when its lease has run out.
                logger.exception("the queue's worker met what it does not know, and goes on")
                patience = _DATABASE_AWAY_SECONDS
            self._wake.wait(patience)
            self._wake.clear()

    def work_off_one(self) -> bool:
        """Do one job; False when none is due.

        Raises:
            DatabaseError: the database is away; the job stays, and comes again when its lease has run out.
        """
        with self._database.write() as session:
            job = jobs.claim(session, owner=self._owner, lease=_LEASE, kinds=tuple(self._handlers))
        if job is None:
            return False
        try:
            with Heartbeat(self._database, job, _LEASE):
                effect = self._handlers[job.kind](job)
            with self._database.write() as session:
                effect(session)
                jobs.complete(session, job)
        except LeaseLostError as error:
            logger.warning("%s", error)
        except _AWAY:
            raise
        except (JobRefusedError, InvalidRecordError) as error:
            self._give_back(job, error, retry=False)
        except Exception as error:
            logger.exception("job %s (%s) failed", job.job_id, job.kind)
            self._give_back(job, error, retry=True)
        return True

    def _do_chores(self, stop: threading.Event) -> None:
        for chore in self._chores:
            if not stop.is_set() and chore.due <= time.monotonic():
                chore.do()
                chore.due = time.monotonic() + chore.every_seconds

    def _purge(self) -> None:
        with self._database.write() as session:
            jobs.purge(session, before=utc_now() - _DONE_KEPT, limit=_PURGED_AT_ONCE)

    def _give_back(self, job: Job, error: Exception, *, retry: bool) -> None:
        reason = f"{type(error).__name__}: {error}"
        with self._database.write() as session:
            if jobs.fail(session, job, reason, retry=retry) == "failed":
                failures.record(session, NewFailure(kind=job.kind, reason=reason, detail=f"job {job.job_id}"))


def run_until_stopped(settings: Settings) -> None:
    """Work off the queue in this process until SIGTERM or SIGINT; reconcile, and have trainings done, beside it.

    Raises:
        DatabaseError: the database is not at this release's schema, or away at the start.
    """
    from backend.learning.training_worker import TrainingWorker  # noqa: PLC0415
    from backend.reconciliation_timer import ReconciliationTimer  # noqa: PLC0415
    from backend.reviews import WEBHOOK_JOB, ReviewService, stored_predictions  # noqa: PLC0415
    from db import migrate  # noqa: PLC0415

    database = Database(settings.resolved_database_url)
    migrate.require_head(database)
    service = ReviewService(database, settings, stored_predictions(settings))
    worker = QueueWorker(database, {WEBHOOK_JOB: service.handle})
    trainer = TrainingWorker(settings, database)
    stop = threading.Event()

    def stop_now(*_: object) -> None:
        stop.set()
        worker.wake()
        trainer.wake()

    signal.signal(signal.SIGTERM, stop_now)
    signal.signal(signal.SIGINT, stop_now)
    timer = ReconciliationTimer(settings, database)
    beside = [
        threading.Thread(target=run, args=(stop,), name=name, daemon=True)
        for name, run, is_on in (("reconciler", timer.run, timer.is_on), ("trainer", trainer.run, True))
        if is_on
    ]
    for thread in beside:
        thread.start()
    logger.info("working off the queue of %s", database.name)
    worker.run(stop)
    for thread in beside:
        thread.join(timeout=_LAST_STEP_SECONDS)
    database.close()
