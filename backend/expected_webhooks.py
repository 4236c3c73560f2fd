"""Which annotations the queue still has webhooks of, that will tell of them in their own order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.reviews import WEBHOOK_JOB
from db import jobs

if TYPE_CHECKING:
    from uuid import UUID

    from db.engine import Database


class ExpectedWebhooks:
    """Knows the unsettled webhooks of a queue; of each it reads the message once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._named: dict[UUID, frozenset[int]] = {}

    def annotations(self) -> frozenset[int]:
        """Numbers of the annotations that an unsettled webhook tells of, at this instant.

        Raises:
            DatabaseError: the database is away.
        """
        with self._database.read() as session:
            unsettled = jobs.unsettled(session, WEBHOOK_JOB)
            found = {number: jobs.find(session, number) for number in unsettled - self._named.keys()}
        named = {number: _annotations(job.payload) for number, job in found.items() if job is not None}
        self._named = {number: one for number, one in (self._named | named).items() if number in unsettled}
        return frozenset().union(*self._named.values())


def _annotations(event: Any) -> frozenset[int]:
    """Those that an event names; none where it is no event."""
    if not isinstance(event, dict):
        return frozenset()
    listed = (one for many in (event.get("annotation"), event.get("annotations")) for one in _listed(many))
    numbers = (one.get("id") for one in listed if isinstance(one, dict))
    return frozenset(number for number in numbers if isinstance(number, int))


def _listed(many: Any) -> list[Any]:
    return many if isinstance(many, list) else [many]
