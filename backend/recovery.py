"""One annotation brought into the record as Label Studio has it now, where the record says otherwise."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from backend.label_studio.payloads import Annotation, ListedTask
from backend.lost_events import Difference, differs, event_of_deletion, event_of_state
from backend.reviews import Source
from db import reviews
from db.keys import sha256_hex
from db.types import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.label_studio.client import LabelStudioClient
    from backend.reviews import ReviewService
    from db.engine import Database
    from db.records import AnnotationState

Found = Literal["created", "updated", "skipped", "deleted"]
"""What no webhook had told of an annotation, and is recorded now."""

_CONTRADICTIONS: Mapping[Difference, str] = {
    "lost": "was recorded, and the record says otherwise still; run `inspection db check`",
    "recorded as deleted": "is recorded as deleted, but Label Studio has it; was Label Studio restored from a backup?",
    "recorded of another": "is recorded as made at another time; was its number given anew after a restored backup?",
    "recorded later": "is recorded in a later state than Label Studio has; was Label Studio restored from a backup?",
    "recorded otherwise": "is recorded with another content for the same instant; was Label Studio's database edited?",
}

_NOT_LISTED = "see whether the API key's user may see all tasks"


class ContradictionError(RuntimeError):
    """The record, which keeps what it has, cannot be brought to say what Label Studio says."""


class Recovery:
    """Recovers annotations.

    Args:
        client: of the Label Studio that has the annotations.
        database: has the reviews.
        review_service: makes reviews of what it finds, as it does of webhooks.
        grace: younger changes are left alone, as their webhooks may be on the way; none if zero.
    """

    def __init__(
        self, client: LabelStudioClient, database: Database, review_service: ReviewService, grace: timedelta
    ) -> None:
        self._client = client
        self._database = database
        self._reviews = review_service
        self._grace = grace

    def settle(
        self,
        project: dict[str, Any],
        task: ListedTask,
        listed: dict[str, Any],
        state: AnnotationState | None,
        *,
        is_expected: bool,
    ) -> Found | Literal["waiting"] | None:
        """Record an annotation as it is, unless it stands so in the record: then None.

        Args:
            project: as Label Studio's API gives it.
            task: with its predictions.
            listed: the annotation as the API gives it, perhaps some time ago.
            state: what the record says of it; None where it knows nothing.
            is_expected: whether a webhook in the queue tells of it, and so is waited for.

        Raises:
            ContradictionError: the record has what cannot be mended by recording more.
            ValueError: the annotation cannot be read, recorded or compared with its prediction.
            LabelStudioError: Label Studio is away or refuses.
            DatabaseError: the database is away, or the review breaks one of its rules.
        """
        found: Found | None = None
        annotation = Annotation.model_validate(listed)
        difference = differs(state, annotation)
        if difference == "lost" and (is_expected or self._is_young(annotation)):
            return "waiting"
        # Twice, as what was listed may be older than what the record and Label Studio have by now.
        for _ in range(2):
            if difference == "lost":
                self._record(event_of_state(project, task, listed, is_known=state is not None))
                found = found or ("skipped" if annotation.was_cancelled else "created" if state is None else "updated")
                difference = differs(self._state(annotation.id), annotation)
            if difference is None:
                return found
            now = self._client.find_annotation(annotation.id)
            if now is None:
                return self.settle_deleted(int(project["id"]), annotation.id) or found
            listed, annotation, state = now, Annotation.model_validate(now), self._state(annotation.id)
            difference = differs(state, annotation)
        if difference is None:
            return found
        raise ContradictionError(f"annotation {annotation.id} {_CONTRADICTIONS[difference]}")

    def settle_missing(self, annotation_id: int, *, is_expected: bool) -> Found | Literal["waiting", "gone"] | None:
        """Look for an annotation that was not listed; "gone" where Label Studio confirms that there is none.

        Args:
            annotation_id: its number.
            is_expected: as for `settle`.

        Raises:
            ContradictionError, ValueError, LabelStudioError, DatabaseError: as `settle`.
        """
        if is_expected:
            return "waiting"
        present = self._client.find_annotation(annotation_id)
        if present is None:
            return "gone"
        project = self._client.project(int(present["project"]))
        listed = self._client.find_task(int(present["project"]), int(present["task"]))
        if listed is None:
            raise ContradictionError(f"annotation {annotation_id} is there, but its task is not listed; {_NOT_LISTED}")
        task = ListedTask.model_validate(listed)
        return self.settle(project, task, present, self._state(annotation_id), is_expected=False)

    def settle_deleted(self, project_id: int, annotation_id: int) -> Found | None:
        """Record that an annotation is gone, unless the record says so already or knows nothing of it.

        Raises:
            DatabaseError: the database is away, or the review breaks one of its rules.
        """
        state = self._state(annotation_id)
        if state is None or state.action == "deleted":
            return None
        self._record(event_of_deletion(project_id, annotation_id))
        return "deleted"

    def _record(self, event: dict[str, Any]) -> None:
        read = sha256_hex(json.dumps(event, ensure_ascii=True, separators=(",", ":")))
        effect = self._reviews.judge(event, Source("reconciling", read, is_patient=False))
        with self._database.write() as session:
            effect(session)

    def _state(self, annotation_id: int) -> AnnotationState | None:
        with self._database.read() as session:
            return reviews.states(session, instance=self._client.url, annotation_ids=[annotation_id]).get(annotation_id)

    def _is_young(self, annotation: Annotation) -> bool:
        changed = annotation.updated_at
        return bool(self._grace) and changed is not None and changed > utc_now() - self._grace
