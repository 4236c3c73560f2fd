"""Which Label Studio projects are this desk's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.connection import connected_projects
from db import predictions, reviews

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from backend.label_studio.client import LabelStudioClient
    from db.engine import Database


def projects_of(client: LabelStudioClient, database: Database, webhook_token: str) -> tuple[int, ...]:
    """The projects that the desk knows: with predictions, reviews or a webhook of its own.

    Raises:
        LabelStudioError: Label Studio is away or refuses.
        DatabaseError: the database is away.
    """
    visible = {int(project["id"]) for project in client.projects()}
    known = set(connected_projects(client, webhook_token))
    with database.read() as session:
        known |= recorded_projects(session, client.url)
        # A project that is gone is of interest until all its annotations are recorded as deleted.
        return tuple(
            number
            for number in sorted(known)
            if number in visible or reviews.present(session, instance=client.url, project_id=number)
        )


def recorded_projects(session: Session, instance: str) -> set[int]:
    """The numbers of a Label Studio's projects that the record has predictions or reviews of."""
    return {*predictions.projects(session, instance=instance), *reviews.projects(session, instance=instance)}
