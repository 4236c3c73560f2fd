"""Which tasks Label Studio was asked to have predicted, so that no other run asks for them as long as it is at it.

Whoever asks can be killed while Label Studio goes on: what stands here outlives them, until the request must be over.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from db import jobs
from db.types import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from uuid import UUID

    from sqlalchemy.orm import Session

    from db.engine import Database
    from db.records import Job

logger = logging.getLogger(__name__)


class RequestsInHand:
    """The requests of all runs for one project.

    They stand in the queue, where no worker takes them: due when they must be over.

    Args:
        database: the desk's.
        instance: Label Studio's address.
        seconds: how long a request takes at most.
        poll_seconds: how often it is looked whether another run's is over.
    """

    def __init__(
        self, database: Database, instance: str, project_id: int, *, seconds: float, poll_seconds: float
    ) -> None:
        self._database = database
        self._kind = f"retrieve {instance} {project_id}"
        self._seconds = timedelta(seconds=seconds)
        self._poll_seconds = poll_seconds

    @contextmanager
    def asking(self, tasks: Collection[int], is_done: Callable[[int], bool]) -> Iterator[None]:
        """Ask for tasks in the block, once nobody else's request for one of them is under way.

        Where the process is ended in the block, the request counts as under way until all its tasks have their
        predictions, or its time is over.

        Args:
            tasks: their numbers.
            is_done: whether a task has its prediction by now.

        Raises:
            LabelStudioError: `is_done` raises it.
            DatabaseError: the database is away.
        """
        while True:
            with self._database.write() as session:
                others = [job for job in self._under_way(session) if not {*job.payload}.isdisjoint(tasks)]
                if not others:
                    mine = jobs.enqueue(session, self._kind, sorted(tasks), run_after=utc_now() + self._seconds)
                    break
            self._await(others, is_done)
        try:
            yield
        except Exception:
            self._withdraw(mine)
            raise
        self._withdraw(mine)

    def _under_way(self, session: Session) -> list[Job]:
        found = (jobs.find(session, number) for number in jobs.unsettled(session, self._kind))
        return [job for job in found if job is not None]

    def _await(self, others: Collection[Job], is_done: Callable[[int], bool]) -> None:
        logger.info("another run asked for some of these tasks; its request is waited for")
        for job in others:
            while self._stands(job) and utc_now() < job.run_after and not all(map(is_done, job.payload)):
                time.sleep(self._poll_seconds)
            self._withdraw(job.job_id)

    def _stands(self, job: Job) -> bool:
        with self._database.read() as session:
            return jobs.find(session, job.job_id) is not None

    def _withdraw(self, number: UUID) -> None:
        with self._database.write() as session:
            jobs.withdraw(session, number)
