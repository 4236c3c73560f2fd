"""A labeling configuration changed under way: what was predicted in the former one is still compared rightly."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from backend.app import create_app
from backend.credentials import WEBHOOK_HEADER
from backend.desk import Desk
from backend.label_studio.labeling_config import parse
from backend.map_addresses import MapAddresses
from backend.outdated_predictions import remove_outdated
from backend.predictions import configuration_sha256
from backend.worker import JobRefusedError
from db import failures, labeling_configurations, reviews, status
from db.types import utc_now
from tests.backend import desks
from tests.backend.bulk_label_studio import PROJECT, BulkLabelStudio
from tests.backend.test_templates_in_review import annotate, item_of

FORMER = """<View><Image name="photo" value="$image"/>
<Choices name="what" toName="photo"><Choice value="good"/><Choice value="Riss" alias="crack"/>
<Choice value="stain"/></Choices>
<PolygonLabels name="where" toName="photo"><Label value="Crack"/><Label value="stain"/></PolygonLabels></View>"""
BROKEN = FORMER.replace("</View>", "")
AUTH = ("inspection", desks.PASSWORD)
Result = list[dict[str, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def desk(tmp_path: Path, model: Path, database_url: str) -> Iterator[Desk]:
    with desks.image_server({"0.png": desks.png()}) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path, model, url, database_url), work_off_queue=False)
        yield desk
        desk.close()


def predict(desk: Desk, config: str = FORMER) -> dict[str, Any]:
    [prediction] = desk.predictions.answer([desks.task(1, "0.png")], config, 1)
    return prediction


def respelled(result: Result, replacements: dict[str, str]) -> Result:
    """A result as it would be in the changed configuration, word for word."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: change(one) for key, one in value.items()}
        if isinstance(value, list):
            return [change(one) for one in value]
        return replacements.get(value, value) if isinstance(value, str) else value

    return [change(item) for item in result]


@pytest.mark.parametrize(
    "renamed",
    [
        {"where": "outline"},
        {"what": "verdict"},
        {"photo": "picture"},
        {"crack": "CRACK", "Crack": "crack"},
        {"what": "verdict", "where": "outline", "photo": "picture", "Crack": "cRACK"},
    ],
    ids=", ".join,
)
def test_an_untouched_prediction_is_accepted_though_everything_was_renamed(desk: Desk, renamed: dict[str, str]) -> None:
    prediction = predict(desk)
    changed = FORMER
    for old, new in renamed.items():
        changed = changed.replace(f'"{old}"', f'"{new}"')
    review = annotate(desk, changed, prediction, respelled(prediction["result"], renamed))
    assert (review.outcome, review.label_predicted, review.label_final) == ("accepted", "crack", "crack")
    assert {change["change"] for change in review.region_changes or ()} == {"kept"}
    # What was predicted in the former one can be told apart from what is predicted now.
    again = predict(desk, changed)
    assert [item["from_name"] for item in again["result"]] == [
        item["from_name"] for item in respelled(prediction["result"], renamed)
    ]


def test_a_class_that_was_added_can_be_said_at_once(desk: Desk) -> None:
    narrow = FORMER.replace('<Choice value="stain"/>', "").replace('<Label value="stain"/>', "")
    prediction = predict(desk, narrow)
    result = copy.deepcopy(prediction["result"])
    item_of(result, "what")["value"]["choices"] = ["stain"]
    item_of(result, "where")["value"]["polygonlabels"] = ["stain"]
    review = annotate(desk, FORMER, prediction, result)
    assert (review.outcome, review.label_predicted, review.label_final) == ("relabelled", "crack", "stain")
    assert next(change["label_after"] for change in review.region_changes or ()) == "stain"


def test_regions_drawn_anew_as_boxes_are_the_same_regions_moved(desk: Desk) -> None:
    prediction = predict(desk)
    boxes = FORMER.replace("PolygonLabels", "RectangleLabels")
    drawn = predict(desk, boxes)["result"]
    review = annotate(desk, boxes, prediction, drawn)
    assert (review.outcome, review.label_final) == ("adjusted", "crack")
    changes = list(review.region_changes or ())
    assert {(one["change"], one["control_before"], one["control_after"]) for one in changes} == {
        ("moved", "polygonlabels", "rectanglelabels")
    }
    assert all(0.1 < one["iou"] <= 1 and one["label_before"] == one["label_after"] == "crack" for one in changes)


def test_a_configuration_is_kept_once_and_without_the_permission_to_see_maps(desk: Desk) -> None:
    address = MapAddresses("http://desk.example", "k" * 32).of(1)
    config = FORMER.replace("</View>", f'<Image name="why" value="{address}?image=$image"/></View>')
    predict(desk, config)
    predict(desk, config)
    with desk.database.read() as session:
        kept = labeling_configurations.find(session, configuration_sha256(config))
        assert labeling_configurations.find(session, "0" * 64) is None
    assert kept is not None
    assert address not in kept and address.rsplit("/", 1)[1][:20] not in kept
    assert parse(kept) == parse(FORMER)


def test_a_review_of_what_a_former_release_predicted_is_read_in_the_present_configuration(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labeling_configurations, "register", lambda *_: None)
    prediction = predict(desk)
    monkeypatch.undo()
    changed = FORMER.replace("</View>", '<TextArea name="remark" toName="photo"/></View>')
    assert annotate(desk, changed, prediction, prediction["result"]).outcome == "accepted"


def test_what_cannot_be_read_is_told_of_and_loses_nothing(desk: Desk) -> None:
    prediction = predict(desk)
    with pytest.raises(JobRefusedError, match="not well-formed XML"):
        annotate(desk, BROKEN, prediction, prediction["result"])
    with desk.database.read() as session:
        assert reviews.for_task(session, instance=desk.settings.label_studio_url, task_id=1) == ()
    # Mended, and read again by reconciling.
    assert annotate(desk, FORMER, prediction, prediction["result"]).outcome == "accepted"


def event(config: str) -> dict[str, Any]:
    return {"action": "PROJECT_UPDATED", "project": {"id": 1, "title": "Strip", "label_config": config}}


def open_failures(desk: Desk) -> list[str]:
    with desk.database.read() as session:
        _, found = status.open_failures(
            session, instance=desk.settings.label_studio_url, since=utc_now() - timedelta(days=1), limit=10
        )
    return [one.reason for one in found if one.kind == "labeling configuration"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BROKEN, "not well-formed XML"),
        ("<View/>", "has no <Image>"),
        ('<View><Image name="i" value="$image"/></View>', "has no Choices"),
        (FORMER.replace('"photo"', '"gone"', 1), "toName must be one of"),
    ],
)
def test_an_unusable_configuration_is_told_of_when_it_is_saved_asked_about_or_used(
    desk: Desk, config: str, reason: str
) -> None:
    with TestClient(create_app(desk)) as client:
        for _ in range(2):
            told = client.post("/webhook", json=event(config), headers={WEBHOOK_HEADER: desks.TOKEN})
            assert (told.status_code, told.json()) == (202, {"status": "ignored"})
            asked = client.post("/setup", json={"project": "1.1", "schema": config}, auth=AUTH)
            assert asked.status_code == 200
        body = {"tasks": [desks.task(1, "0.png")], "project": "1.1", "label_config": config, "params": {}}
        used = client.post("/predict", json=body, auth=AUTH)
        assert used.status_code == 400 or used.json() == {"results": [{}]}
        [told_once] = open_failures(desk)
        assert reason in told_once
        # A configuration that can be used again mends it, and no restart is needed.
        client.post("/webhook", json=event(FORMER), headers={WEBHOOK_HEADER: desks.TOKEN})
        body["label_config"] = FORMER
        [answer] = client.post("/predict", json=body, auth=AUTH).json()["results"]
        assert answer["result"]
        assert open_failures(desk) == []
        with desk.database.read() as session:
            assert len(failures.recent(session, kind="labeling configuration")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("project", [None, {"id": "x"}, {"label_config": FORMER}])
def test_an_event_of_a_project_that_names_none_harms_nothing(desk: Desk, project: object) -> None:
    with TestClient(create_app(desk)) as client:
        body = {"action": "PROJECT_UPDATED", "project": project}
        told = client.post("/webhook", json=body, headers={WEBHOOK_HEADER: desks.TOKEN})
        assert (told.status_code, told.json()) == (202, {"status": "ignored"})


def test_predictions_that_the_page_cannot_show_make_way_and_no_others(desk: Desk) -> None:
    former = predict(desk)
    changed = FORMER.replace('"where"', '"outline"')
    studio = BulkLabelStudio(4, backend=lambda _: [])
    for task, answer in ((1, former), (2, predict(desk, changed)), (3, {**former, "model_version": "another"})):
        studio.store(task, answer)
    studio.store(4, former)
    studio.tasks[4]["annotations"] = [{"id": 5}]
    with studio.client() as client:
        assert remove_outdated(client, PROJECT, former["model_version"], parse(changed)) == (1,)
        assert remove_outdated(client, PROJECT, former["model_version"], parse(changed)) == ()
    assert [one["task"] for one in studio.stored] == [2, 3, 4]
