"""Each template from the prediction to the review: an untouched prediction is accepted, and edits are what they are."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.desk import Desk
from backend.label_studio.labeling_config import parse
from backend.label_studio.results import validate
from backend.label_studio.template import TEMPLATES, labeling_configuration
from backend.reviews import ReviewService, Source
from db import reviews
from db.keys import canonical_sha256
from db.records import Review
from tests.backend import desks

Result = list[dict[str, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def desk(tmp_path: Path, model: Path) -> Iterator[Desk]:
    with desks.image_server({f"{n}.png": desks.png(seed=n) for n in range(4)}) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path, model, url), work_off_queue=False)
        yield desk
        desk.close()


def made(template: str) -> str:
    return labeling_configuration(desks.CLASSES, "good", heading="Which?", template=TEMPLATES[template])


def annotate(desk: Desk, config: str, prediction: dict[str, Any], result: Result, **fields: Any) -> Review:
    """The review of an annotation made from the prediction of task 1."""
    annotation = {"id": 11, "task": 1, "parent_prediction": 5, "created_at": "2099-01-01T00:00:00Z"}
    annotation |= {"updated_at": "2099-01-01T00:00:00Z", "result": result, "prediction": {"id": 5, **prediction}}
    event = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 1, "label_config": config},
        "annotation": {**annotation, **fields},
        "task": {"id": 1, "data": {}},
    }
    event = json.loads(json.dumps(event))
    effect = ReviewService(desk.database, desk.settings).judge(
        event, Source("webhook", canonical_sha256(event), is_patient=False)
    )
    with desk.database.write() as session:
        effect(session)
    with desk.database.read() as session:
        found = reviews.latest_for_annotation(
            session, instance=desk.settings.label_studio_url, annotation_id=event["annotation"]["id"]
        )
    assert found is not None
    return found


def item_of(result: Result, control: str) -> dict[str, Any]:
    return next(item for item in result if item["from_name"] == control)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_untouched_prediction_of_a_template_is_accepted(desk: Desk, template: str) -> None:
    config = made(template)
    [prediction] = desk.predictions.answer([desks.task(1, "0.png")], config, 1)
    assert validate(prediction, parse(config)) == ()
    drawn = [item for item in prediction["result"] if item["from_name"].startswith("region")]
    assert drawn and {item["type"] for item in drawn} == {TEMPLATES[template].regions}
    review = annotate(desk, config, prediction, prediction["result"])
    assert (review.outcome, review.label_predicted, review.label_final) == ("accepted", "crack", "crack")
    assert [change["change"] for change in review.region_changes or ()] == ["kept"] * len(drawn)
    assert (review.mean_iou, review.reasons) == (1.0, None)
    # What the desk itself had said in the page is no region of the inspector's.
    assert [item["id"] for item in review.regions_final or ()] == [item["id"] for item in drawn]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_reason_is_kept_and_is_no_change(desk: Desk, template: str) -> None:
    config = made(template)
    [prediction] = desk.predictions.answer([desks.task(1, "0.png")], config, 1)
    ticked = {"id": "why", "from_name": "reason", "to_name": "image", "type": "choices"}
    ticked["value"] = {"choices": ["wrong place", "bad photograph"]}
    review = annotate(desk, config, prediction, [*prediction["result"], ticked])
    assert (review.outcome, review.reasons) == ("accepted", ("wrong place", "bad photograph"))
    fewer = copy.deepcopy(prediction["result"])
    fewer.remove(item_of(fewer, "region"))
    review = annotate(desk, config, prediction, [ticked, *fewer], id=12)
    assert (review.outcome, review.reasons) == ("adjusted", ("wrong place", "bad photograph"))
    assert [change["change"] for change in review.region_changes or ()].count("removed") == 1


@pytest.mark.parametrize(("ticks", "outcome"), [(["stain"], "relabelled"), (["good"], "rejected")])
@pytest.mark.parametrize("template", TEMPLATES)
def test_another_class_is_another_class_in_every_template(
    desk: Desk, template: str, ticks: list[str], outcome: str
) -> None:
    config = made(template)
    [prediction] = desk.predictions.answer([desks.task(1, "0.png")], config, 1)
    result = copy.deepcopy(prediction["result"])
    item_of(result, "defect")["value"]["choices"] = ticks
    review = annotate(desk, config, prediction, result)
    assert (review.outcome, review.label_predicted, review.labels_final) == (outcome, "crack", tuple(ticks))


def test_with_several_labels_a_second_class_can_be_ticked_of_a_model_that_names_one(desk: Desk) -> None:
    config = made("multi-label")
    [prediction] = desk.predictions.answer([desks.task(1, "0.png")], config, 1)
    result = copy.deepcopy(prediction["result"])
    item_of(result, "defect")["value"]["choices"] = ["crack", "stain"]
    review = annotate(desk, config, prediction, result)
    assert (review.outcome, review.label_final, review.labels_final) == ("relabelled", None, ("crack", "stain"))
