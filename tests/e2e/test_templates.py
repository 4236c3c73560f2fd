"""Each template in the real Label Studio: taken, prefilled in the browser, submitted as it is, and found accepted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from backend.demo.label_studio_server import LabelStudioServer
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.labeling_config import parse
from backend.label_studio.results import validate
from backend.label_studio.template import TEMPLATES
from db import predictions
from tests.e2e import browser
from tests.e2e.test_desk import (  # noqa: F401 - fixtures are found by their names
    DeskPlace,
    client,
    database_url,
    images,
    opened,
    place,
    wait_for_review,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def connected(place: DeskPlace, template: str) -> int:  # noqa: F811
    made = place.run("connect", "--new", f"Template {template}", "--template", template, "--json")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["unbound"] == []
    return int(report["project_id"])


def import_part(label_studio: LabelStudioServer, client: LabelStudioClient, project: int, count: int) -> None:  # noqa: F811
    """A task with several photographs, which were uploaded before."""
    store = client.create_project("Photographs", "<View/>")["id"] if count > 1 else project
    client.import_files(store, images(count))
    if count == 1:
        return
    uploaded = [next(iter(task["data"].values())) for task in client.tasks(store)]
    data = {f"image_{number}": address for number, address in enumerate(uploaded, start=1)}
    answer = httpx.post(
        f"{label_studio.url}/api/projects/{project}/import",
        headers={"Authorization": f"Token {label_studio.credentials.legacy_token}"},
        json=[{"data": {**data, "part": "P-77"}}],
        timeout=60,
    )
    assert answer.status_code == 201, answer.text


def regions_of(prediction: dict[str, Any], template: str) -> list[dict[str, Any]]:
    return [item for item in prediction["result"] if item["type"] == TEMPLATES[template].regions]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_prefilled_and_submitted_as_it_is_accepted(
    place: DeskPlace,  # noqa: F811
    client: LabelStudioClient,  # noqa: F811
    label_studio: LabelStudioServer,
    template: str,
) -> None:
    project = connected(place, template)
    text = client.project(project)["label_config"]
    checked = httpx.post(f"{label_studio.url}/api/projects/validate/", json={"label_config": text}, timeout=60)
    assert checked.status_code == 204, checked.text
    import_part(label_studio, client, project, TEMPLATES[template].images)
    assert place.run("predict", "--project", str(project)).returncode == 0
    [task] = client.tasks(project)
    [prediction] = task["predictions"]
    assert validate(prediction, parse(text)) == ()
    drawn = regions_of(prediction, template)
    told = [item["value"]["text"][0] for item in prediction["result"] if item["type"] == "textarea"]
    assert drawn and len(told) == TEMPLATES[template].images
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        browser.open_task(page, f"{label_studio.url}/projects/{project}/data", task["id"])
        page.screenshot(path=browser.artefacts() / f"template-{template}.png")
        assert browser.listed_regions(page) == ["crack"] * len(drawn)
        assert browser.ticked(page) == ["crack"]
        for sentence in told:
            assert page.get_by_text(sentence).first.is_visible()
        page.keyboard.press("l")
        page.wait_for_timeout(300)
        assert browser.ticked(page) == ["bad photograph", "crack"]
        browser.submit(page)
    [annotation] = client.annotations(task["id"])
    review = wait_for_review(place, client, annotation["id"])
    assert (review.outcome, review.label_final, review.reasons) == ("accepted", "crack", ("bad photograph",))
    assert [change["change"] for change in review.region_changes or ()] == ["kept"] * len(drawn)
    with opened(place.database_url) as database, database.read() as session:
        sent = predictions.latest_for_task(session, instance=client.url, task_id=task["id"])
    assert sent is not None
    assert len(sent.images) == (TEMPLATES[template].images if TEMPLATES[template].images > 1 else 0)


def test_a_configuration_changed_while_running_is_bound_anew(
    place: DeskPlace,  # noqa: F811
    client: LabelStudioClient,  # noqa: F811
    label_studio: LabelStudioServer,
) -> None:
    project = connected(place, "default")
    client.import_files(project, images(1))
    assert place.run("predict", "--project", str(project)).returncode == 0
    changed = client.project(project)["label_config"]
    changed = changed.replace("PolygonLabels", "RectangleLabels").replace('"region"', '"spot"')
    client.update_project(project, label_config=changed)
    again = place.run("predict", "--project", str(project), "--json")
    assert "the labeling configuration was changed" in again.stderr
    assert json.loads(again.stdout)["predicted"] == 1
    [task] = client.tasks(project)
    [prediction] = task["predictions"]
    drawn = regions_of(prediction, "boxes")
    assert drawn and {item["from_name"] for item in drawn} == {"spot"}
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        browser.open_task(page, f"{label_studio.url}/projects/{project}/data", task["id"])
        assert browser.listed_regions(page) == ["crack"] * len(drawn)
        browser.submit(page)
    [annotation] = client.annotations(task["id"])
    assert wait_for_review(place, client, annotation["id"]).outcome == "accepted"
    assert json.loads(place.run("predict", "--project", str(project), "--json").stdout)["already"] == 1
