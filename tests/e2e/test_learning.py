"""Label Studio's own button: reviews train the next version, which waits at the gate until it is activated."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from backend.demo.label_studio_server import LabelStudioServer
from backend.demo.processes import free_port
from backend.label_studio.binding import bind
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.labeling_config import parse
from db import reviews, trainings
from db.trainings import Training
from tests.backend import desks
from tests.e2e.test_desk import DeskPlace, opened
from tests.e2e.test_reconcile import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
def place(label_studio: LabelStudioServer, tmp_path: Path) -> DeskPlace:
    """A desk that is not running yet, whose trainings are small."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("INSPECTION_")},
        "INSPECTION_DATA_DIR": str(tmp_path),
        "INSPECTION_MODEL": str(desks.write_model(tmp_path / "model")),
        "INSPECTION_PORT": str(free_port()),
        "INSPECTION_LABEL_STUDIO_URL": label_studio.url,
        "INSPECTION_LABEL_STUDIO_API_KEY": str(label_studio.credentials.personal_access_token),
        "INSPECTION_RECONCILE_SECONDS": "0",
        "INSPECTION_TRAINING_OPTIONS": "--size 64 --epochs 1 --tiling off --explanation grad-cam",
    }
    url = f"sqlite:///{tmp_path / 'inspection.db'}"
    return DeskPlace(int(environment["INSPECTION_PORT"]), environment, url, label_studio.credentials.legacy_token)


def wait_for(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.3)


def newest(place: DeskPlace, instance: str) -> Training:
    with opened(place.database_url) as database, database.read() as session:
        return trainings.newest(session, instance=instance, limit=1)[0]


def recorded(place: DeskPlace, client: LabelStudioClient, project: int) -> int:
    with opened(place.database_url) as database, database.read() as session:
        return len(reviews.present(session, instance=client.url, project_id=project))


def test_the_button_trains_and_its_result_waits_at_the_gate(place: DeskPlace, label_studio: LabelStudioServer) -> None:
    key = str(label_studio.credentials.personal_access_token)
    with LabelStudioClient(label_studio.url, key) as client, serving(place):
        project = json.loads(place.run("connect", "--new", "Learning", "--json").stdout)["project_id"]
        client.import_files(project, [(f"part{n}.png", desks.png(64, 48, seed=n)) for n in range(12)])
        assert place.run("predict", "--project", str(project)).returncode == 0
        binding = bind(parse(client.project(project)["label_config"]), desks.CLASSES, "good")
        for number, task in enumerate(client.tasks(project)):
            choice = binding.choices[desks.CLASSES[number % 3]]
            said = {
                "from_name": binding.choice_control,
                "to_name": binding.image.name if binding.image else "",
                "type": "choices",
                "value": {"choices": [choice]},
            }
            client.create_annotation(task["id"], [said], parent_prediction=task["predictions"][0]["id"])
        wait_for(lambda: recorded(place, client, project) == 12)

        backend = client.ml_backends(project)[0]["id"]
        address = f"{label_studio.url}/api/ml/{backend}/train"
        for _ in range(2):
            assert httpx.post(address, headers={"Authorization": f"Token {place.legacy}"}).status_code == 200
        wait_for(lambda: newest(place, client.url).ended_at is not None)
        ended = newest(place, client.url)
        assert ended.state == "done", ended.reason
        with opened(place.database_url) as database, database.read() as session:
            assert len(trainings.newest(session, instance=client.url, limit=9)) == 1, "pressed twice, trained once"

        listed = json.loads(place.run("models", "list", "--json").stdout)
        [waiting] = [one for one in listed if one["fingerprint"] == ended.fingerprint]
        assert waiting["waits_at_the_gate"] and not waiting["in_use_for"]
        [former] = [one for one in listed if one["fingerprint"] != ended.fingerprint]
        assert former["named_by_setting"]
        assert ended.fingerprint is not None
        activated = place.run("models", "activate", ended.fingerprint[:12])
        assert activated.returncode == 0, activated.stderr
        listed = json.loads(place.run("models", "list", "--json").stdout)
        [in_use] = [one for one in listed if one["fingerprint"] == ended.fingerprint]
        assert in_use["in_use_for"] and not in_use["waits_at_the_gate"]
