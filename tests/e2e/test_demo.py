"""The demo from nothing to a standing desk, an inspector at its screen, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.demo.label_studio_server import prepare_template
from backend.demo.processes import free_port
from backend.label_studio.client import LabelStudioClient
from db import reviews
from db.records import Review
from tests.e2e import browser
from tests.e2e.conftest import EXECUTABLE
from tests.e2e.running_demo import DemoPlace, ports_are_free, run_demo, standing_demo, summary_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> DemoPlace:
    if not EXECUTABLE.is_file():
        reason = "Label Studio is not installed: run `make environments`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    prepare_template(EXECUTABLE, Path(os.environ.get("INSPECTION_CACHE") or Path.home() / ".cache" / "inspection"))
    return DemoPlace(tmp_path_factory.mktemp("demo"), free_port(), free_port())


@pytest.fixture(scope="module")
def checked(place: DemoPlace) -> dict:
    """The demo's first run: trains, starts, connects, uploads, predicts, verifies."""
    finished = run_demo(place, "--check")
    summary = summary_of(finished)
    (browser.artefacts() / "demo-check.json").write_text(finished.stdout)
    assert finished.returncode == 0, summary
    return summary


@pytest.fixture(scope="module")
def standing(place: DemoPlace, checked: dict) -> Iterator[LabelStudioClient]:
    """The demo's second start, on the data of the first."""
    before = census(place)
    with standing_demo(place) as demo:
        with LabelStudioClient(place.url, str(place.credentials.personal_access_token)) as client:
            assert census(place) == before
            images = len(json.loads((place.directory / "inbox" / "truth.json").read_text()))
            assert label_studio_census(client, place) == {
                "tasks": images, "predictions": images, "annotations": before["review"],
            }  # fmt: skip
            assert [line.split()[1] for line in demo.lines if "http://" in line] == [checked["project"]]
            assert [line.split()[1] for line in demo.lines if "@" in line] == [place.credentials.email]
            assert sum(place.credentials.password in line for line in demo.lines) == 1
            yield client
        os.kill(demo.process.pid, signal.SIGINT)
        assert demo.process.wait(timeout=60) == 0
    assert ports_are_free(place)


def census(place: DemoPlace) -> dict[str, int]:
    from sqlalchemy import text

    tables = ("decision", "prediction", "review", "failure", "model_version", "visualization_map")
    with place.database().read() as session:
        return {table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables}


def label_studio_census(client: LabelStudioClient, place: DemoPlace) -> dict[str, int]:
    tasks = list(client.tasks(place.project))
    return {
        "tasks": len(tasks),
        "predictions": len(client.predictions(place.project)),
        "annotations": sum(len(task["annotations"]) for task in tasks),
    }


def latest_review(place: DemoPlace, annotation_id: int) -> Review:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with place.database().read() as session:
            review = reviews.latest_for_annotation(session, instance=place.url, annotation_id=annotation_id)
        if review is not None:
            return review
        time.sleep(0.2)
    raise AssertionError(f"no review of annotation {annotation_id}")


def untouched_task_with_region(client: LabelStudioClient, place: DemoPlace) -> dict:
    return next(
        task
        for task in client.tasks(place.project)
        if not task["annotations"]
        and any(item["type"] == "polygonlabels" for item in task["predictions"][0]["result"])
        and task["predictions"][0]["result"][0]["type"] == "choices"
    )


def test_the_check_verifies_every_step(checked: dict, place: DemoPlace) -> None:
    assert checked["ok"]
    assert {step["name"] for step in checked["steps"]} == {
        "tasks", "predictions", "regions", "retrieve again", "review",
    }  # fmt: skip
    assert all(step["ok"] for step in checked["steps"])
    assert checked["metrics"]["test"]["balanced_accuracy"] >= 0.94
    assert ports_are_free(place)


def test_synthetic_data_is_called_synthetic_wherever_it_is_shown(standing: LabelStudioClient, place: DemoPlace) -> None:
    project = standing.project(place.project)
    assert "synthetic" in project["title"].lower()
    assert "synthetic" in project["label_config"].lower()
    assert all("synthetic" in task["data"]["image"] for task in standing.tasks(place.project))


def test_an_inspector_accepts_with_one_key(standing: LabelStudioClient, place: DemoPlace) -> None:
    task = untouched_task_with_region(standing, place)
    choice, *regions, told = task["predictions"][0]["result"]
    project_url = f"{place.url}/projects/{place.project}/data"
    with browser.inspector(place.url, place.credentials) as page:
        browser.open_task(page, project_url, task["id"])
        page.screenshot(path=browser.artefacts() / "task-as-it-opens.png")
        assert page.get_by_text(told["value"]["text"][0]).is_visible()
        assert browser.ticked(page) == choice["value"]["choices"]
        assert browser.listed_regions(page) == [r["value"]["polygonlabels"][0] for r in regions]
        browser.submit(page)
        page.screenshot(path=browser.artefacts() / "task-accepted.png")
    [annotation] = standing.annotations(task["id"])
    review = latest_review(place, annotation["id"])
    assert review.outcome == "accepted"
    assert review.label_final == choice["value"]["choices"][0]
    assert {c["change"] for c in review.region_changes or ()} == {"kept"}


def test_a_pulled_corner_is_found_as_adjusted(standing: LabelStudioClient, place: DemoPlace) -> None:
    task = untouched_task_with_region(standing, place)
    region = task["predictions"][0]["result"][1]
    project_url = f"{place.url}/projects/{place.project}/data"
    with browser.inspector(place.url, place.credentials) as page:
        browser.open_task(page, project_url, task["id"])
        browser.drag_corner(page, region["value"]["points"], 0, by=(-14, -12))
        page.screenshot(path=browser.artefacts() / "task-corner-pulled.png")
        browser.submit(page)
    [annotation] = standing.annotations(task["id"])
    review = latest_review(place, annotation["id"])
    assert review.outcome == "adjusted", review
    moved = [c for c in review.region_changes or () if c["change"] == "moved"]
    assert [c["region_predicted"] for c in moved] == [region["id"]]
    assert 0 < moved[0]["iou"] < 1


def test_another_class_skip_edit_and_deletion_are_told_apart(standing: LabelStudioClient, place: DemoPlace) -> None:
    task = untouched_task_with_region(standing, place)
    prediction = task["predictions"][0]
    good = [{**prediction["result"][0], "value": {"choices": ["good"]}}]
    annotation = standing.create_annotation(task["id"], good, parent_prediction=prediction["id"])
    assert latest_review(place, annotation["id"]).outcome == "rejected"
    standing.update_annotation(annotation["id"], result=prediction["result"])
    wait_for_outcome(place, annotation["id"], "accepted")
    standing.delete_annotation(annotation["id"])
    deadline = time.monotonic() + 30
    while latest_review(place, annotation["id"]).action != "deleted":
        assert time.monotonic() < deadline, "the deletion was not recorded"
        time.sleep(0.2)
    skipped = standing.create_annotation(task["id"], [], was_cancelled=True, parent_prediction=prediction["id"])
    assert latest_review(place, skipped["id"]).outcome == "skipped"


def wait_for_outcome(place: DemoPlace, annotation_id: int, outcome: str) -> None:
    deadline = time.monotonic() + 30
    while latest_review(place, annotation_id).outcome != outcome:
        assert time.monotonic() < deadline, latest_review(place, annotation_id)
        time.sleep(0.2)


def test_a_taken_port_is_one_clear_line(standing: LabelStudioClient, place: DemoPlace) -> None:
    finished = run_demo(place, "--check")
    assert finished.returncode == 1
    told = json.loads(finished.stdout)
    assert told["ok"] is False
    assert str(place.label_studio_port) in told["error"]
    [line] = finished.stderr.strip().splitlines()
    assert str(place.label_studio_port) in line
    assert "--label-studio-port" in line


def test_the_contents_of_the_demo_are_readable_by_their_owner_only(place: DemoPlace, checked: dict) -> None:
    for name in ("label-studio/administrator.json", "desk/credentials.json", "label-studio-api-key"):
        assert (place.directory / name).stat().st_mode & 0o077 == 0, name
    log = (place.directory / "desk.log").read_text()
    kept = json.loads((place.directory / "desk" / "credentials.json").read_text())
    secrets = (kept["password"], kept["webhook_token"], place.credentials.legacy_token)
    assert not any(secret in log for secret in secrets)
