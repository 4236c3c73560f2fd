"""A running desk switched to another model and back: no restart, no half-loaded answer, nothing lost when it fails."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from backend.app import create_app
from backend.desk import Desk
from backend.label_studio.errors import LabelStudioRefusedError
from backend.model_loading import ModelUnavailableError
from backend.model_store import ModelStore
from backend.model_switching import ModelSwitching, SwitchRefusedError
from backend.models_in_use import ModelIdentity, store_of, version_in_use
from db import decisions, failures, model_events, predictions
from db.errors import DatabaseError, DatabaseUnreachableError, ModelSwitchError
from inspection_models.classifier import DefectClassifier
from inspection_models.model_card import CARD_FILE, WEIGHTS_FILE, ModelError, read_card
from tests.backend import desks
from tests.conftest import DATABASES

AUTH = ("inspection", desks.PASSWORD)
NARROW = desks.CONFIG.replace('<Choice value="Stain"/>', "").replace('<Label value="Stain"/>', "")


class Studio:
    """Label Studio's side of the projects: their labeling configurations, backends and shown versions."""

    def __init__(self) -> None:
        self.configs = {1: desks.CONFIG, 2: desks.CONFIG}
        self.shown: dict[int, str] = {}
        self.is_away = False

    def project(self, number: int) -> dict[str, Any]:
        if number not in self.configs:
            raise LabelStudioRefusedError(f"read project {number}: not found", 404)
        return {"id": number, "label_config": self.configs[number]}

    def ml_backends(self, number: int) -> list[dict[str, Any]]:
        return [{"id": number, "title": "Inspection"}]

    def update_project(self, number: int, *, model_version: str) -> None:
        if self.is_away:
            raise LabelStudioRefusedError("Label Studio went away")
        self.shown[number] = model_version


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One that always says crack, one that always says stain, and one that always says good."""
    folder = tmp_path_factory.mktemp("models")
    return {name: desks.write_model(folder / name, favourite=name) for name in ("crack", "stain", "good")}


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path, models: dict[str, Path]) -> Iterator[Desk]:
    """On SQLite, or on the kind of database that a test names."""
    database_url = request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_url")
    files = {f"{n}.png": desks.png(seed=n) for n in range(3)}
    with desks.image_server(files) as url:
        yield desks.open_desk(desks.settings_for(tmp_path / "data", models["crack"], url, database_url))


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_app(desk), raise_server_exceptions=False) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def studio() -> Studio:
    return Studio()


@pytest.fixture
def switching(desk: Desk, studio: Studio) -> ModelSwitching:
    return ModelSwitching(desk.settings, desk.database, studio)  # type: ignore[arg-type]


def version(directory: Path) -> str:
    return ModelIdentity.of(read_card(directory / CARD_FILE)).model_version


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def answer(client: TestClient, project: int = 1, task: int = 1, image: str = "0.png") -> dict[str, Any]:
    body = {"tasks": [desks.task(task, image)], "project": f"{project}.17", "label_config": desks.CONFIG, "params": {}}
    response = client.post("/predict", json=body, auth=AUTH)
    assert response.status_code == 200, response.text
    [result] = response.json()["results"]
    return dict(result)


def said(client: TestClient, project: int = 1) -> str:
    """The class that a project is answered with, checked against the version that is told with it."""
    given = answer(client, project)
    return str(given["result"][0]["value"]["choices"][0]).lower()


def announced(client: TestClient, project: int = 1) -> str:
    body = {"project": f"{project}.17", "schema": desks.CONFIG}
    return str(client.post("/setup", json=body, auth=AUTH).json()["model_version"])


def activate(switching: ModelSwitching, model: Path | str, project: int | None = None) -> bool:
    return switching.activate(str(model), project, actor="ada", note=None).event is not None


@pytest.mark.slow
@pytest.mark.parametrize("desk", DATABASES, indirect=True)
def test_one_project_is_switched_and_switched_back_while_the_others_stay(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], studio: Studio
) -> None:
    assert [said(client, project) for project in (1, 2)] == ["crack", "crack"]
    activate(switching, models["stain"], 1)
    wait_for(lambda: announced(client, 1) == version(models["stain"]))
    given = answer(client, 1)
    assert given["model_version"] == version(models["stain"])
    assert given["result"][0]["value"]["choices"] == ["Stain"]
    assert said(client, 2) == "crack"
    assert announced(client, 2) == version(models["crack"])
    told = client.get("/versions", auth=AUTH).json()["versions"]
    assert told == [version(models["crack"]), version(models["stain"])]
    # Label Studio asks the backend with each task that it opens, rather than show what the former version said.
    assert studio.shown == {1: "Inspection"}
    with desk.database.read() as session:
        sent = predictions.latest_for_task(session, instance=desk.settings.label_studio_url, task_id=1)
        assert sent is not None
    switching.take_back(1, actor="bob", note="too many stains")
    assert (announced(client, 1), said(client, 1)) == (version(models["crack"]), "crack")


@pytest.mark.slow
def test_each_prediction_records_the_version_that_made_it(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path]
) -> None:
    first = answer(client, task=7)
    activate(switching, models["stain"], 1)
    wait_for(lambda: announced(client) == version(models["stain"]))
    second = answer(client, task=7)
    instance = desk.settings.label_studio_url
    for given, model in ((first, models["crack"]), (second, models["stain"])):
        with desk.database.read() as session:
            kept = predictions.latest_for_task(
                session, instance=instance, task_id=7, model_version=given["model_version"]
            )
            assert kept is not None
            decision = decisions.find(session, kept.decision_id)
        assert decision is not None
        assert given["model_version"] == version(model)
        assert decision.model_fingerprint == read_card(model / CARD_FILE).fingerprint


@pytest.mark.slow
def test_the_former_version_answers_while_the_new_one_is_loaded(
    client: TestClient, switching: ModelSwitching, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(client) == "crack"
    original, held = DefectClassifier.load, threading.Event()

    def slow(directory: Path, **options: Any) -> DefectClassifier:
        assert held.wait(60)
        return original(directory, **options)

    activate(switching, models["stain"], 1)
    monkeypatch.setattr(DefectClassifier, "load", slow)
    for _ in range(3):
        # What is announced is what answers: else Label Studio would store the same answer again and again.
        assert (announced(client), said(client)) == (version(models["crack"]), "crack")
    held.set()
    wait_for(lambda: announced(client) == version(models["stain"]))
    assert said(client) == "stain"


@pytest.mark.slow
def test_requests_under_way_meet_no_half_loaded_model(
    client: TestClient, switching: ModelSwitching, models: dict[str, Path]
) -> None:
    """Every answer is whole and by one of the two versions, and once the new one answered the former does not."""
    given: list[dict[str, Any]] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        while not stop.is_set():
            given.append(answer(client, task=number, image=f"{number}.png"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(given) > 2)
    activate(switching, models["stain"], 1)
    wait_for(lambda: any(one["model_version"] == version(models["stain"]) for one in given))
    stop.set()
    for thread in threads:
        thread.join()
    choices = {version(models["crack"]): "Crack", version(models["stain"]): "Stain"}
    assert all(one["result"][0]["value"]["choices"] == [choices[one["model_version"]]] for one in given)
    assert answer(client)["model_version"] == version(models["stain"])


@pytest.mark.slow
def test_the_desk_and_all_that_follow_it_are_switched(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], studio: Studio
) -> None:
    assert [said(client, project) for project in (1, 2)] == ["crack", "crack"]
    activate(switching, models["good"], 2)
    wait_for(lambda: said(client, 2) == "good")
    switch = switching.activate(str(models["stain"]), None, actor="ada", note=None)
    assert switch.projects == (1,)
    wait_for(lambda: said(client, 1) == "stain")
    assert said(client, 2) == "good"
    del studio.configs[1]  # a project that was deleted keeps nobody from switching
    assert switching.take_back(None, actor="ada", note=None).projects == ()
    wait_for(lambda: said(client, 1) == "crack")


@pytest.mark.slow
def test_more_models_than_are_kept_answer_all_the_same(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], tmp_path: Path, studio: Studio
) -> None:
    for number in range(3, 6):
        studio.configs[number] = desks.CONFIG
        activate(switching, desks.write_model(tmp_path / str(number), seed=number, favourite="stain"), number)
    activate(switching, models["good"], 2)
    loaded = []
    for _ in range(2):
        assert [said(client, number) for number in range(1, 6)] == ["crack", "good", "stain", "stain", "stain"]
        loaded.append(dict(desk.models._pool._loaded))
    # Each project is answered again with the model that answered it before, not with one loaded anew.
    assert len(loaded[0]) == 5
    assert {name: id(model) for name, model in loaded[0].items()} == {n: id(model) for n, model in loaded[1].items()}


@pytest.mark.slow
def test_which_versions_there_are_is_told_without_loading_them(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], tmp_path: Path, studio: Studio
) -> None:
    assert said(client) == "crack"
    before = set(desk.models._pool._loaded)
    expected = [version(models["crack"])]
    for number in range(2, 6):
        studio.configs[number] = desks.CONFIG
        model = desks.write_model(tmp_path / str(number), seed=number)
        activate(switching, model, number)
        expected.append(version(model))
    for _ in range(3):
        assert client.get("/versions", auth=AUTH).json()["versions"] == expected
        assert client.get("/readyz").json() == {"status": "ready"}
    assert (set(desk.models._pool._loaded), desk.models._pool._loading) == (before, set())


@pytest.mark.slow
def test_a_model_outlives_the_directory_it_came_from(
    client: TestClient, switching: ModelSwitching, models: dict[str, Path], tmp_path: Path
) -> None:
    source = Path(shutil.copytree(models["stain"], tmp_path / "trained"))
    activate(switching, source, 1)
    shutil.rmtree(source)
    wait_for(lambda: said(client) == "stain")
    activate(switching, models["good"], 1)
    # By its fingerprint it is found where it was kept.
    fingerprint = read_card(models["stain"] / CARD_FILE).fingerprint
    assert activate(switching, fingerprint[:10], 1)
    assert not activate(switching, f"tiny {fingerprint[:12]}", 1)


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_model_that_vanished_leaves_the_former_one_answering_and_is_told_of(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], tmp_path: Path, harm: str
) -> None:
    assert said(client) == "crack"
    source = Path(shutil.copytree(models["stain"], tmp_path / "trained"))
    activate(switching, source, 1)
    shutil.rmtree(source)
    kept = store_of(desk.settings).directory(read_card(models["stain"] / CARD_FILE).fingerprint)
    if harm == "gone":
        shutil.rmtree(kept)
    else:
        (kept / WEIGHTS_FILE).write_bytes((kept / WEIGHTS_FILE).read_bytes()[:-1])
    assert said(client) == "crack"
    wait_for(lambda: client.get("/readyz").json()["status"] == "degraded")
    assert client.get("/readyz").json() == {"status": "degraded"}
    response = client.get("/readyz", auth=AUTH)
    assert response.status_code == 200
    [problem] = response.json()["problems"]
    assert problem.startswith(f"{version(models['crack'])} answers for project 1")
    assert version(models["stain"]) in problem
    for _ in range(3):
        assert (announced(client), said(client)) == (version(models["crack"]), "crack")
    with desk.database.read() as session:
        [failure] = failures.recent(session, kind="model")
    assert version(models["stain"]) in failure.reason
    assert str(kept) in failure.reason
    # Activated again from a whole directory it answers after all.
    assert not activate(switching, models["stain"], 1)
    desk.models._pool._retry_seconds = 0
    wait_for(lambda: announced(client) == version(models["stain"]))
    assert client.get("/readyz").json() == {"status": "ready"}


@pytest.mark.slow
def test_a_desk_that_starts_anew_answers_with_what_was_activated(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], tmp_path: Path
) -> None:
    assert said(client, 2) == "crack"
    activate(switching, models["stain"])
    gone = desk.settings.model_copy(update={"model": tmp_path / "nowhere"})
    with TestClient(create_app(desks.open_desk(gone))) as other:
        assert said(other, 2) == "stain"
    damaged = store_of(desk.settings).directory(read_card(models["stain"] / CARD_FILE).fingerprint)
    shutil.rmtree(damaged)
    (damaged.parent / damaged.name).mkdir()
    hidden = models["stain"].rename(models["stain"].with_name("hidden"))
    try:
        with TestClient(create_app(desks.open_desk(desk.settings))) as third:
            wait_for(lambda: third.get("/readyz").status_code == 200)
            assert said(third, 2) == "crack"
            assert third.get("/readyz").json()["status"] == "degraded"
    finally:
        hidden.rename(models["stain"])


def test_without_any_model_the_desk_says_what_to_do(
    desk: Desk, switching: ModelSwitching, models: dict[str, Path], tmp_path: Path
) -> None:
    gone = desk.settings.model_copy(update={"model": tmp_path / "nowhere"})
    with pytest.raises(ModelError, match="not a model directory"):
        desks.open_desk(gone)
    activate(switching, models["stain"])
    other = desks.open_desk(gone)
    switching.take_back(None, actor="ada", note=None)
    with pytest.raises(ModelUnavailableError, match="inspection models activate"):
        other.models.answering(1)
    assert any("inspection models activate" in problem for problem in other.problems())


@pytest.mark.slow
def test_a_configuration_that_cannot_say_the_classes_refuses_the_switch(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], studio: Studio
) -> None:
    studio.configs[1] = NARROW
    with pytest.raises(SwitchRefusedError, match=r"project 1 cannot say stain.*add <Choice value=\"stain\"/>"):
        activate(switching, models["stain"], 1)
    assert said(client) == "crack"  # the desk knows the former configuration from the request
    with pytest.raises(SwitchRefusedError, match="project 1 cannot say stain"):
        activate(switching, models["stain"])
    studio.configs[1] = "<View"
    with pytest.raises(SwitchRefusedError, match="project 1"):
        activate(switching, models["stain"], 1)
    with pytest.raises(LabelStudioRefusedError):
        activate(switching, models["stain"], 99)
    with desk.database.read() as session:
        assert model_events.history(session) == ()


def test_nothing_is_switched_for_a_project_that_cannot_be_looked_at(desk: Desk, models: dict[str, Path]) -> None:
    blind = ModelSwitching(desk.settings, desk.database, None)
    with pytest.raises(SwitchRefusedError, match="INSPECTION_LABEL_STUDIO_API_KEY"):
        activate(blind, models["stain"], 1)
    assert activate(blind, models["stain"])


def test_a_label_studio_that_goes_away_after_the_switch_is_told_of(
    desk: Desk, switching: ModelSwitching, models: dict[str, Path], studio: Studio
) -> None:
    studio.is_away = True
    switch = switching.activate(str(models["stain"]), 1, actor="ada", note=None)
    assert switch.event is not None
    assert "earlier answers in project 1" in switch.notes[-1]
    assert version_in_use(desk.settings, desk.database, 1) == switch.model


@pytest.mark.slow
def test_a_retired_version_is_out_of_use(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path]
) -> None:
    assert said(client) == "crack"
    own = read_card(models["crack"] / CARD_FILE).fingerprint
    with pytest.raises(ModelSwitchError, match="INSPECTION_MODEL names it"):
        switching.retire(own[:12], actor="ada", note=None)
    activate(switching, models["stain"])
    with pytest.raises(ModelSwitchError, match="in use for the desk"):
        switching.retire(version(models["stain"]), actor="ada", note=None)
    _, event = switching.retire(own, actor="ada", note="passes rust")
    assert event is not None
    # Not even while the new one is being loaded does it answer any more.
    assert said(client) == "stain"
    with pytest.raises(ModelSwitchError, match="is retired"):
        activate(switching, models["crack"], 1)
    assert desk.models.versions() == (ModelIdentity.of(read_card(models["stain"] / CARD_FILE)),)
    assert switching.reinstate(own, actor="bob", note=None)[1] is not None
    assert activate(switching, models["crack"], 1)


@pytest.mark.slow
def test_taking_back_to_a_retired_model_is_refused_and_the_desk_answers_on(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path]
) -> None:
    assert said(client) == "crack"
    activate(switching, models["stain"])
    switching.retire(read_card(models["crack"] / CARD_FILE).fingerprint, actor="ada", note=None)
    with pytest.raises(ModelSwitchError, match=r"INSPECTION_MODEL names .* desk again, is retired"):
        switching.take_back(None, actor="ada", note=None)
    assert said(client) == "stain"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_project_is_not_given_back_to_a_retired_model_of_the_desk(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], studio: Studio, when: str
) -> None:
    assert said(client) == "crack"
    activate(switching, models["stain"], 1)
    # While INSPECTION_MODEL named another one, the one it names now could be retired.
    setting = desk.settings.model_copy(update={"model": models["good"]})
    other = ModelSwitching(setting, desk.database, studio)  # type: ignore[arg-type]
    look = studio.project

    def retire() -> None:
        other.retire(read_card(models["crack"] / CARD_FILE).fingerprint, actor="ada", note=None)

    def retire_meanwhile(number: int) -> dict[str, Any]:
        retire()
        return look(number)

    if when == "before":
        retire()
    else:
        studio.project = retire_meanwhile  # type: ignore[method-assign]
    with pytest.raises(ModelSwitchError, match=r"project 1 .*is retired"):
        switching.take_back(1, actor="ada", note=None)
    with desk.database.read() as session:
        assert [event.kind for event in model_events.history(session)] == ["activated", "retired"]
    assert said(client) == "stain"


@pytest.mark.slow
@pytest.mark.parametrize("desk", ["postgresql"], indirect=True)
def test_the_desk_cannot_be_given_back_to_a_model_while_that_is_being_retired(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path]
) -> None:
    assert said(client) == "crack"
    activate(switching, models["stain"])
    refused: list[Exception] = []

    def retire() -> None:
        try:
            switching.retire(read_card(models["crack"] / CARD_FILE).fingerprint, actor="ada", note=None)
        except ModelSwitchError as error:
            refused.append(error)

    def waits() -> bool:
        with desk.database.read() as session:
            asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            return bool(session.scalar(text(asked)))

    with desk.database.write() as session:
        model_events.take_back(session, model_events.DESK, actor="bob")
        thread = threading.Thread(target=retire)
        thread.start()
        wait_for(waits)
    thread.join(60)
    assert [str(error) for error in refused if "INSPECTION_MODEL names it" in str(error)]
    assert said(client) == "crack"


@pytest.mark.slow
def test_a_directory_overwritten_while_it_is_read_answers_under_no_other_name(
    desk: Desk, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(models["crack"], tmp_path / "own"))
    locate = ModelStore.locate

    def locate_before_it_is_overwritten(store: ModelStore, fingerprint: str, recorded: Sequence[str]) -> Path:
        found = locate(store, fingerprint, recorded)
        shutil.copytree(models["stain"], found, dirs_exist_ok=True)
        return found

    monkeypatch.setattr(ModelStore, "locate", locate_before_it_is_overwritten)
    opened = desks.open_desk(desk.settings.model_copy(update={"model": own}))
    told = re.escape(f"{own} was overwritten with {version(models['stain'])}")
    with pytest.raises(ModelUnavailableError, match=told):
        opened.models.answering(1)
    opened.database.close()


def test_a_model_that_fails_while_the_database_is_away_ends_no_thread(
    desk: Desk, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    stranger = read_card(models["stain"] / CARD_FILE).fingerprint

    def away() -> None:
        raise DatabaseUnreachableError("the database is away")

    monkeypatch.setattr(desk.database, "read", away)
    with pytest.raises(ModelUnavailableError, match="the database is away"):
        desk.models._pool.wait(stranger, 30)
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "model-loader"])
    assert died == []
    desk.close()


@pytest.mark.slow
def test_a_name_that_is_no_version_lists_what_there_is(
    client: TestClient, switching: ModelSwitching, models: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        SwitchRefusedError, match=rf"no version registered here is \(tiny {version(models['crack'])[5:]}"
    ):
        activate(switching, "steel 2", 1)
    with pytest.raises(SwitchRefusedError, match="no model directory"):
        activate(switching, tmp_path, 1)
    with pytest.raises(ModelSwitchError, match="nothing was activated for project 1"):
        switching.take_back(1, actor="ada", note=None)


@pytest.mark.slow
def test_taking_back_to_a_model_that_is_gone_is_refused(
    desk: Desk, switching: ModelSwitching, models: dict[str, Path], tmp_path: Path
) -> None:
    source = Path(shutil.copytree(models["good"], tmp_path / "first"))
    activate(switching, source, 1)
    activate(switching, models["stain"], 1)
    shutil.rmtree(source)
    shutil.rmtree(store_of(desk.settings).directory(read_card(models["good"] / CARD_FILE).fingerprint))
    with pytest.raises(ModelError, match="activate the version again"):
        switching.take_back(1, actor="ada", note=None)
    assert version_in_use(desk.settings, desk.database, 1).model_version == version(models["stain"])


@pytest.mark.slow
def test_a_lost_database_stops_answers_and_switches_but_not_the_desk(
    client: TestClient, desk: Desk, switching: ModelSwitching, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(client) == "crack"

    def lost(*_: object, **__: object) -> None:
        raise DatabaseUnreachableError("the database does not answer")

    body = {"tasks": [desks.task(1, "0.png")], "project": "1.17", "label_config": desks.CONFIG}
    with monkeypatch.context() as patch:
        patch.setattr(model_events, "choices", lost)
        patch.setattr(model_events, "activate", lost)
        assert client.post("/predict", json=body, auth=AUTH).status_code == 503
        assert announced(client) == version(models["crack"])
        assert client.get("/health").status_code == 200
        with pytest.raises(DatabaseError):
            activate(switching, models["stain"], 1)
    assert said(client) == "crack"
    with desk.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM model_event")).scalar() == 0
