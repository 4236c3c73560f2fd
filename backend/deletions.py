"""Whether annotations that Label Studio has no more were deleted there, or went with a backup that was restored."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from db.records import AnnotationState

_INSTANT: TypeAdapter[datetime | None] = TypeAdapter(datetime | None)
# More than both in one comparison is what a person is asked about.
_MANY, _LARGE_SHARE = 20, 0.1


class UnconfirmedDeletionsError(RuntimeError):
    """Annotations are gone, and perhaps nobody deleted them; nothing was recorded."""

    def __init__(self, project_id: int, gone: int, doubt: str) -> None:
        super().__init__(
            f"{gone} annotations are gone from Label Studio and not recorded as deleted, as {doubt}; if they were "
            f"deleted, run `inspection reconcile --project {project_id} --confirm-deletions`; if Label Studio was "
            "restored from a backup or replaced, bring back a later backup before anything is annotated there"
        )


def doubt(
    gone: Collection[AnnotationState],
    *,
    present: int,
    project: Mapping[str, Any] | None,
    listed: Mapping[int, datetime],
    newest: datetime | None,
) -> str | None:
    """Why these may not have been deleted, as the end of a sentence; None where nothing speaks against it.

    Whoever deletes an annotation changes its task, so a task that is older than an annotation it had was put back.

    Args:
        gone: what the record says of those that Label Studio has no more.
        present: how many the record takes for present, these included.
        project: as Label Studio's API gives it; None where it is gone.
        listed: the latest change of each task there is, by number.
        newest: the latest change of any task of the project.
    """
    if project is None:
        return "their whole project is gone"
    made = _INSTANT.validate_python(project.get("created_at"))
    for one in gone:
        if made is not None and one.annotation_created_at is not None and one.annotation_created_at < made:
            return f"project {project['id']} was made after them"
        changed = listed.get(one.task_id, newest) if one.task_id is not None else newest
        if one.annotation_updated_at is not None and (changed is None or changed < one.annotation_updated_at):
            return "nothing in Label Studio is as late as what it lacks"
    if len(gone) > _MANY and len(gone) > _LARGE_SHARE * present:
        return f"they are many of {present}"
    return None
