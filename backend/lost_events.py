"""What a webhook would have told, made of what Label Studio's API says afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from backend.label_studio.payloads import PROJECT_FIELDS, Annotation, ListedTask
from db.keys import canonical_sha256
from db.records import AnnotationState

Json = dict[str, Any]
Difference = Literal["lost", "recorded as deleted", "recorded of another", "recorded later", "recorded otherwise"]

_INSTANT: TypeAdapter[datetime] = TypeAdapter(datetime)


def differs(state: AnnotationState | None, annotation: Annotation) -> Difference | None:
    """How the record differs from an annotation as it is now; None where they agree.

    "lost" is what recording the annotation mends; the others it cannot.

    Raises:
        CanonicalJsonError: the annotation's result has no canonical form, so it cannot be recorded.
    """
    if state is None:
        return "lost"
    if state.action == "deleted":
        return "recorded as deleted"
    if None not in (state.annotation_created_at, annotation.created_at) and (
        state.annotation_created_at != annotation.created_at
    ):
        return "recorded of another"
    recorded, present = state.annotation_updated_at, annotation.updated_at
    if recorded != present:
        is_later = recorded is not None and present is not None and recorded > present
        return "recorded later" if is_later else "lost"
    same = state.result_sha256 == canonical_sha256(annotation.result or [])
    return None if same and state.was_cancelled == annotation.was_cancelled else "recorded otherwise"


def event_of_state(project: Json, task: ListedTask, annotation: Json, *, is_known: bool) -> Json:
    """The event that an annotation is as it is; `is_known`: an earlier state of it is recorded."""
    return {
        "action": "ANNOTATION_UPDATED" if is_known else "ANNOTATION_CREATED",
        "annotation": {**annotation, "task": task.id, "prediction": _shown(project, task, annotation)},
        "project": {name: project[name] for name in PROJECT_FIELDS if name in project},
        "task": {"id": task.id},
    }


def event_of_deletion(project_id: int, annotation_id: int) -> Json:
    """The event that an annotation is gone."""
    return {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": annotation_id}], "project": {"id": project_id}}


def _shown(project: Json, task: ListedTask, annotation: Json) -> Mapping[str, Any] | None:
    """The prediction that an annotation was made from. Where it was made from none: the one that webhooks bring, which
    is the first of the project's version, if it was there before the annotation."""
    parent = annotation.get("parent_prediction")
    if parent is not None:
        return next((one for one in task.predictions if one.get("id") == parent), None)
    made = _instant(annotation.get("created_at"))
    for one in sorted(task.predictions, key=lambda one: int(one.get("id", 0))):
        predicted = _instant(one.get("created_at"))
        was_there = made is not None and predicted is not None and predicted <= made
        if was_there and one.get("model_version") == project.get("model_version"):
            return one
    return None


def _instant(text: object) -> datetime | None:
    try:
        return _INSTANT.validate_python(text)
    except ValidationError:
        return None
