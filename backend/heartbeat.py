"""A job kept its worker's own while it is being done, however long that takes."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from db import jobs
from db.errors import DatabaseError, LeaseLostError

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from db.engine import Database
    from db.records import Job

logger = logging.getLogger(__name__)


class Heartbeat:
    """Renews a job's lease in the background for as long as the block lasts; a process that is killed stops renewing.

    Args:
        database: has the queue.
        job: claimed by this process.
        lease: how long the job is this worker's own after each beat; it beats three times as often.
    """

    def __init__(self, database: Database, job: Job, lease: timedelta) -> None:
        self._database = database
        self._job = job
        self._lease = lease
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(self._lease.total_seconds() / 3):
            try:
                with self._database.write() as session:
                    jobs.renew(session, self._job, lease=self._lease)
            except LeaseLostError as error:
                # It is told of once more where the job is settled, and there the effect is undone.
                logger.warning("%s", error)
                return
            except DatabaseError as error:
                logger.warning("a lease could not be renewed, and is tried again: %s", error)
