"""What Label Studio sends a backend, checked at the door.

Unknown fields are ignored (each release adds some) and the fields read here are bounded. The `access_token` of `/setup`
is not read at all: it is the project creator's legacy token in clear, useless where such tokens are switched off, and
must not reach a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator
from typing_extensions import Required, TypedDict

from backend.label_studio.labeling_config import MAX_CONFIG_CHARACTERS

MAX_TASKS = 100_000
"""Label Studio sends all selected tasks in one request, without batches."""
MAX_RESULTS = 10_000
MAX_NUMBER = 2**53 - 1
"""Of a project, task, annotation or user: the largest that JSON carries exactly, and well within a database's."""

PROJECT_FIELDS = ("id", "title", "label_config", "model_version", "show_collab_predictions")
"""What of a project is kept with an event; its `token` among others is not."""

ANNOTATION_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
"""The webhook actions that tell of an inspector's judgement."""
PROJECT_UPDATED = "PROJECT_UPDATED"
"""The webhook action that tells of a change of a project's settings, such as its labeling configuration."""
WEBHOOK_ACTIONS = (*ANNOTATION_ACTIONS, PROJECT_UPDATED)
"""All that the desk wants to be told."""


START_TRAINING = "START_TRAINING"
"""What Label Studio posts to a backend's webhook when its button for that is pressed."""


def project_number(reference: object) -> int:
    """A project's number, which Label Studio writes as 1, "1", "1.1795377200" (with its time of creation) or an object.

    Raises ValueError for anything else.
    """
    if isinstance(reference, Mapping):
        reference = reference.get("id")
    text = str(reference).partition(".")[0]
    if isinstance(reference, bool) or not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise ValueError(f'a project is given by its number, such as "1.1795377200", not by {repr(reference)[:80]}')
    return int(text)


def _project_or_none(reference: object) -> int | None:
    return None if reference is None or reference == "" else project_number(reference)


def _number_of(reference: object) -> object:
    """The id of an object that some of Label Studio's serializers write out in full."""
    return reference.get("id") if isinstance(reference, Mapping) else reference


def _empty_as_none(value: object) -> object:
    return value or None


_Number = Annotated[NonNegativeInt, Field(le=MAX_NUMBER)]
Identity = Annotated[_Number, BeforeValidator(_number_of)]
OptionalProject = Annotated[_Number | None, BeforeValidator(_project_or_none)]
LabelConfig = Annotated[str, Field(max_length=MAX_CONFIG_CHARACTERS)]
Results = Annotated[list[dict[str, Any]], Field(max_length=MAX_RESULTS)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class SetupRequest(_Payload):
    """`POST /setup`: a project was connected or opened."""

    project_id: OptionalProject = Field(None, alias="project")
    label_config: LabelConfig = Field("", alias="schema")
    hostname: Annotated[str, Field(max_length=2048)] = ""
    extra_params: Any = None


class Task(TypedDict, total=False):
    """A task as it comes with `/predict`; a test call may come without an id."""

    id: _Number | None
    data: Required[dict[str, Any]]
    meta: dict[str, Any] | None


class PredictParams(_Payload):
    """`context` is None for a batch; for a smart tool it holds what the inspector has just drawn."""

    context: dict[str, Any] | None = None


class PredictRequest(_Payload):
    """`POST /predict`: a batch of tasks, or one task with a smart tool's context."""

    tasks: Annotated[list[Task], Field(max_length=MAX_TASKS)]
    project_id: OptionalProject = Field(None, alias="project")
    label_config: LabelConfig = ""
    params: PredictParams = PredictParams()


class Prediction(_Payload):
    """A stored prediction."""

    id: Identity
    result: Results = []
    model_version: str | None = None
    score: float | None = None
    task: Identity | None = None


class Annotation(_Payload):
    """An annotation; one that was only deleted carries nothing but its id.

    `prediction` is the whole prediction the inspector was shown; `parent_prediction` its number where the annotation
    was made from it.
    """

    id: Identity
    result: Results | None = None
    was_cancelled: bool = False
    ground_truth: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    lead_time: float | None = None
    completed_by: Identity | None = None
    updated_by: Identity | None = None
    task: Identity | None = None
    project_id: OptionalProject = Field(None, alias="project")
    unique_id: str | None = None
    parent_prediction: Identity | None = None
    parent_annotation: Identity | None = None
    prediction: Annotated[Prediction | None, BeforeValidator(_empty_as_none)] = None


class ListedTask(_Payload):
    """A task of the API's listing with its annotations and predictions, each as it came: one that cannot be read must
    not hide the others."""

    id: Identity
    updated_at: datetime
    annotations: Annotated[tuple[dict[str, Any], ...], Field(max_length=MAX_TASKS)] = ()
    predictions: Annotated[tuple[dict[str, Any], ...], Field(max_length=MAX_TASKS)] = ()


class WebhookTask(_Payload):
    """The task an annotation belongs to."""

    id: Identity
    data: dict[str, Any] = {}
    meta: dict[str, Any] | None = None


class WebhookProject(_Payload):
    """The project an event belongs to. Its `token` (of the labeling configuration's links) is not read."""

    id: Identity
    title: str = ""
    label_config: LabelConfig = ""
    model_version: str | None = None
    show_collab_predictions: bool | None = None


class WebhookRequest(_Payload):
    """`POST /webhook`, any action.

    Label Studio calls the list of `ANNOTATIONS_CREATED` "annotation" and that of `ANNOTATIONS_DELETED` "annotations";
    here both are `annotations`, with one entry for the actions on a single annotation, and the tasks are in `tasks`.
    """

    action: Annotated[str, Field(min_length=1, max_length=64)]
    project: WebhookProject | None = None
    annotations: Annotated[tuple[Annotation, ...], Field(max_length=MAX_TASKS)] = ()
    tasks: Annotated[tuple[WebhookTask, ...], Field(max_length=MAX_TASKS)] = ()

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, body: Any) -> Any:
        """Bring "annotation" and "annotations", "task" and "tasks", each an object or a list, under one name."""
        if not isinstance(body, Mapping):
            return body
        gathered = dict(body)
        for one, many in (("annotation", "annotations"), ("task", "tasks")):
            value = gathered.pop(one, None) or gathered.get(many) or []
            gathered[many] = [value] if isinstance(value, Mapping) else value
        return gathered

    @property
    def project_id(self) -> int | None:
        """The project's number, or None where the event names none."""
        return self.project.id if self.project else None
