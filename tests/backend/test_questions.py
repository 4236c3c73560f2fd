"""Questions of the smart tool: answered from the record, within the place, and nothing recorded of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import text

from backend import pipeline as pipelines
from backend.app import create_app
from backend.desk import Desk
from backend.label_studio.asking import Question, QuestionError, read_question
from backend.label_studio.binding import bind
from backend.label_studio.labeling_config import ANSWER_NAME, ImageObject, parse
from backend.label_studio.results import validate
from backend.label_studio.shapes import rasterise
from backend.recorded_maps import recorded_map
from db import decisions
from inspection_models.tiling import Tiling
from tests.backend import desks
from tests.backend.test_pipeline import turned

AUTH = ("inspection", desks.PASSWORD)
ASK = """<RectangleLabels name="ask" toName="img" smart="true" smartOnly="true">
<Label value="Crack"/><Label value="Stain"/><Label value="Good"/></RectangleLabels>"""
CONFIG = desks.CONFIG.replace("<Image", f"{ASK}<Image")
TOLD = CONFIG.replace("<Image", '<TextArea name="answer" toName="img"/><Image')
TABLES = ("decision", "prediction", "failure", "visualization_map", "job")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    kept = {f"{n}.png": desks.png(seed=n) for n in range(3)}
    return kept | {f"turned{n}.png": turned(n) for n in range(1, 9)} | {"torn.png": desks.png()[:60]}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, model: Path, files: dict[str, bytes]) -> Iterator[Desk]:
    with desks.image_server(files) as url:
        yield desks.open_desk(desks.settings_for(tmp_path_factory.mktemp("desk"), model, url))


@pytest.fixture(scope="module")
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_app(desk), raise_server_exceptions=False) as client:
        yield client


def rectangle(
    x: Any = 10.0, y: Any = 10.0, width: Any = 60.0, height: Any = 60.0, *, label: Any = "Crack", size: Any = (32, 48)
) -> dict[str, Any]:
    """A rectangle as the page sends it, on an image of (height, width)."""
    return {
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]},
        "id": "xDk7H-ctFl",
        "from_name": "ask",
        "to_name": "img",
        "type": "rectanglelabels",
        "origin": "manual",
    }


def request(context: Any, name: str = "0.png", config: str = CONFIG, tasks: Any = None) -> dict[str, Any]:
    return {
        "tasks": [desks.task(1, name)] if tasks is None else tasks,
        "project": "1.1795377200",
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }


def ask(client: TestClient, *drawn: dict[str, Any], name: str = "0.png", config: str = CONFIG) -> dict[str, Any]:
    response = client.post("/predict", json=request({"result": list(drawn)}, name, config), auth=AUTH)
    assert response.status_code == 200, response.text
    [answer] = response.json()["results"]
    return dict(answer)


def judge(client: TestClient, name: str = "0.png") -> list[dict[str, Any]]:
    body = {**request(None, name)}
    [answer] = client.post("/predict", json=body, auth=AUTH).json()["results"]
    return list(answer["result"])


def census(desk: Desk) -> dict[str, int]:
    with desk.database.read() as session:
        return {table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in TABLES}


def drawn_mask(items: list[dict[str, Any]]) -> np.ndarray:
    return np.logical_or.reduce([rasterise(one) for one in items if one["type"] == "polygonlabels"])


@pytest.mark.slow
def test_a_place_around_everything_gives_what_the_prediction_shows(client: TestClient, desk: Desk) -> None:
    _, *shown = judge(client)
    answer = ask(client, rectangle(0, 0, 100, 100))
    assert validate(answer, parse(CONFIG)) == ()
    assert [one["value"] for one in answer["result"]] == [one["value"] for one in shown]
    assert {one["from_name"] for one in answer["result"]} == {"where"}
    assert not {one["id"] for one in answer["result"]} & {one["id"] for one in shown}
    assert answer["model_version"] == desk.models.announced(1).model_version
    assert "100 % of the evidence" in answer["message"]
    assert "crack" in answer["result"][0]["meta"]["text"][0]


def test_nothing_of_a_question_is_recorded_and_a_recorded_map_is_read(
    client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(client)
    before = census(desk)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was explained anew")

    monkeypatch.setattr(pipelines, "attribute", never)
    first, second = (ask(client, rectangle(0, 0, 100, 100)) for _ in range(2))
    assert first == second
    assert census(desk) == before


def test_an_image_that_was_never_judged_is_explained_and_not_recorded(client: TestClient, desk: Desk) -> None:
    before = census(desk)
    assert ask(client, rectangle(0, 0, 100, 100), name="2.png")["result"]
    assert census(desk) == before


@pytest.mark.slow
def test_another_class_is_explained_once_and_kept(
    client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "_WORTH_EXPLAINING", 2.0)
    judge(client, "1.png")
    before, asked = census(desk), []
    explain = pipelines.attribute
    monkeypatch.setattr(pipelines, "attribute", lambda *a, **o: asked.append(1) or explain(*a, **o))
    first = ask(client, rectangle(0, 0, 100, 100, label="Stain"), name="1.png")
    ask(client, rectangle(20, 20, 50, 50, label="Stain"), name="1.png")
    assert asked == [1]
    assert {label for one in first["result"] for label in one["value"]["polygonlabels"]} == {"Stain"}
    assert census(desk) == before


SIDES = st.tuples(*[st.floats(-50, 150, allow_nan=False)] * 2, *[st.floats(0.5, 150)] * 2)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(SIDES)
def test_what_is_shown_lies_within_the_rectangle_and_its_share_is_that_of_the_map(
    client: TestClient, desk: Desk, sides: tuple[float, float, float, float]
) -> None:
    judge(client)
    answer = client.post("/predict", json=request({"result": [rectangle(*sides)]}), auth=AUTH)
    # Independently: a pixel's centre lies between the sides.
    x, y, width, height = sides
    columns = np.array([x <= (column + 0.5) / 48 * 100 < x + width for column in range(48)])
    rows = np.array([y <= (row + 0.5) / 32 * 100 < y + height for row in range(32)])
    place = rows[:, None] & columns
    if not place.any():
        assert answer.status_code == 400
        assert "outside" in answer.json()["detail"]
        return
    [said] = answer.json()["results"]
    with desk.database.read() as session:
        [decision] = decisions.find_by_image(session, hashlib.sha256(desks.png(seed=0)).hexdigest())
    explanation = next(one for one in decision.explanations if one.class_name == "crack")
    card = desk.models.answering(1).decider.card
    # The network's cells under the image, 48 by 32 letterboxed into 64 by 64, brought back by Pillow.
    cells = Image.fromarray(recorded_map(decision, explanation, card), mode="F")
    shares = np.asarray(cells.resize((48, 32), Image.Resampling.BOX), np.float64)
    share = shares[place].sum() / shares.sum()
    told = float(said["message"].partition(": ")[2].partition(" %")[0]) / 100
    assert told == pytest.approx(share, abs=0.03)
    if said["result"]:
        shown = drawn_mask(said["result"])
        # Thinned outlines stray by a pixel.
        border = np.zeros_like(place)
        where = np.argwhere(place)
        (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0)
        border[max(top - 1, 0) : bottom + 2, max(left - 1, 0) : right + 2] = True
        assert not (shown & ~border).any()


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_asked_about_as_it_is_shown(client: TestClient, orientation: int) -> None:
    place = rectangle(10, 0, 50, 100, size=(40, 61))
    upright, shown = (ask(client, place, name=f"turned{one}.png") for one in (1, orientation))
    assert [one["value"] for one in shown["result"]] == [one["value"] for one in upright["result"]]
    assert shown["message"] == upright["message"]
    wrong = rectangle(10, 0, 50, 100, size=(61, 40))
    answer = client.post("/predict", json=request({"result": [wrong]}, f"turned{orientation}.png"), auth=AUTH)
    assert answer.status_code == 400
    assert "61 x 40" in answer.json()["detail"]


def changed(**value: Any) -> dict[str, Any]:
    one = rectangle()
    return {**one, "value": {**one["value"], **value}}


HOSTILE: dict[str, Any] = {
    "empty": {},
    "no result": {"result": None},
    "nothing drawn": {"result": []},
    "text": {"result": "x"},
    "not objects": {"result": [1, None]},
    "no value": {"result": [{**rectangle(), "value": None}]},
    "value a list": {"result": [{**rectangle(), "value": [1]}]},
    "no x": {"result": [{**rectangle(), "value": {"rectanglelabels": ["Crack"]}}]},
    "huge": {"result": [changed(x=1e300)]},
    "huge whole number": {"result": [changed(width=10**400)]},
    "text numbers": {"result": [changed(x="10")]},
    "true": {"result": [changed(x=True)]},
    "negative": {"result": [changed(width=-20)]},
    "no area": {"result": [changed(width=0)]},
    "outside": {"result": [changed(x=200)]},
    "turned without number": {"result": [changed(rotation="north")]},
    "image turned": {"result": [{**rectangle(), "image_rotation": 90}]},
    "image without size": {"result": [{**rectangle(), "original_width": None}]},
    "image too large": {"result": [rectangle(size=(65_000, 65_000))]},
    "another size": {"result": [rectangle(size=(64, 96))]},
    "two sizes": {"result": [rectangle(), rectangle(size=(64, 96))]},
    "no label": {"result": [changed(rectanglelabels=[])]},
    "labels no list": {"result": [changed(rectanglelabels="Crack")]},
    "label no text": {"result": [changed(rectanglelabels=[{}])]},
    "unknown label": {"result": [rectangle(label="Rust")]},
    "good": {"result": [rectangle(label="Good")]},
    "two classes": {"result": [rectangle(), rectangle(label="Stain")]},
    "another control": {"result": [{**rectangle(), "from_name": "nobody"}]},
    "control a list": {"result": [{**rectangle(), "from_name": []}]},
    "another object": {"result": [{**rectangle(), "to_name": "nothing"}]},
    "a point": {"result": [{**rectangle(), "type": "keypointlabels"}]},
    "too many": {"result": [rectangle()] * 21},
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_is_no_question_is_told_and_harms_nothing(client: TestClient, desk: Desk, name: str) -> None:
    judge(client)
    before = census(desk)
    answer = client.post("/predict", json=request(HOSTILE[name]), auth=AUTH)
    assert answer.status_code == 400, answer.text
    assert len(answer.json()["detail"]) > 15
    # In the page, where there is a place for it.
    [told] = client.post("/predict", json=request(HOSTILE[name], config=TOLD), auth=AUTH).json()["results"]
    [item] = told["result"]
    assert (item["from_name"], item["value"]["text"]) == (ANSWER_NAME, [answer.json()["detail"]])
    assert census(desk) == before


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_told(client: TestClient, number: str) -> None:
    body = json.dumps(request({"result": [changed(x="NUMBER")]})).replace('"NUMBER"', number)
    headers = {"Content-Type": "application/json"}
    answer = client.post("/predict", content=body, headers=headers, auth=AUTH)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize("context", [5, "x", [], True])
def test_a_context_of_another_kind_is_refused(client: TestClient, context: Any) -> None:
    assert client.post("/predict", json=request(context), auth=AUTH).status_code == 422


@pytest.mark.parametrize("tasks", [[], [desks.task(1, "0.png"), desks.task(2, "1.png")]])
def test_a_question_is_about_one_task(client: TestClient, tasks: list[Any]) -> None:
    answer = client.post("/predict", json=request({"result": [rectangle()]}, tasks=tasks), auth=AUTH)
    assert answer.status_code == 400
    assert "one task" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["gone.png", "torn.png"])
def test_an_image_that_cannot_be_had_is_told(client: TestClient, name: str) -> None:
    [told] = ask(client, rectangle(), name=name, config=TOLD)["result"]
    assert told["from_name"] == ANSWER_NAME
    answer = client.post("/predict", json=request({"result": [rectangle()]}, name), auth=AUTH)
    assert answer.status_code == 400
    assert answer.json()["detail"] == told["value"]["text"][0]


def test_who_would_wait_too_long_is_told(client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from backend import questions

    monkeypatch.setattr(questions, "_PATIENCE_SECONDS", 0.1)
    turn = desk.models.answering(1).decider._pipeline._turn
    with turn:
        answer = client.post("/predict", json=request({"result": [rectangle(size=(40, 61))]}, "turned3.png"), auth=AUTH)
        fresh = client.post("/predict", json=request({"result": [changed(rectanglelabels=["Stain"])]}), auth=AUTH)
    assert {answer.status_code, fresh.status_code} <= {200, 400}
    busy = [one for one in (answer, fresh) if one.status_code == 400]
    assert busy and all("ask again" in one.json()["detail"] for one in busy)


def test_a_turned_rectangle_asks_about_what_it_covers() -> None:
    one = changed(x=50, y=50, width=20, height=20, rotation=45)
    question = read_question({"result": [one]}, bind(parse(CONFIG), desks.CLASSES, "good"))
    place = question.place()
    assert question.label == "crack"
    # About its upper left corner, in pixels; of columns the centre at 0.5 is seen.
    rows, columns = np.nonzero(place)
    corners = [(24.0, 16.0)]
    for angle, length in ((45, 9.6), (135, 6.4)):
        corners.append((24 + math.cos(math.radians(angle)) * length, 16 + math.sin(math.radians(angle)) * length))
    assert columns.min() + 0.5 == pytest.approx(min(x for x, _ in corners), abs=1.5)
    assert columns.max() + 0.5 == pytest.approx(max(x for x, _ in corners), abs=1.5)
    assert rows.min() == pytest.approx(16, abs=1)


def test_rectangles_that_are_still_shown_are_asked_about_together() -> None:
    parts = (rectangle(0, 0, 25, 50), rectangle(75, 50, 25, 50))
    question = read_question({"result": list(parts)}, bind(parse(CONFIG), desks.CLASSES, "good"))
    expected = np.zeros((32, 48), np.bool_)
    expected[:16, :12] = expected[16:, 36:] = True
    assert np.array_equal(question.place(), expected)


def test_a_place_between_two_pixels_is_told() -> None:
    with pytest.raises(QuestionError, match="smaller than a pixel"):
        Question("crack", ImageObject("img", "image"), (rectangle(0.0, 0.0, 0.5, 0.5),), (32, 48)).place()


@pytest.mark.slow
def test_an_image_in_tiles_is_asked_about_like_any_other(tmp_path: Path) -> None:
    tiled = desks.write_model(tmp_path / "tiled", tiling=Tiling(size=(64, 64), overlap=16))
    with desks.image_server({"wide.png": desks.png(150, 70, seed=3)}) as url:
        desk = desks.open_desk(desks.settings_for(tmp_path, tiled, url))
        with TestClient(create_app(desk), raise_server_exceptions=False) as client:
            _, *shown = judge(client, "wide.png")
            answer = ask(client, rectangle(0, 0, 100, 100, size=(70, 150)), name="wide.png")
    assert [one["value"] for one in answer["result"]] == [one["value"] for one in shown]


def test_the_answer_is_told_in_the_page_where_there_is_a_place_for_it(client: TestClient) -> None:
    answer = ask(client, rectangle(0, 0, 100, 100), config=TOLD)
    *regions, told = answer["result"]
    assert regions
    assert (told["type"], told["to_name"], told["value"]) == ("textarea", "img", {"text": [answer["message"]]})
