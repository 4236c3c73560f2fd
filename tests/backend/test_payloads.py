from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backend.label_studio.labeling_config import MAX_CONFIG_CHARACTERS, parse
from backend.label_studio.payloads import (
    ANNOTATION_ACTIONS,
    MAX_RESULTS,
    Annotation,
    PredictRequest,
    SetupRequest,
    WebhookRequest,
    project_number,
)


def captured(payloads: Path, name: str) -> Any:
    return json.loads((payloads / f"{name}.json").read_text(encoding="utf-8"))["json"]


def test_setup(payloads: Path) -> None:
    body = captured(payloads, "setup")
    request = SetupRequest.model_validate(body)
    assert request.project_id == 1
    assert parse(request.label_config).images[0].name == "image"
    assert request.hostname == "http://127.0.0.1:8080"
    assert request.extra_params == {"threshold": 0.5}
    assert body["access_token"] not in request.model_dump_json()


def test_predict_batch(payloads: Path) -> None:
    request = PredictRequest.model_validate(captured(payloads, "predict_batch"))
    assert request.project_id == 1
    assert [task["id"] for task in request.tasks] == [1, 2, 3]
    assert request.tasks[2]["data"] == {"image": "http://127.0.0.1:9393/panel_2.png", "part": "P-77"}
    assert request.tasks[2]["meta"] == {"lot": "A"}
    assert request.params.context is None


@pytest.mark.parametrize("name", ["predict_interactive_rectangle", "predict_interactive_2"])
def test_predict_interactive(payloads: Path, name: str) -> None:
    body = captured(payloads, name)
    request = PredictRequest.model_validate(body)
    assert len(request.tasks) == 1
    assert request.params.context == body["params"]["context"]
    assert request.params.context is not None


@pytest.mark.parametrize(
    ("name", "action", "ids", "tasks"),
    [
        ("webhook_annotation_created", "ANNOTATION_CREATED", [4], [2]),
        ("webhook_annotation_updated", "ANNOTATION_UPDATED", [1], [1]),
        ("webhook_annotations_deleted", "ANNOTATIONS_DELETED", [4], []),
        ("webhook_project_updated", "PROJECT_UPDATED", [], []),
        ("webhook_start_training", "START_TRAINING", [], []),
    ],
)
def test_webhooks(payloads: Path, name: str, action: str, ids: list[int], tasks: list[int]) -> None:
    body = captured(payloads, name)
    request = WebhookRequest.model_validate(body)
    assert request.action == action
    assert request.project_id == 1
    assert [annotation.id for annotation in request.annotations] == ids
    assert [task.id for task in request.tasks] == tasks
    assert (action in ANNOTATION_ACTIONS) == bool(ids)
    assert body["project"]["token"] not in request.model_dump_json()


def test_an_annotation_keeps_what_a_review_needs(payloads: Path) -> None:
    body = captured(payloads, "webhook_annotation_updated")
    (annotation,) = WebhookRequest.model_validate(body).annotations
    assert annotation.result == body["annotation"]["result"]
    assert annotation.prediction is not None
    assert annotation.prediction.result == body["annotation"]["prediction"]["result"]
    assert (annotation.prediction.model_version, annotation.prediction.id) == ("demo-1", 1)
    assert (annotation.task, annotation.project_id, annotation.completed_by, annotation.parent_prediction) == (
        1,
        1,
        1,
        1,
    )
    assert annotation.lead_time == 12.5 and not annotation.was_cancelled
    assert annotation.updated_at is not None and annotation.updated_at.utcoffset() is not None


def test_a_queued_webhook_reads_back_the_same(payloads: Path) -> None:
    request = WebhookRequest.model_validate(captured(payloads, "webhook_annotation_created"))
    assert WebhookRequest.model_validate_json(request.model_dump_json()) == request
    setup = SetupRequest.model_validate(captured(payloads, "setup"))
    assert SetupRequest.model_validate_json(setup.model_dump_json()) == setup


def test_many_annotations_come_under_the_singular_name(payloads: Path) -> None:
    body = captured(payloads, "webhook_annotation_created")
    several = {
        **body,
        "action": "ANNOTATIONS_CREATED",
        "annotation": [body["annotation"], {**body["annotation"], "id": 5}],
        "task": [body["task"], body["task"]],
    }
    request = WebhookRequest.model_validate(several)
    assert [annotation.id for annotation in request.annotations] == [4, 5]
    assert len(request.tasks) == 2


def test_an_annotation_of_the_api_and_its_variants(payloads: Path) -> None:
    stored = json.loads((payloads / "api_annotation.json").read_text(encoding="utf-8"))
    annotation = Annotation.model_validate(stored)
    assert annotation.id == 1 and annotation.result
    written_out = Annotation.model_validate({**stored, "completed_by": {"id": 7, "email": "a@b.c"}, "prediction": {}})
    assert written_out.completed_by == 7 and written_out.prediction is None


def test_a_webhook_without_payload() -> None:
    request = WebhookRequest.model_validate({"action": "ANNOTATION_CREATED"})
    assert request.annotations == () and request.project_id is None


@pytest.mark.parametrize(
    ("reference", "number"), [("1.1795377200", 1), ("12", 12), (3, 3), ({"id": 4, "title": "x"}, 4), ("7.0", 7)]
)
def test_project_numbers(reference: object, number: int) -> None:
    assert project_number(reference) == number


@pytest.mark.parametrize("reference", ["", "x", "-1", "0", 0, None, True, {}, {"id": None}, [], "١"])
def test_what_is_no_project(reference: object) -> None:
    with pytest.raises(ValueError, match="project"):
        project_number(reference)


@pytest.mark.parametrize(
    "body",
    [
        {"tasks": "all"},
        {"tasks": [{"id": 1}]},
        {"tasks": [{"id": 1, "data": "x"}]},
        {"tasks": [], "label_config": "x" * (MAX_CONFIG_CHARACTERS + 1)},
        {"tasks": [], "project": "x"},
        {},
        [],
    ],
)
def test_refuses_a_malformed_predict(body: object) -> None:
    with pytest.raises(ValidationError):
        PredictRequest.model_validate(body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "x",
        {"action": ""},
        {"action": "ANNOTATION_CREATED", "annotation": {"result": []}},
        {"action": "ANNOTATION_CREATED", "annotation": "x"},
        {"action": "ANNOTATION_CREATED", "annotation": {"id": 1, "result": [{}] * (MAX_RESULTS + 1)}},
    ],
)
def test_refuses_a_malformed_webhook(body: object) -> None:
    with pytest.raises(ValidationError):
        WebhookRequest.model_validate(body)
