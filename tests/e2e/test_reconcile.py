"""Webhooks are lost beside a real Label Studio, and reconciling finds what they would have told."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backend.demo.label_studio_server import LabelStudioServer
from backend.demo.processes import ManagedProcess, free_port
from backend.label_studio.client import LabelStudioClient
from db import reviews
from db.keys import canonical_sha256
from db.records import Review
from tests.backend import desks
from tests.e2e.test_desk import DeskPlace, images, opened

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(label_studio: LabelStudioServer, tmp_path: Path) -> DeskPlace:
    """A desk on one machine that is not running yet, and reconciles only when told to."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("INSPECTION_")},
        "INSPECTION_DATA_DIR": str(tmp_path),
        "INSPECTION_MODEL": str(desks.write_model(tmp_path / "model")),
        "INSPECTION_PORT": str(free_port()),
        "INSPECTION_LABEL_STUDIO_URL": label_studio.url,
        "INSPECTION_LABEL_STUDIO_API_KEY": str(label_studio.credentials.personal_access_token),
        "INSPECTION_RECONCILE_SECONDS": "0",
    }
    url = f"sqlite:///{tmp_path / 'inspection.db'}"
    return DeskPlace(int(environment["INSPECTION_PORT"]), environment, url, label_studio.credentials.legacy_token)


@contextmanager
def serving(place: DeskPlace, **changes: str) -> Iterator[None]:
    """The desk while it runs; killed at the end, not asked."""
    process = ManagedProcess(
        "desk",
        [sys.executable, "-m", "backend.cli", "serve"],
        log_file=Path(place.environment["INSPECTION_DATA_DIR"]) / "desk.log",
        environment={**place.environment, **changes},
        working_directory=ROOT,
    )
    with process:
        process.wait_until_healthy(f"{place.url}/readyz", timeout=120)
        yield
        os.kill(int(str(process.pid)), 9)


def latest(place: DeskPlace, client: LabelStudioClient, annotation_id: int) -> Review | None:
    with opened(place.database_url) as database, database.read() as session:
        return reviews.latest_for_annotation(session, instance=client.url, annotation_id=annotation_id)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def require_agreement(place: DeskPlace, client: LabelStudioClient, project: int) -> None:
    there = {one["id"]: one for task in client.tasks(project) for one in task["annotations"]}
    for number, annotation in there.items():
        review = latest(place, client, number)
        assert review is not None and review.action != "deleted"
        assert review.annotation_updated_at == datetime.fromisoformat(annotation["updated_at"].replace("Z", "+00:00"))
        assert review.result_sha256 == canonical_sha256(annotation["result"])
        assert (review.outcome == "skipped") == review.was_cancelled == annotation["was_cancelled"]
    with opened(place.database_url) as database, database.read() as session:
        assert reviews.present(session, instance=client.url, project_id=project) == set(there)


def reconcile(place: DeskPlace, project: int) -> dict[str, Any]:
    done = place.run("reconcile", "--project", str(project), "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_what_webhooks_lost_is_found_by_one_reconciliation(place: DeskPlace, label_studio: LabelStudioServer) -> None:
    key = str(label_studio.credentials.personal_access_token)
    with LabelStudioClient(label_studio.url, key) as client:
        with serving(place):
            project = json.loads(place.run("connect", "--new", "Lost and found", "--json").stdout)["project_id"]
            client.import_files(project, images(6))
            assert place.run("predict", "--project", str(project)).returncode == 0
            tasks = list(client.tasks(project))
            shown = [task["predictions"][0] for task in tasks]

            def accept(number: int, **fields: Any) -> int:
                made = client.create_annotation(
                    tasks[number]["id"], shown[number]["result"], parent_prediction=shown[number]["id"], **fields
                )
                return int(made["id"])

            edited, removed, of_a_task = accept(0), accept(1), accept(5)
            client.update_annotation(edited, result=shown[0]["result"][:1])
            skipped_before = accept(4, was_cancelled=True)
            wait_for(lambda: all(latest(place, client, one) for one in (edited, removed, of_a_task, skipped_before)))
            wait_for(lambda: (one := latest(place, client, edited)) is not None and one.outcome == "adjusted")
            told = reconcile(place, project)
            assert told["found"] == {"created": 0, "updated": 0, "skipped": 0, "deleted": 0}, "webhooks told of all"
            require_agreement(place, client, project)

        # Nobody listens any more.
        created, second = accept(2), accept(2)
        client.update_annotation(edited, result=[])
        client.update_annotation(edited, result=shown[0]["result"])
        skipped = accept(3, was_cancelled=True)
        client.update_annotation(skipped_before, was_cancelled=False)
        client.delete_annotation(removed)
        client.delete_annotation(accept(3))
        label_studio_action(client, project, "delete_tasks", tasks[5]["id"])
        label_studio.stop()
        away = place.run("reconcile")
        assert away.returncode == 1
        assert "start Label Studio" in away.stderr
        label_studio.start()

        told = reconcile(place, project)
        assert told["found"] == {"created": 2, "updated": 2, "skipped": 1, "deleted": 2}
        assert told["agrees"] and told["failed"] == 0
        require_agreement(place, client, project)
        for number, outcome in (
            (created, "accepted"),
            (second, "accepted"),
            (edited, "accepted"),
            (skipped, "skipped"),
        ):
            review = latest(place, client, number)
            assert review is not None
            assert (review.outcome, review.found_by) == (outcome, "reconciling")
            assert review.model_output_shown is True
        assert reconcile(place, project)["found"] == {"created": 0, "updated": 0, "skipped": 0, "deleted": 0}

        # By itself, where the webhook is gone though the desk runs.
        for hook in client.webhooks(project):
            client.delete_webhook(hook["id"])
        client.delete_annotation(second)
        with serving(place, INSPECTION_RECONCILE_SECONDS="1"):
            wait_for(lambda: (one := latest(place, client, second)) is not None and one.action == "deleted")
        require_agreement(place, client, project)
        assert "1 projects in agreement" in place.run("doctor").stdout


def label_studio_action(client: LabelStudioClient, project: int, action: str, task: int) -> None:
    """An action of the data manager on one task."""
    body = {"selectedItems": {"all": False, "included": [task]}, "project": project}
    client._api.object(
        "POST", "api/dm/actions/", action, params={"id": action, "project": project}, json=body, timeout=60
    )
