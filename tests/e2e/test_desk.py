"""The desk as an operator runs it beside a real Label Studio: PostgreSQL, service and worker apart, either key."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from backend.demo.label_studio_server import LabelStudioServer
from backend.demo.processes import ManagedProcess, free_port
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.image_source import ImageSource, ImageSourceError
from backend.label_studio.labeling_config import parse
from backend.label_studio.results import validate
from backend.label_studio.template import UNDECIDED
from db import reviews
from db.engine import Database
from inspection_models.decision_lines import ReviewLines
from inspection_models.evidence_sheet import SHEET_WIDTH
from inspection_models.model_card import Thresholds
from tests.backend import desks
from tests.e2e import browser
from tests.postgresql import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
# Label Studio's own patience: src core settings ML_TIMEOUT_HEALTH and ML_TIMEOUT_SETUP.
HEALTH_SECONDS, SETUP_SECONDS = 1.0, 3.0

BRUSH = """<View><Image name="photo" value="$picture"/>
<Choices name="what" toName="photo"><Choice value="Gut" alias="GOOD"/><Choice value="Riss" alias="crack"/>
<Choice value="Fleck" alias="stain"/></Choices>
<BrushLabels name="paint" toName="photo"><Label value="CRACK"/><Label value="Stain"/></BrushLabels></View>"""
BOXES = """<View><Image name="i" value="$image"/>
<Choices name="c" toName="i"><Choice value="good"/><Choice value="crack"/></Choices>
<RectangleLabels name="b" toName="i"><Label value="crack"/><Label value="stain"/></RectangleLabels></View>"""


@dataclass(frozen=True)
class DeskPlace:
    """A desk's address, its environment and its database."""

    port: int
    environment: dict[str, str]
    database_url: str
    legacy: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "backend.cli", *arguments]
        environment = {**self.environment, **changes}
        return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)


@pytest.fixture(scope="module")
def database_url(postgresql_server: Server) -> str:
    return postgresql_server.new_database()


@pytest.fixture(scope="module")
def place(
    label_studio: LabelStudioServer, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DeskPlace]:
    """A service without worker and a worker without service, on one PostgreSQL."""
    folder = tmp_path_factory.mktemp("desk")
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("INSPECTION_")},
        "INSPECTION_DATA_DIR": str(folder),
        "INSPECTION_DATABASE_URL": database_url,
        "INSPECTION_MODEL": str(desks.write_model(folder / "model")),
        "INSPECTION_PORT": str(port),
        "INSPECTION_LABEL_STUDIO_URL": label_studio.url,
        "INSPECTION_LABEL_STUDIO_API_KEY": str(label_studio.credentials.personal_access_token),
    }
    place = DeskPlace(port, environment, database_url, label_studio.credentials.legacy_token)
    refused = place.run("serve")
    assert refused.returncode == 1
    assert "inspection db upgrade" in refused.stderr
    assert place.run("db", "upgrade").returncode == 0
    with ExitStack() as stack:
        for name, arguments in (("service", ["serve", "--no-worker"]), ("worker", ["worker"])):
            process = ManagedProcess(
                name,
                [sys.executable, "-m", "backend.cli", *arguments],
                log_file=folder / f"{name}.log",
                environment=environment,
                working_directory=ROOT,
            )
            stack.enter_context(process)
            if name == "service":
                process.wait_until_healthy(f"{place.url}/readyz", timeout=120)
        yield place


@pytest.fixture
def client(label_studio: LabelStudioServer) -> Iterator[LabelStudioClient]:
    with LabelStudioClient(label_studio.url, str(label_studio.credentials.personal_access_token)) as client:
        yield client


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def wait_for_review(place: DeskPlace, client: LabelStudioClient, annotation_id: int) -> reviews.Review:
    deadline = time.monotonic() + 30
    with opened(place.database_url) as database:
        while time.monotonic() < deadline:
            with database.read() as session:
                found = reviews.latest_for_annotation(session, instance=client.url, annotation_id=annotation_id)
            if found is not None:
                return found
            time.sleep(0.2)
    raise AssertionError(f"no review of annotation {annotation_id}")


def images(count: int) -> list[tuple[str, bytes]]:
    return [(f"panel_{n}.png", desks.png(160, 120, seed=100 + n)) for n in range(count)]


def counts(predicted: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `inspection predict --json` tells of the tasks."""
    told = json.loads(predicted.stdout)
    return {name: told[name] for name in ("tasks", "already", "predicted", "gone", "failed")}


def test_connect_predict_annotate_with_a_legacy_token(place: DeskPlace, client: LabelStudioClient) -> None:
    key = {"INSPECTION_LABEL_STUDIO_API_KEY": place.legacy}
    connected = place.run("connect", "--new", "Panels by connect", "--json", **key)
    assert connected.returncode == 0, connected.stderr
    project = json.loads(connected.stdout)["project_id"]
    client.import_files(project, images(3))
    predicted = place.run("predict", "--project", str(project), "--json", **key)
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout)["predicted"] == 3
    again = place.run("predict", "--project", str(project), "--json")
    assert counts(again) == {"tasks": 3, "already": 3, "predicted": 0, "gone": [], "failed": []}
    task = next(iter(client.tasks(project)))
    [prediction] = task["predictions"]
    annotation = client.create_annotation(task["id"], prediction["result"], parent_prediction=prediction["id"])
    review = wait_for_review(place, client, annotation["id"])
    assert (review.outcome, review.label_final) == ("accepted", "crack")


def test_retrieving_twice_makes_no_second_prediction(place: DeskPlace, client: LabelStudioClient) -> None:
    project = json.loads(place.run("connect", "--new", "Twice", "--json").stdout)["project_id"]
    client.import_files(project, images(2))
    tasks = [task["id"] for task in client.tasks(project)]
    for _ in range(3):
        client.retrieve_predictions(project, tasks)
    stored = client.predictions(project)
    assert sorted(p["task"] for p in stored) == sorted(tasks)
    versions = httpx.post(
        f"{place.url}/setup", json={"project": str(project), "schema": BRUSH}, auth=basic(place)
    ).json()["model_version"]
    assert {p["model_version"] for p in stored} == {versions}


def test_connecting_again_leaves_one_backend_and_one_webhook(place: DeskPlace, client: LabelStudioClient) -> None:
    project = json.loads(place.run("connect", "--new", "Again", "--json").stdout)["project_id"]
    assert place.run("connect", "--project", str(project)).returncode == 0
    assert len(client.ml_backends(project)) == 1
    [hook] = client.webhooks(project)
    assert hook["url"] == f"{place.url}/webhook"
    assert not hook["send_for_all_actions"]


@pytest.mark.parametrize(("config", "kind"), [(BRUSH, "brushlabels"), (BOXES, "rectanglelabels")])
def test_other_configurations_in_any_names(
    place: DeskPlace, client: LabelStudioClient, label_studio: LabelStudioServer, config: str, kind: str
) -> None:
    project = client.create_project(f"Names {kind}", config)["id"]
    connected = place.run("connect", "--project", str(project))
    assert connected.returncode == 0, connected.stderr
    assert ("stain" in connected.stderr) == (config is BOXES), connected.stderr
    client.import_files(project, images(1))
    assert place.run("predict", "--project", str(project)).returncode == 0
    [task] = client.tasks(project)
    [prediction] = task["predictions"]
    assert {item["type"] for item in prediction["result"]} == {"choices", kind}
    assert validate(prediction, parse(client.project(project)["label_config"])) == ()
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        browser.open_task(page, f"{label_studio.url}/projects/{project}/data", task["id"])
        page.screenshot(path=browser.artefacts() / f"task-{kind}.png")
        assert len(browser.listed_regions(page)) == len(prediction["result"]) - 1
        browser.submit(page)
    [annotation] = client.annotations(task["id"])
    assert wait_for_review(place, client, annotation["id"]).outcome == "accepted"


def test_a_blind_project_shows_nothing_of_what_was_predicted_and_its_reviews_say_so(
    place: DeskPlace, client: LabelStudioClient, label_studio: LabelStudioServer
) -> None:
    made = json.loads(place.run("connect", "--new", "Measured inspectors", "--blind", "--json").stdout)
    assert made["is_blind"]
    project = made["project_id"]
    client.import_files(project, images(1))
    assert place.run("predict", "--project", str(project)).returncode == 0
    [task] = client.tasks(project)
    [prediction] = task["predictions"]
    assert (prediction["result"], prediction["score"]) == ([], 0)
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        for way in (f"?task={task['id']}", "?labeling=1"):
            browser.open_page(page, f"{label_studio.url}/projects/{project}/data{way}")
            page.screenshot(path=browser.artefacts() / f"task-blind-{way[1:5]}.png")
            assert (browser.ticked(page), browser.listed_regions(page)) == ([], [])
            assert "Auto-Annotation" not in page.locator("body").inner_text()
        page.keyboard.press("1")
        browser.submit(page)
    [annotation] = client.annotations(task["id"])
    review = wait_for_review(place, client, annotation["id"])
    assert review.model_output_shown is False
    assert review.label_final == "good"
    assert review.outcome in ("accepted", "rejected")


def test_a_project_is_switched_to_another_model_and_back_without_a_restart(
    place: DeskPlace, client: LabelStudioClient, label_studio: LabelStudioServer, tmp_path: Path
) -> None:
    project = json.loads(place.run("connect", "--new", "Switched", "--json").stdout)["project_id"]
    client.import_files(project, images(2))
    assert place.run("predict", "--project", str(project)).returncode == 0
    [first] = {prediction["model_version"] for prediction in client.predictions(project)}
    trained = desks.write_model(tmp_path / "trained", favourite="stain")
    switched = place.run("models", "activate", str(trained), "--project", str(project), "--note", "tried", "--json")
    assert switched.returncode == 0, switched.stderr
    second = json.loads(switched.stdout)["model"]
    shutil.rmtree(trained)
    # In the queue, the task opened next is answered by the new version before anybody asked for all of them.
    opened_task = client_next_task(label_studio, project)
    assert [prediction["model_version"] for prediction in opened_task["predictions"]] == [second]
    predicted = place.run("predict", "--project", str(project), "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout)["failed"] == []
    by_version = {p["id"]: p["model_version"] for p in client.predictions(project)}
    assert sorted(by_version.values()) == sorted([first, second] * 2)
    assert client.project(project)["model_version"] == second
    [task, _] = client.tasks(project)
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        browser.open_task(page, f"{label_studio.url}/projects/{project}/data", task["id"])
        page.screenshot(path=browser.artefacts() / "task-switched.png")
        assert browser.ticked(page) == ["stain"]
        browser.submit(page)
    [annotation] = client.annotations(task["id"])
    assert wait_for_review(place, client, annotation["id"]).label_final == "stain"
    # Another project goes on with what the desk has.
    other = json.loads(place.run("connect", "--new", "Not switched", "--json").stdout)["project_id"]
    client.import_files(other, images(1))
    assert place.run("predict", "--project", str(other)).returncode == 0
    assert {prediction["model_version"] for prediction in client.predictions(other)} == {first}

    taken_back = place.run("models", "back", "--project", str(project), "--json")
    assert json.loads(taken_back.stdout)["model"] == first, taken_back.stderr
    again = place.run("predict", "--project", str(project), "--json")
    assert counts(again) == {"tasks": 2, "already": 2, "predicted": 0, "gone": [], "failed": []}
    assert client.project(project)["model_version"] == first
    told = [event["what"] for event in json.loads(place.run("models", "history", "--json").stdout)]
    assert told == ["activated", "taken back"]
    refused = place.run("models", "activate", second, "--project", str(narrow_project(client)))
    assert refused.returncode == 1
    assert "cannot say stain" in refused.stderr


def client_next_task(label_studio: LabelStudioServer, project: int) -> dict[str, Any]:
    """The task that the labeling queue opens next, as the page asks for it."""
    answer = httpx.post(
        f"{label_studio.url}/api/dm/actions",
        params={"id": "next_task", "project": project},
        headers={"Authorization": f"Token {label_studio.credentials.legacy_token}"},
        json={},
        timeout=100,
    )
    answer.raise_for_status()
    return dict(answer.json())


def narrow_project(client: LabelStudioClient) -> int:
    """A project whose labeling configuration knows nothing of stains."""
    config = BOXES.replace('<Label value="stain"/>', "")
    return int(client.create_project("Without stains", config)["id"])


def test_what_the_model_leaves_to_the_inspector_opens_without_a_tick(
    place: DeskPlace, client: LabelStudioClient, label_studio: LabelStudioServer, tmp_path: Path
) -> None:
    lines = Thresholds(decision=0.5, review=ReviewLines(good_below=0.0, defect_from=1.0))
    unsure = desks.write_model(tmp_path / "unsure", seed=3, thresholds=lines)
    project = json.loads(place.run("connect", "--new", "Left to the inspector", "--json").stdout)["project_id"]
    switched = place.run("models", "activate", str(unsure), "--project", str(project))
    assert switched.returncode == 0, switched.stderr
    client.import_files(project, images(1))
    assert place.run("predict", "--project", str(project)).returncode == 0
    [task] = client.tasks(project)
    [prediction] = task["predictions"]
    assert prediction["score"] == 0
    assert {item["type"] for item in prediction["result"]} == {"polygonlabels", "textarea"}
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        browser.open_task(page, f"{label_studio.url}/projects/{project}/data", task["id"])
        page.screenshot(path=browser.artefacts() / "task-for-review.png")
        assert browser.ticked(page) == []
        assert page.get_by_text(UNDECIDED).is_visible()
        page.keyboard.press("1")
        page.wait_for_timeout(300)
        assert browser.ticked(page) == ["good"]
        assert not page.get_by_text(UNDECIDED).is_visible()
        browser.submit(page)
    [annotation] = client.annotations(task["id"])
    review = wait_for_review(place, client, annotation["id"])
    assert (review.outcome, review.label_predicted, review.label_final) == ("decided", None, "good")


def grey(width: int = 160, height: int = 120) -> bytes:
    """A small photograph without any colour, so that what has colour is the map."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(desks.png(width, height, seed=9))).convert("L").save(buffer, format="PNG")
    return buffer.getvalue()


def share_of_colour(image: bytes) -> float:
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"), np.int16)
    return float(((pixels.max(axis=2) - pixels.min(axis=2)) > 40).mean())


def test_the_inspector_sees_the_map_beside_the_photograph(
    place: DeskPlace, client: LabelStudioClient, label_studio: LabelStudioServer
) -> None:
    connected = json.loads(place.run("connect", "--new", "See why", "--json").stdout)
    project = connected["project_id"]
    assert connected["maps_away"] is None
    client.import_files(project, [("grey.png", grey())])
    assert place.run("predict", "--project", str(project)).returncode == 0
    [task] = client.tasks(project)
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        browser.open_task(page, f"{label_studio.url}/projects/{project}/data", task["id"])
        page.wait_for_function("""() => document.querySelectorAll('img[src^="blob:"]').length === 2""")
        photograph, why = browser.shown_images(page)
        page.screenshot(path=browser.artefacts() / "task-with-maps.png")
        assert photograph == grey()
        assert Image.open(io.BytesIO(why)).width == SHEET_WIDTH
        assert share_of_colour(photograph) == 0 < 0.01 < share_of_colour(why)
        # Beside the photograph, of which nothing is cut off.
        image, sheet = (page.locator('img[src^="blob:"]').nth(n).bounding_box() for n in (0, 1))
        drawn_on = page.locator(".konvajs-content").first.bounding_box()
        assert image is not None and sheet is not None and drawn_on is not None
        assert sheet["width"] > 200 and sheet["x"] > image["x"] + image["width"]
        assert image["width"] == pytest.approx(drawn_on["width"], abs=1.5)
        browser.submit(page)
    [annotation] = client.annotations(task["id"])
    assert wait_for_review(place, client, annotation["id"]).outcome == "accepted"


def test_the_inspector_asks_about_a_place_and_the_region_comes(
    place: DeskPlace, client: LabelStudioClient, label_studio: LabelStudioServer
) -> None:
    project = json.loads(place.run("connect", "--new", "Ask", "--json").stdout)["project_id"]
    client.import_files(project, images(1))
    assert place.run("predict", "--project", str(project)).returncode == 0
    [task] = client.tasks(project)
    [prediction] = task["predictions"]
    [*shown] = [one for one in prediction["result"] if one["type"] == "polygonlabels"]
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        browser.open_task(page, f"{label_studio.url}/projects/{project}/data", task["id"])
        assert browser.listed_regions(page) == ["crack"] * len(shown)
        answer = browser.ask_about(page, "crack?", (1, 1, 99, 99))["data"]
        *regions, told = answer["result"]
        assert {one["from_name"] for one in regions} == {"region"}
        assert page.get_by_text(told["value"]["text"][0]).is_visible()
        assert page.get_by_text(f"{len(regions)} suggestion").is_visible()
        page.screenshot(path=browser.artefacts() / "task-asked.png")
        page.get_by_test_id("bottombar-accept-suggestions-button").click()
        page.wait_for_timeout(500)
        # The rectangle has gone; what was asked for stands beside what was predicted.
        assert browser.listed_regions(page) == ["crack"] * (len(shown) + len(regions))
        # Another class instead, which the inspector then lets stand as a question.
        other = browser.ask_about(page, "stain?", (1, 1, 60, 60))["data"]
        assert other["result"][-1]["value"]["text"][0].startswith("stain, probability 0.")
        assert page.get_by_text(other["result"][-1]["value"]["text"][0]).is_visible()
        if len(other["result"]) > 1:
            page.get_by_test_id("bottombar-reject-suggestions-button").click()
        browser.submit(page)
    [stored] = client.predictions(project)
    assert stored["id"] == prediction["id"]
    [annotation] = client.annotations(task["id"])
    review = wait_for_review(place, client, annotation["id"])
    assert (review.outcome, review.label_final) == ("adjusted", "crack")
    changes = [change["change"] for change in review.region_changes or ()]
    assert sorted(changes) == ["added"] * len(regions) + ["kept"] * len(shown)
    assert {one["from_name"] for one in review.regions_final or ()} == {"region"}


def test_the_page_works_where_the_browser_cannot_reach_the_maps(
    place: DeskPlace, client: LabelStudioClient, label_studio: LabelStudioServer
) -> None:
    away = {"INSPECTION_PUBLIC_URL": f"http://127.0.0.1:{free_port()}"}
    connected = json.loads(place.run("connect", "--new", "Maps away", "--json", **away).stdout)
    project = connected["project_id"]
    assert away["INSPECTION_PUBLIC_URL"] in connected["maps_away"]
    client.import_files(project, [("grey.png", grey())])
    assert place.run("predict", "--project", str(project)).returncode == 0
    [task] = client.tasks(project)
    with browser.inspector(label_studio.url, label_studio.credentials) as page:
        browser.open_task(page, f"{label_studio.url}/projects/{project}/data", task["id"])
        page.get_by_text("There was an issue loading URL").wait_for()
        assert browser.listed_regions(page)
        browser.submit(page)
    [annotation] = client.annotations(task["id"])
    assert wait_for_review(place, client, annotation["id"]).outcome == "accepted"
    other_key = place.run("connect", "--project", str(project), INSPECTION_MAP_KEY="k" * 32)
    assert "INSPECTION_MAP_KEY" in other_key.stderr
    again = place.run("connect", "--project", str(project))
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{place.url}/maps/{project}/" in client.project(project)["label_config"]


def test_a_project_that_label_studio_could_not_connect_is_gone_on_with(
    place: DeskPlace, client: LabelStudioClient
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    failed = place.run("connect", "--new", "Half made", "--backend-url", away)
    assert failed.returncode == 1
    [project] = [int(one["id"]) for one in client.projects("Half made")]
    assert f"inspection connect --project {project}" in failed.stderr
    assert place.run("connect", "--project", str(project)).returncode == 0
    assert f"{place.url}/maps/{project}/" in client.project(project)["label_config"]
    assert [one["url"] for one in client.ml_backends(project)] == [place.url]


def test_opening_an_unpredicted_task_predicts_it(place: DeskPlace, client: LabelStudioClient) -> None:
    project = json.loads(place.run("connect", "--new", "On opening", "--json").stdout)["project_id"]
    client.import_files(project, images(1))
    [task] = client.tasks(project)
    assert not task["predictions"]
    assert len(client.task(task["id"])["predictions"]) == 1


def test_health_and_setup_keep_label_studios_patience_under_load(place: DeskPlace, client: LabelStudioClient) -> None:
    project = json.loads(place.run("connect", "--new", "Load", "--json").stdout)["project_id"]
    client.import_files(project, images(12))
    tasks = [task["id"] for task in client.tasks(project)]
    busy = threading.Thread(target=client.retrieve_predictions, args=(project, tasks))
    busy.start()
    asked = 0
    while busy.is_alive() or asked < 5:
        httpx.get(f"{place.url}/health", timeout=HEALTH_SECONDS).raise_for_status()
        body = {"project": f"{project}.1", "schema": BRUSH}
        httpx.post(f"{place.url}/setup", json=body, auth=basic(place), timeout=SETUP_SECONDS).raise_for_status()
        asked += 1
    busy.join()
    assert len(client.predictions(project)) == len(tasks)


def test_a_hostile_image_is_kept_as_failure_and_harms_no_other(place: DeskPlace, client: LabelStudioClient) -> None:
    project = json.loads(place.run("connect", "--new", "Hostile", "--json").stdout)["project_id"]
    client.import_files(project, [("torn.png", desks.png()[:100]), ("whole.png", desks.png(90, 70, seed=77))])
    predicted = place.run("predict", "--project", str(project), "--json")
    assert predicted.returncode == 1
    [failed] = json.loads(predicted.stdout)["failed"]
    from db import failures

    with opened(place.database_url) as database, database.read() as session:
        reasons = {f.task_id: f.reason for f in failures.recent(session, kind="predict")}
    assert failed["reason"] == reasons[failed["task"]]
    assert len(client.predictions(project)) == 1


@pytest.mark.parametrize("key", ["personal_access_token", "legacy_token"])
def test_an_upload_is_read_with_either_kind_of_key(
    label_studio: LabelStudioServer, client: LabelStudioClient, key: str
) -> None:
    project = client.create_project(f"Reads with {key}", BRUSH.replace("$picture", "$image"))["id"]
    picture = desks.png(33, 21, seed=5)
    client.import_files(project, [("panel.png", picture)])
    [task] = client.tasks(project)
    with (
        LabelStudioClient(label_studio.url, str(getattr(label_studio.credentials, key))) as reader,
        ImageSource(label_studio.url, reader.authorization) as source,
    ):
        assert source.fetch(task["data"]["image"], task_id=task["id"]).data == picture
    with ImageSource(label_studio.url, None) as stranger, pytest.raises(ImageSourceError):
        stranger.fetch(task["data"]["image"], task_id=task["id"])


def basic(place: DeskPlace) -> tuple[str, str]:
    kept = json.loads((Path(place.environment["INSPECTION_DATA_DIR"]) / "credentials.json").read_text())
    return "inspection", kept["password"]
