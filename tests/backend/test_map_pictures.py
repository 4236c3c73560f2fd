"""The maps beside a photograph: from the record, for those who have the address, and honest about the rest."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy.orm import Session

from backend import map_pictures, recorded_maps
from backend.app import create_app
from backend.credentials import forget_former, rotate
from backend.decider import Decider
from backend.desk import Desk
from backend.map_addresses import MapAddresses
from backend.pipeline import DecisionPipeline
from backend.recorded_maps import RecordedMapError, recorded_map
from backend.routes import maps as routes
from db import decisions
from db.engine import Database
from db.records import Decision
from inspection_models.classifier import DefectClassifier
from inspection_models.evidence_sheet import EvidenceSheet
from inspection_models.tiling import Tiling
from tests.backend import desks

AUTH = ("inspection", desks.PASSWORD)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


class Files(dict[str, bytes]):
    """What Label Studio has, and what of it was asked for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[str] = []

    def get(self, name: str, *_: Any) -> Any:
        self.asked.append(name)
        return super().get(name)


@pytest.fixture
def files() -> Files:
    return Files({f"{n}.png": desks.png(seed=n) for n in range(3)})


@pytest.fixture
def desk(tmp_path: Path, model: Path, files: Files) -> Iterator[Desk]:
    with desks.image_server(files) as url:
        yield desks.open_desk(desks.settings_for(tmp_path, model, url))


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_app(desk), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is drawn: each sheet, or the sentences of a notice."""
    drawn: list[Any] = []
    for name in ("draw_sheet", "draw_notice"):
        draw = getattr(map_pictures, name)
        monkeypatch.setattr(map_pictures, name, lambda content, draw=draw: drawn.append(content) or draw(content))
    return drawn


def judge(client: TestClient, name: str, project: int = 1) -> None:
    task = {"id": 1, "data": {"image": name}, "project": 1} if "/" in name else desks.task(1, name)
    body = {"tasks": [task], "project": f"{project}.1", "label_config": desks.CONFIG, "params": {}}
    assert client.post("/predict", json=body, auth=AUTH).json()["results"][0]["result"]


def address(desk: Desk, name: str, project: int = 1) -> str:
    signed = MapAddresses("", desk.credentials().map_key).of(project)
    return f"{signed}?image={name if '/' in name else f'/data/upload/{name}'}"


@pytest.mark.slow
def test_a_judged_photograph_is_shown_with_its_maps(client: TestClient, desk: Desk, said: list[Any]) -> None:
    judge(client, "0.png")
    answer = client.get(address(desk, "0.png"))
    assert answer.status_code == 200
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.format == "JPEG" and picture.width > 300 and picture.height > 300
    [sheet] = said
    assert isinstance(sheet, EvidenceSheet)
    assert sheet.evidence[0].label == "crack"
    assert sheet.evidence[0].attribution_map.max() == 1.0
    with desk.database.read() as session:
        [decision] = decisions.find_by_image(session, hashlib.sha256(desks.png(seed=0)).hexdigest())
    assert str(decision.decision_id) in sheet.footnote
    assert [one.label for one in sheet.evidence] == [one.class_name for one in decision.explanations[:2]]


@pytest.mark.slow
def test_the_answer_may_be_shown_elsewhere_but_neither_kept_nor_run(client: TestClient, desk: Desk) -> None:
    headers = client.get(address(desk, "0.png")).headers
    assert headers["content-type"] == "image/jpeg"
    assert headers["x-content-type-options"] == "nosniff"
    assert "no-store" in headers["cache-control"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers


@pytest.mark.slow
def test_only_a_signed_address_is_answered_and_no_password_is_asked_for(client: TestClient, desk: Desk) -> None:
    right = address(desk, "0.png")
    wrong = [
        right.replace("/maps/1/", "/maps/2/"),
        right.replace(".jpg", ".png"),
        right.partition("?")[0],
        "/maps/",
        "/maps/1/x.jpg?image=/data/upload/0.png",
    ]
    for guess in wrong:
        for auth in (None, AUTH):
            answer = client.get(guess, auth=auth)
            assert answer.status_code == 404, guess
            assert "www-authenticate" not in answer.headers
    assert client.post(right).status_code == 405


@pytest.mark.slow
def test_an_address_of_the_former_key_is_answered_until_that_is_forgotten(client: TestClient, desk: Desk) -> None:
    old = address(desk, "0.png")
    rotate(desk.settings)
    new = address(desk, "0.png")
    assert new != old
    assert [client.get(one).status_code for one in (old, new)] == [200, 200]
    forget_former(desk.settings)
    assert [client.get(one).status_code for one in (old, new)] == [404, 200]


@pytest.mark.slow
def test_what_was_not_judged_is_not_even_read(client: TestClient, desk: Desk, files: Files, said: list[Any]) -> None:
    files["/data/local-files/?d=line/1.png"] = desks.png(seed=5)
    judge(client, "0.png", project=2)
    judge(client, "/data/local-files/?d=line/1.png", project=2)
    judge(client, "1.png")
    files.asked.clear()
    link = "/tasks/1/resolve/?fileuri=" + base64.urlsafe_b64encode(b"s3://parts/a.png").decode()
    names = ("0.png", "2.png", "missing.png", "/data/local-files/?d=line/1.png", link, "s3://parts/a.png")
    answers = {client.get(address(desk, name)).content for name in names}
    assert len(answers) == 1
    assert said == [map_pictures._NOTHING] * len(names)
    assert files.asked == []
    # What was judged here and cannot be read any more looks the same as well.
    del files["1.png"]
    assert client.get(address(desk, "1.png")).content in answers
    assert files.asked == ["1.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("in_task", "in_page"),
    [
        ("/data/local-files/?d=line/1.png", "/data/local-files/?d=line/1.png"),
        ("/data/upload/T\u00f6pfe 1.png", "/data/upload/T%C3%B6pfe%201.png"),
    ],
)
def test_an_image_is_found_at_its_address_and_not_at_its_neighbours(
    client: TestClient, desk: Desk, files: Files, said: list[Any], in_task: str, in_page: str
) -> None:
    for name in (in_page, in_page.replace("1.png", "2.png")):
        files[name.removeprefix("/data/upload/")] = desks.png(seed=1)
    judge(client, in_task)
    client.get(address(desk, in_page))
    client.get(address(desk, in_page.replace("1.png", "2.png")))
    assert isinstance(said[0], EvidenceSheet) and said[1:] == [map_pictures._NOTHING]


@pytest.mark.slow
def test_an_object_in_a_bucket_is_read_for_the_task_that_it_was_judged_for(
    client: TestClient, desk: Desk, files: Files, said: list[Any]
) -> None:
    code = base64.urlsafe_b64encode(b"s3://parts/a.png").decode()
    for task in (1, 9):
        files[f"/tasks/{task}/resolve/?fileuri={quote(code, safe='')}"] = desks.png(seed=1)
    judge(client, "s3://parts/a.png")
    files.asked.clear()
    client.get(address(desk, f"http://elsewhere.example/tasks/9/presign/?fileuri={code}"))
    assert isinstance(said[0], EvidenceSheet)
    assert [one.partition("?")[0] for one in files.asked] == ["/tasks/1/resolve/"]


@pytest.mark.slow
def test_who_comes_while_too_many_wait_is_sent_away_and_may_come_again(
    client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Semaphore(0), threading.Event()

    def slow(*_: Any) -> bytes:
        begun.release()
        assert may_end.wait(60)
        return b"picture"

    monkeypatch.setattr(desk.map_pictures, "picture", slow)
    monkeypatch.setattr(routes, "_MOST_WAITING", 1)
    with ThreadPoolExecutor(8) as pool:
        pending = {pool.submit(client.get, address(desk, "0.png")) for _ in range(8)}
        # Two are drawn and one waits, so five are sent away before any of those may go on.
        refused = []
        for answered in as_completed(pending, timeout=60):
            refused.append(answered.result())
            if len(refused) == 5:
                break
        assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "5")}
        may_end.set()
        codes = sorted(one.result().status_code for one in pending)
    assert codes == [200] * 3 + [503] * 5
    assert client.get(address(desk, "0.png")).content == b"picture"


def test_a_map_waits_less_long_for_its_photograph_than_a_decision(desk: Desk) -> None:
    assert desk.map_pictures._images._total_seconds < desk.predictions._images._total_seconds


@pytest.mark.slow
def test_a_photograph_that_was_replaced_is_not_shown_with_the_former_map(
    client: TestClient, desk: Desk, files: Files, said: list[Any]
) -> None:
    judge(client, "0.png")
    files["0.png"] = files["1.png"]
    client.get(address(desk, "0.png"))
    assert said == [map_pictures._NOTHING]


@pytest.mark.slow
@pytest.mark.parametrize("image", ["gone.png", "../../etc/passwd", "0.png%23x?image=y", "%00", "\u00e9" * 3000])
def test_any_address_of_an_image_gets_a_picture(client: TestClient, desk: Desk, said: list[Any], image: str) -> None:
    judge(client, "0.png")
    answer = client.get(address(desk, image))
    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
    assert said == [map_pictures._NOTHING]


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff\xe0 torn"])
def test_a_photograph_that_cannot_be_decoded_is_told_in_the_picture(
    client: TestClient, desk: Desk, said: list[Any], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """As one that was judged by a release with other bounds or formats."""
    judge(client, "0.png")
    read = desk.map_pictures._images.fetch
    monkeypatch.setattr(
        desk.map_pictures._images, "fetch", lambda *args, **names: replace(read(*args, **names), data=content)
    )
    assert client.get(address(desk, "0.png")).status_code == 200
    assert len(said) == 1 and "cannot be drawn" in said[0][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "image",
    ["http://169.254.169.254/latest", "http://elsewhere.example/a.png", "file:///etc/passwd", "javascript:1", ""],
)
def test_no_other_place_is_asked(
    client: TestClient, desk: Desk, said: list[Any], monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    judge(client, "0.png")
    asked: list[str] = []
    read = desk.map_pictures._images.fetch
    monkeypatch.setattr(
        desk.map_pictures._images, "fetch", lambda place, **names: asked.append(place) or read(place, **names)
    )
    assert client.get(f"{address(desk, '').partition('=')[0]}={image}").status_code == 200
    assert said == [map_pictures._NOTHING]
    assert asked == []
    client.get(address(desk, "0.png"))
    assert asked == ["/data/upload/0.png"]


@pytest.mark.slow
def test_the_map_is_that_of_the_record_to_the_bit(model: Path, database: Database) -> None:
    pipeline = DecisionPipeline(DefectClassifier.load(model))
    picture = desks.png(70, 40, seed=5)
    decision = Decider(pipeline, database).decide(picture)
    explained = pipeline.explain(picture).explanations
    for recorded, computed in zip(decision.explanations, explained, strict=True):
        found = recorded_map(decision, recorded, pipeline.classifier.card)
        placement = pipeline.classifier.preprocessing.placement((40, 70))
        assert (found == placement.content_of(np.asarray(computed.attribution.map[0]))).all()


@pytest.mark.slow
def test_a_large_image_is_stitched_again_to_the_bit(tmp_path: Path, database: Database) -> None:
    directory = desks.write_model(tmp_path / "tiled", tiling=Tiling(size=(64, 64), overlap=16))
    pipeline = DecisionPipeline(DefectClassifier.load(directory))
    picture = desks.png(150, 100, seed=5)
    decision = Decider(pipeline, database).decide(picture)
    computed = pipeline.explain(picture).explanations
    assert computed[0].tiles is not None
    for recorded, one in zip(decision.explanations, computed, strict=True):
        assert (recorded_map(decision, recorded, pipeline.classifier.card) == one.attribution_map).all()


@pytest.mark.slow
def test_another_map_than_was_recorded_is_not_shown(
    client: TestClient, desk: Desk, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(client, "0.png")
    render = recorded_maps.render_map

    def turned(*arguments: Any) -> Any:
        maps, blocks = render(*arguments)
        return maps[:, ::-1], blocks

    monkeypatch.setattr(recorded_maps, "render_map", turned)
    assert client.get(address(desk, "0.png")).status_code == 200
    assert len(said) == 1 and "cannot be drawn" in said[0][0]
    with pytest.raises(RecordedMapError, match="does not come out as recorded"), desk.database.read() as session:
        [decision] = decisions.find_by_image(session, hashlib.sha256(desks.png(seed=0)).hexdigest())
        recorded_map(decision, decision.explanations[0], DefectClassifier.load(desk.settings.resolved_model).card)


def _without_score(decision: Decision) -> Decision:
    return replace(decision, scores={"good": 0.5, "stain": 0.4, "dent": 0.1})


def _without_gate(decision: Decision) -> Decision:
    return replace(decision, settings=replace(decision.settings, explanation={}))


def _of_an_unknown_gate(decision: Decision) -> Decision:
    return replace(decision, settings=replace(decision.settings, explanation={"gate": "garden"}))


def _truncated(decision: Decision) -> Decision:
    [first, *others] = decision.explanations
    blocks = (replace(first.visualization_maps[0], grid=b"\0" * 4), *first.visualization_maps[1:])
    return replace(decision, explanations=(replace(first, visualization_maps=blocks), *others))


def _of_no_tiles(decision: Decision) -> Decision:
    [first, *others] = decision.explanations
    return replace(decision, explanations=(replace(first, tiles={"shown": []}), *others))


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [_without_score, _without_gate, _of_an_unknown_gate, _truncated, _of_no_tiles])
def test_a_record_that_gives_no_map_is_told_in_the_picture(
    client: TestClient,
    desk: Desk,
    said: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    damaged: Callable[[Decision], Decision],
) -> None:
    judge(client, "0.png")
    find = decisions.find

    def found(session: Session, decision_id: UUID) -> Decision | None:
        decision = find(session, decision_id)
        return None if decision is None else damaged(decision)

    monkeypatch.setattr(decisions, "find", found)
    assert client.get(address(desk, "0.png")).status_code == 200
    assert len(said) == 1 and "cannot be drawn" in said[0][0]


@pytest.mark.slow
def test_a_good_part_says_that_nothing_was_explained(tmp_path: Path, files: Files, said: list[Any]) -> None:
    sure = desks.write_model(tmp_path / "good", favourite="good", certainty=9.0)
    with desks.image_server(files) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path / "desk", sure, url))
        with TestClient(create_app(desk)) as client:
            judge(client, "0.png")
            client.get(address(desk, "0.png"))
    [sheet] = said
    assert sheet.evidence == ()
    assert sheet.remarks[0].startswith("good ")
    assert "no defect is probable enough" in sheet.remarks[1]
    assert sheet.remarks[2].endswith("  below 0.001; no map.")
