"""The HTTP service as Label Studio meets it: who is let in, what is answered, what is kept when something fails."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from backend.app import create_app
from backend.credentials import WEBHOOK_HEADER
from backend.desk import Desk
from db import decisions, failures, jobs, predictions, reviews
from db.records import NewPrediction
from db.schema import JobRow
from inspection_models.classifier import DefectClassifier
from inspection_models.decision_lines import FamiliaritySettings, ReviewLines
from inspection_models.familiarity import Familiarity
from inspection_models.images import decode_image
from inspection_models.model_card import Thresholds
from tests.backend import desks

AUTH = ("inspection", desks.PASSWORD)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def files() -> dict[str, bytes]:
    return {f"{n}.png": desks.png(seed=n) for n in range(3)}


@pytest.fixture
def desk(tmp_path: Path, model: Path, files: dict[str, bytes]) -> Iterator[Desk]:
    with desks.image_server(files) as url:
        yield desks.open_desk(desks.settings_for(tmp_path, model, url))


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_app(desk), raise_server_exceptions=False) as client:
        yield client


def predict(client: TestClient, tasks: list[dict[str, object]], config: str = desks.CONFIG) -> list[dict]:
    body = {"tasks": tasks, "project": "1.1795377200", "label_config": config, "params": {}}
    response = client.post("/predict", json=body, auth=AUTH)
    assert response.status_code == 200, response.text
    return response.json()["results"]


WRONG: tuple[str | bytes | None, ...] = (
    None,
    "Bearer x",
    "Basic",
    "Basic !!!",
    "Basic " + base64.b64encode(b"inspection:wrong").decode(),
    "Basic " + base64.b64encode(f"other:{desks.PASSWORD}".encode()).decode(),
    "Basic w6TDpA==",
    b"Basic \xe9",
    b"\xff\xfe",
    "Basic " + "A" * 60_000,
)


@pytest.mark.slow
def test_no_entry_without_the_right_credentials(client: TestClient) -> None:
    bodies = {"/predict": {"tasks": [], "label_config": ""}, "/webhook": {"action": "X"}, "/setup": {}, "/versions": {}}
    for path, body in bodies.items():
        for header in WRONG:
            response = client.post(path, json=body, headers={"Authorization": header} if header else {})
            assert response.status_code == 401, (path, header)
            assert "inspection connect" in response.json()["detail"]
    assert client.post("/webhook", json=bodies["/webhook"], headers={WEBHOOK_HEADER: "wrong"}).status_code == 401


@pytest.mark.slow
def test_probes_need_no_credentials(client: TestClient, desk: Desk) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/health").json() == {"status": "UP", "model_version": desk.models.announced(None).model_version}
    wait_for(lambda: client.get("/readyz").status_code == 200)


@pytest.mark.slow
def test_setup_and_predictions_say_the_same_version(client: TestClient) -> None:
    answer = client.post("/setup", json={"project": "1.1", "schema": desks.CONFIG}, auth=AUTH)
    version = answer.json()["model_version"]
    results = predict(client, [desks.task(1, "0.png")])
    assert results[0]["model_version"] == version
    assert client.get("/versions", auth=AUTH).json()["versions"] == [version]


def test_a_task_is_answered_and_the_decision_with_its_evidence_recorded(client: TestClient, desk: Desk) -> None:
    [answer] = predict(client, [desks.task(7, "0.png", part="P-77")])
    choice, *regions = answer["result"]
    assert choice["value"] == {"choices": ["Crack"]}
    assert choice["from_name"] == "verdict"
    assert regions
    assert all(r["type"] == "polygonlabels" and r["value"]["polygonlabels"] == ["Crack"] for r in regions)
    with desk.database.read() as session:
        sent = predictions.latest_for_task(session, instance=desk.settings.label_studio_url, task_id=7)
        assert sent is not None
        decision = decisions.find(session, sent.decision_id)
    assert decision is not None
    assert (decision.verdict, decision.labels) == ("defect", ("crack",))
    assert sent.result == answer["result"]
    assert sent.part_serial == "P-77"
    assert str(decision.decision_id) in regions[0]["meta"]["text"][0]
    maps = decision.explanations[0].visualization_maps
    assert len(maps) >= 2
    assert all(len(one.grid) == 4 * one.height * one.width for one in maps)
    assert set(decision.scores) == set(desks.CLASSES)
    assert sum(decision.scores.values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_answering_again_computes_and_records_nothing_new(client: TestClient, desk: Desk) -> None:
    first = predict(client, [desks.task(1, "0.png")])
    again = predict(client, [desks.task(1, "0.png"), desks.task(2, "0.png")])
    assert again[0] == first[0]
    assert again[1]["result"] == first[0]["result"]
    with desk.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM decision")).scalar() == 1
        assert session.execute(text("SELECT count(*) FROM prediction")).scalar() == 2


@pytest.mark.slow
def test_one_bad_image_spoils_no_other_and_its_reason_is_kept(
    client: TestClient, desk: Desk, files: dict[str, bytes]
) -> None:
    files["broken.png"] = desks.png()[:60]
    tasks = [desks.task(1, "0.png"), desks.task(2, "gone.png"), desks.task(3, "broken.png"), desks.task(4, "1.png")]
    results = predict(client, tasks)
    assert [bool(r) for r in results] == [True, False, False, True]
    with desk.database.read() as session:
        kept = {f.task_id: f for f in failures.recent(session, kind="predict")}
    assert set(kept) == {2, 3}
    assert "gone.png" in kept[2].reason
    assert kept[3].detail == "ImageError"


@pytest.mark.slow
def test_a_configuration_without_the_classes_is_refused_with_reasons(client: TestClient, desk: Desk) -> None:
    config = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="ok"/></Choices></View>'
    assert predict(client, [desks.task(1, "0.png")], config) == [{}]
    with desk.database.read() as session:
        [failure] = failures.recent(session)
    assert "crack" in failure.reason
    assert "Choice" in failure.reason
    assert desk.bind_anew(1, config, desk.models.announced(1))


@pytest.mark.slow
def test_hostile_configuration_is_a_clear_400(client: TestClient) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>'
    body = {"tasks": [], "project": "1", "label_config": bomb}
    response = client.post("/predict", json=body, auth=AUTH)
    assert response.status_code == 400
    assert "DOCTYPE" in response.json()["detail"]


@pytest.mark.slow
def test_credentials_come_before_anything_of_the_body(client: TestClient) -> None:
    for path in ("/predict", "/setup", "/webhook"):
        assert client.post(path, content=b"{" * 100).status_code == 401
    assert client.get("/openapi.json").status_code == 401
    assert client.get("/nowhere").status_code == 401


@pytest.mark.slow
def test_what_nobody_foresaw_costs_one_image_only_and_is_kept(
    client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend import pipeline

    asked = []

    def sometimes(*arguments: object, **options: object) -> object:
        asked.append(1)
        if len(asked) == 2:
            raise RuntimeError("out of memory")
        return original(*arguments, **options)

    original = pipeline.attribute
    monkeypatch.setattr(pipeline, "attribute", sometimes)
    monkeypatch.setattr(pipeline, "_WORTH_EXPLAINING", 2.0)
    results = predict(client, [desks.task(n, f"{n}.png") for n in range(3)])
    assert [bool(r) for r in results] == [True, False, True]
    with desk.database.read() as session:
        [failure] = failures.recent(session, kind="predict")
    assert (failure.task_id, failure.detail) == (1, "RuntimeError")
    assert "out of memory" in failure.reason


def test_a_webhook_that_cannot_be_read_leaves_a_trace(client: TestClient, desk: Desk) -> None:
    for body in (b"{", b"[]", b'{"no": "action"}'):
        response = client.post("/webhook", content=body, headers={WEBHOOK_HEADER: desks.TOKEN})
        assert response.json() == {"status": "ignored"}
    odd = {"action": "ANNOTATION_CREATED", "annotation": {"id": "x", "result": 5}, "project": {"id": 1}}
    none = {"action": "ANNOTATIONS_CREATED", "annotation": []}
    for event in (odd, none):
        send(client, event)
    wait_for(lambda: queue_is_empty(desk))
    with desk.database.read() as session:
        kept = failures.recent(session, kind="webhook")
    assert len(kept) == 5
    assert {"JobRefusedError" in one.reason for one in kept} == {True, False}


@pytest.mark.slow
def test_tokens_in_an_event_are_not_kept(client: TestClient, desk: Desk) -> None:
    event = {"action": "ANNOTATION_CREATED", "annotation": [], "project": {"id": 1, "token": "s3cret", "x": {"y": 1}}}
    send(client, event)
    wait_for(lambda: queue_is_empty(desk))
    with desk.database.read() as session:
        [kept] = session.scalars(select(JobRow.payload).where(JobRow.kind == "webhook"))
    assert json.loads(kept)["action"] == "ANNOTATION_CREATED"
    assert "s3cret" not in kept


@pytest.mark.slow
def test_an_impossible_time_does_not_lose_the_review(client: TestClient, desk: Desk) -> None:
    [answer] = predict(client, [desks.task(1, "0.png")])
    send(client, webhook("ANNOTATION_CREATED", answer, lead_time=-1.0))
    wait_for(lambda: reviews_of(desk))
    assert reviews_of(desk)[0].lead_time_s is None


@pytest.mark.slow
def test_a_deletion_that_overtook_its_annotation_finds_it(client: TestClient, desk: Desk) -> None:
    [answer] = predict(client, [desks.task(1, "0.png")])
    send(client, webhook("ANNOTATIONS_DELETED", answer))
    send(client, webhook("ANNOTATION_CREATED", answer))
    wait_for(lambda: len(reviews_of(desk)) == 2)
    assert len({r.decision_id for r in reviews_of(desk)}) == 1


@pytest.mark.slow
def test_a_defect_drawn_on_a_part_called_good_is_missed(tmp_path: Path, files: dict[str, bytes]) -> None:
    model = desks.write_model(tmp_path / "good", favourite="good")
    with desks.image_server(files) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path, model, url))
        with TestClient(create_app(desk)) as client:
            [answer] = predict(client, [desks.task(1, "0.png")])
            assert [item["type"] for item in answer["result"]] == ["choices"]
            body = webhook("ANNOTATION_CREATED", answer)
            drawn = {
                "id": "mine", "from_name": "where", "to_name": "img", "type": "polygonlabels",
                "original_width": 48, "original_height": 32, "image_rotation": 0,
                "value": {"points": [[10, 10], [40, 10], [40, 40]], "polygonlabels": ["Crack"], "closed": True},
            }  # fmt: skip
            body["annotation"]["result"] = [*answer["result"], drawn]
            send(client, body)
            wait_for(lambda: reviews_of(desk))
            [review] = reviews_of(desk)
            assert (review.outcome, review.label_final) == ("missed", "crack")


@pytest.mark.slow
def test_a_part_left_to_the_inspector_is_shown_without_a_tick_and_their_answer_is_their_decision(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    lines = Thresholds(decision=0.5, review=ReviewLines(good_below=0.0, defect_from=1.0))
    model = desks.write_model(tmp_path / "unsure", thresholds=lines)
    with desks.image_server(files) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path, model, url))
        with TestClient(create_app(desk)) as client:
            [answer] = predict(client, [desks.task(1, "0.png")])
            assert answer["score"] == 0.0
            assert {item["type"] for item in answer["result"]} == {"polygonlabels"}
            assert all("left to you" in item["meta"]["text"][0] for item in answer["result"])
            body = webhook("ANNOTATION_CREATED", answer)
            ticked = {"id": "c", "from_name": "verdict", "to_name": "img", "type": "choices"}
            for number, choice in enumerate(("Good", "Stain", None)):
                said = [{**ticked, "value": {"choices": [choice]}}] if choice else []
                annotation = {**body["annotation"], "id": number, "result": [*said, *answer["result"]]}
                send(client, {**body, "annotation": annotation})
            wait_for(lambda: len(reviews_of(desk)) == 3)
            found = {one.annotation_id: one for one in reviews_of(desk)}
            told = [(found[n].outcome, found[n].label_predicted, found[n].labels_final) for n in range(3)]
            assert told == [("decided", None, ("good",)), ("decided", None, ("stain",)), ("skipped", None, None)]
            with desk.database.read() as session:
                decision = decisions.find(session, found[0].decision_id)
            assert decision is not None
            assert (decision.verdict, decision.labels) == ("review", ("crack",))


@pytest.mark.slow
def test_several_decided_classes_are_said_drawn_and_compared(tmp_path: Path, files: dict[str, bytes]) -> None:
    lines = Thresholds(decision=0.001, classes={"stain": 0.001})
    model = desks.write_model(tmp_path / "several", activation="sigmoid", thresholds=lines)
    config = desks.CONFIG.replace('<Choices name="verdict"', '<Choices name="verdict" choice="multiple"')
    with desks.image_server(files) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path, model, url))
        with TestClient(create_app(desk)) as client:
            [answer] = predict(client, [desks.task(1, "0.png")], config)
            choice, *regions = answer["result"]
            assert choice["value"]["choices"] == ["Crack", "Stain"]
            assert {item["value"]["polygonlabels"][0] for item in regions} == {"Crack", "Stain"}
            [single] = predict(client, [desks.task(1, "0.png")])
            assert single["result"][0]["value"]["choices"] == ["Crack"]
            assert single["result"][1:] == [{**item, "meta": item["meta"]} for item in regions]
            # Of one choice that can be ticked it is told which others were decided.
            [sentence] = desk.bind_anew(1, desks.CONFIG, desk.models.announced(1))
            assert 'choice="multiple"' in sentence
            assert desk.bind_anew(1, config, desk.models.announced(1)) == ()
            body = webhook("ANNOTATION_CREATED", answer)
            body["project"]["label_config"] = config
            send(client, body)
            wait_for(lambda: reviews_of(desk))
            [review] = reviews_of(desk)
            assert (review.outcome, review.label_final, review.labels_final) == ("accepted", None, ("crack", "stain"))


def test_a_model_that_cannot_be_loaded_is_not_ready(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr("inspection_models.classifier.DefectClassifier.load", broken)
    desk = desks.open_desk(desks.settings_for(tmp_path, model, "http://127.0.0.1:1"))
    with TestClient(create_app(desk)) as client:
        wait_for(lambda: "still" not in client.get("/readyz", auth=AUTH).text)
        assert client.get("/readyz").status_code == 503
        assert client.get("/readyz").json() == {"status": "not ready"}
        assert "libGL" in client.get("/readyz", auth=AUTH).text
        body = {"tasks": [desks.task(1, "0.png")], "project": "1", "label_config": desks.CONFIG}
        refused = client.post("/predict", json=body, auth=AUTH)
        assert refused.status_code == 503
        assert "inspection doctor" in refused.json()["detail"]
        assert "libGL" not in refused.text


def test_nonsense_is_a_clear_422_without_traceback(client: TestClient) -> None:
    response = client.post("/predict", content=b"{", auth=AUTH)
    assert response.status_code == 422
    response = client.post("/predict", json={"tasks": "none"}, auth=AUTH)
    assert response.status_code == 422
    assert "tasks" in response.text
    assert "Traceback" not in response.text


def test_internal_errors_tell_an_incident_and_no_traceback(client: TestClient, desk: Desk) -> None:
    desk.predictions.answer = lambda *_: 1 / 0  # type: ignore[method-assign]
    body = {"tasks": [], "project": "1", "label_config": desks.CONFIG}
    response = client.post("/predict", json=body, auth=AUTH)
    assert response.status_code == 500
    assert "incident" in response.json()["detail"]
    assert "ZeroDivision" not in response.text


def test_too_large_a_body_is_refused_whether_announced_or_not(tmp_path: Path, model: Path) -> None:
    settings = desks.settings_for(tmp_path, model, "http://127.0.0.1:1").model_copy(update={"max_request_bytes": 2048})
    with TestClient(create_app(desks.open_desk(settings))) as client:
        big = b'{"action":"' + b"x" * 4000 + b'"}'
        assert client.post("/webhook", content=big, auth=AUTH).status_code == 413
        assert client.post("/webhook", content=iter([big[:2000], big[2000:]]), auth=AUTH).status_code == 413


@pytest.mark.slow
def test_health_and_setup_answer_while_a_prediction_is_under_way(client: TestClient, desk: Desk) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(*_: object) -> list[dict]:
        started.set()
        assert release.wait(30)
        return []

    desk.predictions.answer = slow  # type: ignore[method-assign]
    body = {"tasks": [], "project": "1", "label_config": desks.CONFIG}
    busy = [threading.Thread(target=lambda: client.post("/predict", json=body, auth=AUTH)) for _ in range(3)]
    for thread in busy:
        thread.start()
    assert started.wait(30)
    assert client.get("/health").status_code == 200
    assert client.post("/setup", json={"project": "1.1", "schema": desks.CONFIG}, auth=AUTH).status_code == 200
    send(client, webhook("ANNOTATION_CREATED", {"result": [], "model_version": "x"}, task_id=99))
    # Had one of these waited for the predictions, the predictions would have given up by now.
    assert all(thread.is_alive() for thread in busy)
    release.set()
    for thread in busy:
        thread.join()


def webhook(action: str, answer: dict, *, task_id: int = 1, annotation_id: int = 5, **fields: object) -> dict:
    annotation = {
        "id": annotation_id,
        "result": answer["result"],
        "task": task_id,
        "completed_by": 3,
        "created_at": "2099-01-01T00:00:00Z",
        "updated_at": "2099-01-01T00:00:01Z",
        "parent_prediction": 11,
        "prediction": {"id": 11, "result": answer["result"], "model_version": answer["model_version"]},
        "lead_time": 4.5,
        **fields,
    }
    project = {"id": 1, "label_config": desks.CONFIG, "title": "Panels"}
    if action == "ANNOTATIONS_DELETED":
        return {"action": action, "annotations": [{"id": annotation_id}], "project": project}
    return {"action": action, "annotation": annotation, "project": project, "task": {"id": task_id, "data": {}}}


def send(client: TestClient, body: dict) -> None:
    response = client.post("/webhook", json=body, headers={WEBHOOK_HEADER: desks.TOKEN})
    assert response.status_code == 202
    assert response.json() == {"status": "queued"}


def reviews_of(desk: Desk, task_id: int = 1) -> list:
    with desk.database.read() as session:
        return list(reviews.for_task(session, instance=desk.settings.label_studio_url, task_id=task_id))


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_an_untouched_prediction_becomes_an_accepted_review(client: TestClient, desk: Desk) -> None:
    [answer] = predict(client, [desks.task(1, "0.png")])
    send(client, webhook("ANNOTATION_CREATED", answer))
    wait_for(lambda: reviews_of(desk))
    [review] = reviews_of(desk)
    assert (review.outcome, review.label_predicted, review.label_final) == ("accepted", "crack", "crack")
    assert review.lead_time_s == 4.5
    assert review.actor_id is not None
    assert review.decision_id is not None
    assert review.model_output_shown is True


@pytest.mark.slow
def test_of_two_versions_that_said_the_same_the_one_shown_is_judged(client: TestClient, desk: Desk) -> None:
    predict(client, [desks.task(1, "0.png")])
    with desk.database.write() as session:
        sent = predictions.latest_for_task(session, instance=desk.settings.label_studio_url, task_id=1)
        assert sent is not None
        fields = {name: getattr(sent, name) for name in NewPrediction.__dataclass_fields__}
        shown, _ = (
            predictions.record(session, NewPrediction(**fields | {"model_version": name, "result": []}))
            for name in ("tiny earlier", "tiny later")
        )
    send(client, webhook("ANNOTATION_CREATED", {"result": [], "model_version": "tiny earlier"}))
    wait_for(lambda: reviews_of(desk))
    assert [review.prediction_id for review in reviews_of(desk)] == [shown.id]


@pytest.mark.slow
def test_what_is_unlike_all_known_images_is_left_to_the_inspector_and_recorded_as_such(
    tmp_path: Path, model: Path
) -> None:
    plain = DefectClassifier.load(model)
    known = Familiarity.of(np.random.default_rng(0).normal(size=(50, 512)).astype(np.float32))
    card = plain.card.with_settings(familiarity=FamiliaritySettings(known.sha256, 0.05, 120))
    DefectClassifier(plain.network, card, familiarity=known).save(tmp_path / "familiar")
    with desks.image_server({"0.png": desks.png(seed=0)}) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path / "data", tmp_path / "familiar", url))
        with TestClient(create_app(desk)) as client:
            [answer] = predict(client, [desks.task(1, "0.png")])
            with desk.database.read() as session:
                [found] = decisions.find_by_image(session, hashlib.sha256(desks.png(seed=0)).hexdigest())
    assert (found.verdict, found.unlike_from, found.is_unlike) == ("review", 0.05, True)
    seen = DefectClassifier.load(tmp_path / "familiar").predict([decode_image(desks.png(seed=0)).pixels])[0]
    assert found.distance == seen.distance
    assert answer["score"] == 0.0
    assert {item["type"] for item in answer["result"]} == {"polygonlabels"}
    assert all("unlike what the model was trained on: crack" in item["meta"]["text"][0] for item in answer["result"])


@pytest.mark.slow
def test_a_moved_corner_is_adjusted_another_class_relabelled_good_rejected(client: TestClient, desk: Desk) -> None:
    [answer] = predict(client, [desks.task(1, "0.png")])
    moved = json.loads(json.dumps(answer))
    points = moved["result"][1]["value"]["points"]
    points[0] = [min(100.0, points[0][0] + 9), min(100.0, points[0][1] + 9)]
    stain = json.loads(json.dumps(answer))
    stain["result"][0]["value"]["choices"] = ["Stain"]
    for region in stain["result"][1:]:
        region["value"]["polygonlabels"] = ["Stain"]
    good = json.loads(json.dumps(answer))
    good["result"] = [{**good["result"][0], "value": {"choices": ["Good"]}}]
    for number, edited in enumerate((moved, stain, good)):
        body = webhook("ANNOTATION_UPDATED", answer, updated_at=f"2099-01-01T00:00:1{number}Z")
        body["annotation"]["result"] = edited["result"]
        send(client, body)
    send(client, webhook("ANNOTATION_UPDATED", answer, was_cancelled=True, updated_at="2099-01-01T00:00:20Z"))
    wait_for(lambda: len(reviews_of(desk)) == 4)
    assert sorted(r.outcome for r in reviews_of(desk)) == ["adjusted", "rejected", "relabelled", "skipped"]
    adjusted = next(r for r in reviews_of(desk) if r.outcome == "adjusted")
    assert 0 < adjusted.mean_iou < 1
    assert [c["change"] for c in adjusted.region_changes].count("moved") == 1


@pytest.mark.slow
def test_webhooks_doubled_and_late_make_one_review_each(client: TestClient, desk: Desk) -> None:
    [answer] = predict(client, [desks.task(1, "0.png")])
    later = webhook("ANNOTATION_UPDATED", answer, updated_at="2099-01-01T00:00:09Z")
    for body in (later, webhook("ANNOTATION_CREATED", answer), later, webhook("ANNOTATION_CREATED", answer)):
        send(client, body)
    wait_for(lambda: queue_is_empty(desk))
    assert len(reviews_of(desk)) == 2
    send(client, webhook("ANNOTATIONS_DELETED", answer))
    wait_for(lambda: len(reviews_of(desk)) == 3)
    deleted = next(r for r in reviews_of(desk) if r.action == "deleted")
    assert deleted.outcome is None
    assert deleted.decision_id == reviews_of(desk)[0].decision_id


def queue_is_empty(desk: Desk) -> bool:
    with desk.database.read() as session:
        depth = jobs.depth(session, kind="webhook")
    return depth.queued + depth.running == 0


@pytest.mark.slow
def test_an_annotation_on_an_unknown_task_is_kept_without_outcome(client: TestClient, desk: Desk) -> None:
    send(client, webhook("ANNOTATION_CREATED", {"result": [], "model_version": "other"}, task_id=99))
    wait_for(lambda: reviews_of(desk, 99))
    [review] = reviews_of(desk, 99)
    assert (review.outcome, review.decision_id) == (None, None)


@pytest.mark.slow
def test_an_event_that_cannot_be_understood_is_kept_as_failed_with_its_reason(client: TestClient, desk: Desk) -> None:
    [answer] = predict(client, [desks.task(1, "0.png")])
    body = webhook("ANNOTATION_CREATED", answer)
    body["project"]["label_config"] = "<View"
    send(client, body)
    wait_for(lambda: queue_is_empty(desk))
    with desk.database.read() as session:
        [job] = jobs.failed(session, kind="webhook", limit=9)
        [failure] = failures.recent(session, kind="webhook")
    assert "labeling configuration" in str(job.error)
    assert "labeling configuration" in failure.reason


@pytest.mark.slow
def test_what_a_dead_process_left_is_worked_off_by_the_next(
    tmp_path: Path, model: Path, files: dict[str, bytes], database_url: str
) -> None:
    with desks.image_server(files) as url:
        settings = desks.settings_for(tmp_path, model, url, database_url)
        first = desks.open_desk(settings, work_off_queue=False)
        with TestClient(create_app(first)) as client:
            [answer] = predict(client, [desks.task(1, "0.png")])
            send(client, webhook("ANNOTATION_CREATED", answer))
        assert reviews_of(desks.open_desk(settings)) == []
        second = desks.open_desk(settings)
        with TestClient(create_app(second)):
            wait_for(lambda: reviews_of(second))


@pytest.mark.slow
def test_predictions_do_not_depend_on_an_earlier_setup_or_process(
    tmp_path: Path, model: Path, files: dict[str, bytes], database_url: str
) -> None:
    answers = []
    with desks.image_server(files) as url:
        for _ in range(2):
            settings = desks.settings_for(tmp_path, model, url, database_url)
            with TestClient(create_app(desks.open_desk(settings))) as client:
                answers.append(predict(client, [desks.task(1, "0.png")]))
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_what_a_blind_project_shows_nobody_is_recorded_as_not_seen(client: TestClient, desk: Desk) -> None:
    [answer] = predict(client, [desks.task(1, "0.png")])
    states = (
        # the annotation, whether it came from a prediction, whether the project shows them, and what is known then
        (5, None, False, False),
        (5, None, True, None),
        (5, None, False, None),
        (6, 11, False, True),
        (7, None, None, None),
        (7, None, False, None),
        (8, None, False, False),
        (8, None, False, False),
    )
    for count, (number, parent, shows, known) in enumerate(states, start=1):
        event = webhook(
            "ANNOTATION_UPDATED",
            answer,
            annotation_id=number,
            parent_prediction=parent,
            updated_at=f"2099-01-01T00:00:{count:02}Z",
        )
        event["project"]["show_collab_predictions"] = shows
        send(client, event)
        wait_for(lambda count=count: len(reviews_of(desk)) == count)
        latest = max(reviews_of(desk), key=lambda one: one.annotation_updated_at)
        assert (latest.annotation_id, latest.model_output_shown) == (number, known)
        assert latest.outcome == "accepted"


@pytest.mark.slow
def test_a_blind_configuration_keeps_the_answer_in_the_record_alone(client: TestClient, desk: Desk) -> None:
    [open_answer] = predict(client, [desks.task(1, "0.png")])
    blind = desks.CONFIG.replace("<View>", '<View className="wide inspection-blind">', 1)
    [answer] = predict(client, [desks.task(1, "0.png")], blind)
    assert (answer["result"], answer["score"]) == ([], 0)
    assert answer["model_version"] == open_answer["model_version"]
    with desk.database.read() as session:
        kept = predictions.latest_for_task(session, instance=desk.settings.label_studio_url, task_id=1)
    assert kept is not None
    assert list(kept.result) == open_answer["result"]
    states = (
        # what the prediction said that the annotation was begun with, None where it was begun with none
        (5, [], False),
        (6, None, False),
        (7, open_answer["result"], True),
    )
    for count, (number, begun_with, was_shown) in enumerate(states, start=1):
        event = webhook("ANNOTATION_CREATED", open_answer, annotation_id=number)
        event["project"]["label_config"] = blind
        event["annotation"]["prediction"] = {**event["annotation"]["prediction"], "result": begun_with}
        if begun_with is None:
            event["annotation"] |= {"parent_prediction": None, "prediction": None}
        send(client, event)
        wait_for(lambda count=count: len(reviews_of(desk)) == count)
        review = next(one for one in reviews_of(desk) if one.annotation_id == number)
        assert (review.outcome, review.model_output_shown) == ("accepted", was_shown)
