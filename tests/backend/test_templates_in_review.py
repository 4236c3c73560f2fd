"""Each template from the prediction to the review: an untouched prediction is accepted, and edits are what they are."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.desk import Desk
from backend.label_studio.labeling_config import parse
from backend.label_studio.results import validate
from backend.label_studio.template import TEMPLATES, labeling_configuration
from backend.learning.verdicts import BLIND, SEVERAL_IMAGES, verdicts_of
from backend.reviews import ReviewService, Source
from db import decisions, failures, lessons, predictions, reviews
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


def task(template: str, *files: str) -> dict[str, object]:
    """Task 1 with as many photographs as the template has."""
    count = TEMPLATES[template].images
    if count == 1:
        return desks.task(1, files[0] if files else "0.png")
    names = files or tuple(f"{n}.png" for n in range(count))
    return {"id": 1, "project": 1, "data": {f"image_{n}": f"/data/upload/{name}" for n, name in enumerate(names, 1)}}


def image_of(template: str) -> str:
    return "image" if TEMPLATES[template].images == 1 else "image_1"


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
    [prediction] = desk.predictions.answer([task(template)], config, 1)
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
    [prediction] = desk.predictions.answer([task(template)], config, 1)
    ticked = {"id": "why", "from_name": "reason", "to_name": image_of(template), "type": "choices"}
    ticked["value"] = {"choices": ["wrong place", "bad photograph"]}
    review = annotate(desk, config, prediction, [*prediction["result"], ticked])
    assert (review.outcome, review.reasons) == ("accepted", ("wrong place", "bad photograph"))
    fewer = copy.deepcopy(prediction["result"])
    fewer.remove(next(item for item in fewer if item["from_name"].startswith("region")))
    review = annotate(desk, config, prediction, [ticked, *fewer], id=12)
    assert (review.outcome, review.reasons) == ("adjusted", ("wrong place", "bad photograph"))
    assert [change["change"] for change in review.region_changes or ()].count("removed") == 1


@pytest.mark.parametrize(("ticks", "outcome"), [(["stain"], "relabelled"), (["good"], "rejected")])
@pytest.mark.parametrize("template", TEMPLATES)
def test_another_class_is_another_class_in_every_template(
    desk: Desk, template: str, ticks: list[str], outcome: str
) -> None:
    config = made(template)
    [prediction] = desk.predictions.answer([task(template)], config, 1)
    result = copy.deepcopy(prediction["result"])
    item_of(result, "defect")["value"]["choices"] = ticks
    review = annotate(desk, config, prediction, result)
    assert (review.outcome, review.label_predicted, review.labels_final) == (outcome, "crack", tuple(ticks))


def test_with_several_labels_a_second_class_can_be_ticked_of_a_model_that_names_one(desk: Desk) -> None:
    config = made("multi-label")
    [prediction] = desk.predictions.answer([task("multi-label")], config, 1)
    result = copy.deepcopy(prediction["result"])
    item_of(result, "defect")["value"]["choices"] = ["crack", "stain"]
    review = annotate(desk, config, prediction, result)
    assert (review.outcome, review.label_final, review.labels_final) == ("relabelled", None, ("crack", "stain"))


PART = "several-images"


def part(desk: Desk, *files: str) -> dict[str, Any]:
    [prediction] = desk.predictions.answer([task(PART, *files)], made(PART), 1)
    return prediction


def test_each_image_of_a_part_is_judged_and_its_decision_recorded(desk: Desk) -> None:
    prediction = part(desk)
    on = {item["to_name"] for item in prediction["result"] if item["type"] == "polygonlabels"}
    assert on == {"image_1", "image_2"}
    assert [item["from_name"] for item in prediction["result"] if item["type"] == "textarea"] == ["model_1", "model_2"]
    [ticked] = [item for item in prediction["result"] if item["type"] == "choices"]
    assert (ticked["to_name"], ticked["value"]) == ("image_1", {"choices": ["crack"]})
    with desk.database.read() as session:
        sent = predictions.latest_for_task(session, instance=desk.settings.label_studio_url, task_id=1)
        assert sent is not None
        found = [decisions.find(session, image.decision_id) for image in sent.images]
    assert [image.name for image in sent.images] == ["image_1", "image_2"]
    assert [image.image_uri for image in sent.images] == ["/data/upload/0.png", "/data/upload/1.png"]
    worst = min(found, key=lambda one: one.scores["good"])
    assert (sent.decision_id, prediction["score"]) == (worst.decision_id, worst.probability)


def test_regions_of_one_image_are_never_taken_for_those_of_another(desk: Desk) -> None:
    """The same photograph twice: only the image tells the regions apart."""
    prediction = part(desk, "0.png", "0.png")
    ids = [item["id"] for item in prediction["result"]]
    assert len(set(ids)) == len(ids)
    assert annotate(desk, made(PART), prediction, prediction["result"]).outcome == "accepted"
    first = [item for item in prediction["result"] if item["from_name"] == "region_1"]
    moved = [{**item, "from_name": "region_2", "to_name": "image_2", "id": f"x{item['id']}"} for item in first]
    others = [item for item in prediction["result"] if item["type"] != "polygonlabels"]
    review = annotate(desk, made(PART), prediction, [*others, *moved], id=12)
    changes = [(change["change"], change["image"]) for change in review.region_changes or ()]
    assert changes.count(("removed", "image_1")) == len(first)
    assert changes.count(("kept", "image_2")) == len(first)
    assert review.outcome == "adjusted"


def test_a_part_with_a_photograph_missing_is_not_answered_with_half_of_it(desk: Desk) -> None:
    for broken in (task(PART, "0.png", "gone.png"), desks.task(1, "0.png")):
        assert desk.predictions.answer([broken], made(PART), 1) == [{}]
    with desk.database.read() as session:
        reasons = [one.reason for one in failures.recent(session, kind="predict")]
    assert any("gone.png" in reason for reason in reasons)
    assert any("under 'image_1'" in reason for reason in reasons)


def test_the_maps_of_each_image_are_its_own(desk: Desk) -> None:
    part(desk)
    for n in range(2):
        digest = hashlib.sha256(desks.png(seed=n)).hexdigest()
        with desk.database.read() as session:
            found = predictions.latest_for_image(
                session, instance=desk.settings.label_studio_url, project_id=1, image_sha256=digest
            )
            assert found is not None
            decision = decisions.find(session, found[1])
        assert decision is not None and decision.image_sha256 == digest
        assert len(desk.map_pictures.picture(1, f"/data/upload/{n}.png")) > 5000


def test_a_question_is_about_the_image_it_was_drawn_on(desk: Desk) -> None:
    part(desk)
    rectangle = {
        "original_width": 48, "original_height": 32, "image_rotation": 0, "id": "q", "from_name": "ask_2",
        "to_name": "image_2", "type": "rectanglelabels",
        "value": {"x": 1, "y": 1, "width": 98, "height": 98, "rotation": 0, "rectanglelabels": ["crack"]},
    }  # fmt: skip
    answer = desk.questions.answer([task(PART)], {"result": [rectangle]}, made(PART), 1)
    *regions, told = answer["result"]
    assert regions and {(item["from_name"], item["to_name"]) for item in regions} == {("region_2", "image_2")}
    assert "crack, probability" in told["value"]["text"][0]
    elsewhere = {**rectangle, "to_name": "image_3"}
    refused = desk.questions.answer([task(PART)], {"result": [elsewhere]}, made(PART), 1)
    assert "another object" in refused["result"][0]["value"]["text"][0]


def test_nothing_is_learned_from_a_part_whose_verdict_is_on_no_one_photograph(desk: Desk) -> None:
    prediction = part(desk)
    annotate(desk, made(PART), prediction, prediction["result"])
    with desk.database.read() as session:
        standing = lessons.standing(session, instance=desk.settings.label_studio_url)
        assert lessons.blind_images(session, instance=desk.settings.label_studio_url) == frozenset()
    found = verdicts_of(standing, frozenset())
    assert found.found == ()
    assert [one.reason for one in found.left_out] == [SEVERAL_IMAGES]
    # Of a blind project's part each photograph is held, the good ones too.
    blind = labeling_configuration(desks.CLASSES, "good", heading="Which?", template=TEMPLATES[PART], is_blind=True)
    [silent] = desk.predictions.answer([task(PART)], blind, 1)
    assert silent["result"] == []
    review = annotate(desk, blind, silent, prediction["result"], id=12, parent_prediction=None)
    assert review.model_output_shown is False
    with desk.database.read() as session:
        held = lessons.blind_images(session, instance=desk.settings.label_studio_url)
        standing = lessons.standing(session, instance=desk.settings.label_studio_url)
    assert held == {hashlib.sha256(desks.png(seed=n)).hexdigest() for n in range(2)}
    assert {one.reason for one in verdicts_of(standing, held).left_out} == {BLIND}
