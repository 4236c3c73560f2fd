"""How far a training has come, told to the database by the process that trains."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from db import trainings
from db.errors import DatabaseError

if TYPE_CHECKING:
    from uuid import UUID

    from db.engine import Database

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 2.0


class Telling:
    """Is told (what, done, total) as often as there is something to tell, and keeps it every two seconds.

    A database that is away keeps no training from going on.
    """

    def __init__(self, database: Database, training_id: UUID) -> None:
        self._database = database
        self._training_id = training_id
        self._due = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Keep it, unless something was kept a moment ago."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _EVERY_SECONDS
        try:
            with self._database.write() as session:
                trainings.tell(session, self._training_id, what, done, total)
        except DatabaseError as error:
            logger.warning("how far the training is could not be kept: %s", error)
