"""Label Studio's button: one training at a time, in a process of its own, whose result waits at the gate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fastapi.testclient import TestClient
from sqlalchemy import text

from backend.app import create_app
from backend.cli import train_from_reviews
from backend.learning.lesson_set import LessonRequest, LessonSet
from backend.learning.training_worker import TrainingWorker, ask_for_training, job_kind
from backend.settings import Settings
from db import failures, jobs, model_events, model_versions, trainings
from db.engine import Database
from db.trainings import Training
from inspection_models.model_card import CARD_FILE, read_card
from inspection_models.training import TrainingRequest, train
from inspection_models.training.checkpoint import Checkpoint, workplace
from tests.backend import desks
from tests.backend.learning_material import PROJECT, Shift, Studio, photograph, studio

AUTH = ("inspection", desks.PASSWORD)
ROOT = Path(__file__).parents[2]
TINY = "--network squeezenet1_1 --size 64 --tiling off --no-marks --explanation grad-cam"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the classes that the inspectors use."""
    folder = tmp_path_factory.mktemp("former")
    data = folder / "data"
    for label in ("good", "patches", "scratches"):
        (data / label).mkdir(parents=True)
        for index in range(4):
            (data / label / f"{index}.png").write_bytes(photograph(label, index, seed=5))
    request = TrainingRequest(
        data, folder / "panel", architecture="squeezenet1_1", size=(64, 64), epochs=0, explanation="grad-cam",
        tiling="off",
    )  # fmt: skip
    train(request)
    return folder / "panel"


@pytest.fixture
def settings(
    own_database: Database, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Settings, Studio]]:
    """A desk's settings, in the environment as well, as a process that is started finds them there."""
    with studio() as has:
        for name, value in {
            "DATA_DIR": str(tmp_path / "desk"),
            "MODEL": str(model),
            "LABEL_STUDIO_URL": has.url,
            "LABEL_STUDIO_API_KEY": "0123456789abcdef0123456789abcdef01234567",
            "DATABASE_URL": own_database.engine.url.render_as_string(hide_password=False),
            "PASSWORD": desks.PASSWORD,
            "WEBHOOK_TOKEN": desks.TOKEN,
            "TRAINING_OPTIONS": f"{TINY} --epochs 1",
            "RECONCILE_SECONDS": "0",
        }.items():
            monkeypatch.setenv(f"INSPECTION_{name}", value)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        yield Settings(), has


def pressed(payloads: Path, project: int = PROJECT) -> dict[str, Any]:
    """What Label Studio really posts."""
    event: dict[str, Any] = json.loads((payloads / "webhook_start_training.json").read_text())["json"]
    event["project"]["id"] = project
    return event


def newest(database: Database, settings: Settings) -> Training:
    with database.read() as session:
        return trainings.newest(session, instance=settings.label_studio_url, limit=1)[0]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def recorded(database: Database) -> int:
    """How many webhooks were worked off."""
    with database.read() as session:
        return jobs.depth(session, kind="webhook").done


def ask(database: Database, settings: Settings) -> None:
    with database.write() as session:
        assert ask_for_training(session, settings.label_studio_url, PROJECT)


def test_a_second_press_is_told_that_one_waits(
    settings: tuple[Settings, Studio], own_database: Database, payloads: Path
) -> None:
    desk = desks.open_desk(settings[0], work_off_queue=False)
    with TestClient(create_app(desk)) as client:
        first = client.post("/webhook", json=pressed(payloads), auth=AUTH)
        assert (first.status_code, first.json()) == (202, {"status": "queued"})
        second = client.post("/webhook", json=pressed(payloads, 9), auth=AUTH)
        assert second.json() == {"status": "a training waits or runs already"}
        [told] = client.get("/api/v1/status", auth=AUTH).json()["trainings"]
        assert (told["state"], told["project_id"]) == ("waiting", PROJECT)
        assert "waiting for a worker" in client.get("/status", auth=AUTH).text
    with own_database.read() as session:
        assert jobs.depth(session, kind=job_kind(settings[0].label_studio_url)).queued == 1
        assert len(trainings.newest(session, instance=settings[0].label_studio_url, limit=9)) == 1


@pytest.mark.parametrize("project", [None, {}, {"id": 10**30}, {"id": "seven"}, 5.5, [1]])
def test_a_press_in_no_known_project_leaves_a_trace_and_no_job(
    settings: tuple[Settings, Studio], own_database: Database, project: object
) -> None:
    desk = desks.open_desk(settings[0], work_off_queue=False)
    with TestClient(create_app(desk)) as client:
        answer = client.post("/webhook", json={"action": "START_TRAINING", "project": project}, auth=AUTH)
    assert (answer.status_code, answer.json()) == (202, {"status": "ignored"})
    with own_database.read() as session:
        assert jobs.depth(session, kind=job_kind(settings[0].label_studio_url)).queued == 0
        [failure] = failures.recent(session, kind="training")
    assert "no known project" in failure.reason


def test_a_training_that_fails_says_why_and_another_may_be_asked_for(
    settings: tuple[Settings, Studio], own_database: Database
) -> None:
    shift = Shift(own_database, settings[1])
    shift.judge("good", range(4))
    shift.judge("patches", range(1))
    shift.judge("scratches", range(4))
    ask(own_database, settings[0])
    assert TrainingWorker(settings[0], own_database)._worker.work_off_one()
    failed = newest(own_database, settings[0])
    assert failed.state == "failed"
    assert failed.reason is not None and "class 'patches' has images of only 1 independent part" in failed.reason
    ask(own_database, settings[0])


@pytest.mark.parametrize(("stated", "given"), [("3", "3"), (None, "1")])
def test_a_process_computes_with_as_many_threads_as_the_desk_may(
    settings: tuple[Settings, Studio],
    own_database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stated: str | None,
    given: str,
) -> None:
    if stated is not None:
        monkeypatch.setenv("INSPECTION_THREADS", stated)
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "threads: $OMP_NUM_THREADS"\n')
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    TrainingWorker(Settings(), own_database)._run([], tmp_path / "log", accepted=(0,))
    assert (tmp_path / "log").read_text() == f"threads: {given}\n"


def test_a_training_from_the_button_computes_with_as_many_threads_as_the_desk_may(
    settings: tuple[Settings, Studio], own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(own_database, settings[0])
    monkeypatch.setenv("INSPECTION_THREADS", "3")
    monkeypatch.setattr(train_from_reviews.os, "nice", lambda _: 0)
    monkeypatch.setattr(train_from_reviews, "_lessons", lambda *_: LessonSet(cast("Any", None), {}))
    monkeypatch.setattr(train_from_reviews, "train_on", lambda *_: torch.get_num_threads())
    request = TrainingRequest(tmp_path, tmp_path / "model")
    training, before = str(newest(own_database, settings[0]).training_id), torch.get_num_threads()
    try:
        computed = train_from_reviews.train_from_reviews(request, LessonRequest(None), training, again=True)
    finally:
        torch.set_num_threads(before)
    assert cast("int", computed) == 3


def test_one_whose_job_is_lost_is_not_shown_as_running_for_ever(
    settings: tuple[Settings, Studio], own_database: Database
) -> None:
    ask(own_database, settings[0])
    with own_database.write() as session:
        trainings.tell(session, newest(own_database, settings[0]).training_id, "epoch 1", 1, 2)
        session.execute(text("UPDATE job SET state = 'failed'"))
    ask(own_database, settings[0])
    with own_database.read() as session:
        now, before = trainings.newest(session, instance=settings[0].label_studio_url, limit=2)
    assert (now.state, before.state) == ("waiting", "failed")
    assert "vanished" in str(before.reason)


@pytest.mark.slow
def test_the_new_version_waits_at_the_gate_with_its_verdict(
    settings: tuple[Settings, Studio],
    own_database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    payloads: Path,
) -> None:
    shift = Shift(own_database, settings[1])
    for label in ("good", "patches", "scratches"):
        shift.judge(label, range(5))
    golden = tmp_path / "golden"
    for label in ("good", "patches", "scratches"):
        (golden / label).mkdir(parents=True)
        for index in range(3):
            (golden / label / f"{index}.png").write_bytes(photograph(label, index, seed=77))
    monkeypatch.setenv("INSPECTION_HELD_OUT", str(golden))
    desk = desks.open_desk(Settings(), work_off_queue=True)
    with TestClient(create_app(desk)) as client:
        in_use = client.get("/api/v1/status", auth=AUTH).json()["models"]
        assert client.post("/webhook", json=pressed(payloads), auth=AUTH).json() == {"status": "queued"}
        wait_for(lambda: newest(own_database, settings[0]).state == "running")
        event = json.loads((payloads / "webhook_annotation_created.json").read_text())["json"]
        event["annotation"]["parent_prediction"] = None
        client.post("/webhook", json=event, auth=AUTH)
        wait_for(lambda: recorded(own_database) == 1)
        assert newest(own_database, settings[0]).ended_at is None, "annotations are recorded meanwhile"
        wait_for(lambda: newest(own_database, settings[0]).ended_at is not None)
        status = client.get("/api/v1/status", auth=AUTH).json()
        [told] = status["trainings"]
        assert told["state"] == "done", told
        assert told["verdict"] == "do not release"
        assert (Path(told["report"]) / "gate.html").is_file()
        assert told["model_version"].startswith("panel ") and told["waits_at_the_gate"]
        assert status["models"] == in_use, "nothing goes live by itself"
        page = client.get("/status", auth=AUTH).text
        assert told["model_version"] in page and "do not release" in page and "It waits at the gate." in page
        assert "models activate" not in page, "nobody is told to put in use what the gate refused"
    with own_database.read() as session:
        version = model_versions.find_by_fingerprint(session, newest(own_database, settings[0]).fingerprint or "")
        assert version is not None
        learned = version.training["reviews"]
        # At this size a good surface may look like a golden one, and is held then.
        assert learned["photographs"] + learned["held"]["near_duplicates"] == 15
        assert model_events.history(session) == ()


@contextmanager
def worker_process() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "backend.cli", "worker"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint(
    settings: tuple[Settings, Studio], own_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSPECTION_TRAINING_OPTIONS", f"{TINY} --epochs 12")
    shift = Shift(own_database, settings[1])
    for label in ("good", "patches", "scratches"):
        shift.judge(label, range(12))
    ask(own_database, settings[0])
    folder = settings[0].data_dir / "learning" / "trainings" / str(newest(own_database, settings[0]).training_id)
    checkpoints = folder / ".model.training"
    with worker_process() as worker:
        wait_for(lambda: list(checkpoints.glob("000[2-6]-*.safetensors")))
        os.kill(worker.pid, signal.SIGKILL)
    # Inspectors go on meanwhile; what they say is for the next one.
    shift.judge("good", range(50, 52))
    wait_for(lambda: not is_held(checkpoints / "lock"), 20)
    assert not (folder / "model").exists()
    assert newest(own_database, settings[0]).state == "running"
    # The lease of a minute is over.
    with own_database.write() as session:
        session.execute(text("UPDATE job SET lease_expires_at = created_at WHERE state = 'running'"))
    assert TrainingWorker(Settings(), own_database)._worker.work_off_one()
    ended = newest(own_database, settings[0])
    assert ended.state == "done", ended.reason
    assert read_card(folder / "model" / CARD_FILE).training["reviews"]["reviews"] == 36
    summary = json.loads((folder / "model" / "training_summary.json").read_text())
    assert summary["continued_after_epochs"] and summary["continued_after_epochs"][0] >= 2


@pytest.mark.slow
def test_a_checkpoint_of_other_lessons_is_thrown_away(
    settings: tuple[Settings, Studio], own_database: Database
) -> None:
    shift = Shift(own_database, settings[1])
    for label in ("good", "patches", "scratches"):
        shift.judge(label, range(5))
    ask(own_database, settings[0])
    folder = settings[0].data_dir / "learning" / "trainings" / str(newest(own_database, settings[0]).training_id)
    with workplace(folder / "model", {"data_sha256": "what is held was less then"}, restart=False) as place:
        place.write(Checkpoint(1, {"weight": torch.zeros(1)}, {}))
    assert TrainingWorker(settings[0], own_database)._worker.work_off_one()
    ended = newest(own_database, settings[0])
    assert ended.state == "done", ended.reason
    assert (folder / "model" / CARD_FILE).is_file()
    assert not (folder / ".model.training").exists()


def is_held(lock: Path) -> bool:
    """Whether a process still trains there."""
    import fcntl

    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.slow
def test_a_desk_that_is_stopped_puts_its_training_back(
    settings: tuple[Settings, Studio], own_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSPECTION_TRAINING_OPTIONS", f"{TINY} --epochs 300")
    shift = Shift(own_database, settings[1])
    for label in ("good", "patches", "scratches"):
        shift.judge(label, range(5))
    ask(own_database, settings[0])
    worker, stop = TrainingWorker(Settings(), own_database), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    wait_for(lambda: "epoch" in newest(own_database, settings[0]).doing)
    stop.set()
    worker.wake()
    thread.join(timeout=30)
    assert not thread.is_alive()
    with own_database.read() as session:
        assert jobs.depth(session, kind=job_kind(settings[0].label_studio_url)).queued == 1
    assert newest(own_database, settings[0]).state == "running"
