"""Whose maps are shown where several model versions have judged one photograph."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from backend import map_pictures
from backend.app import create_app
from backend.desk import Desk
from backend.map_addresses import MapAddresses
from backend.model_switching import ModelSwitching
from backend.models_in_use import ModelIdentity
from inspection_models.evidence_sheet import EvidenceSheet
from inspection_models.model_card import CARD_FILE, read_card
from tests.backend import desks

AUTH = ("inspection", desks.PASSWORD)


class Studio:
    """Label Studio's side of a switch."""

    def project(self, number: int) -> dict[str, Any]:
        return {"id": number, "label_config": desks.CONFIG}

    def ml_backends(self, _: int) -> list[dict[str, Any]]:
        return []


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: desks.write_model(folder / name, favourite=name) for name in ("crack", "stain")}


@pytest.fixture
def desk(tmp_path: Path, models: dict[str, Path]) -> Iterator[Desk]:
    with desks.image_server({"0.png": desks.png(seed=0)}) as url:
        yield desks.open_desk(desks.settings_for(tmp_path / "data", models["crack"], url))


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_app(desk), raise_server_exceptions=False) as client:
        yield client


def judge(client: TestClient, favourite: str, *, project: int = 1, task: int = 1) -> None:
    body = {"tasks": [desks.task(task, "0.png")], "project": f"{project}.1", "label_config": desks.CONFIG, "params": {}}
    deadline = time.monotonic() + 60
    while True:
        [answer] = client.post("/predict", json=body, auth=AUTH).json()["results"]
        if answer["result"][0]["value"]["choices"] == [favourite.title()]:
            return
        # The former version answers while the one that was just activated is being loaded.
        assert time.monotonic() < deadline, answer


@pytest.mark.slow
def test_the_version_in_use_is_shown_and_where_it_told_nothing_the_sheet_says_so(
    client: TestClient, desk: Desk, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[EvidenceSheet] = []
    draw = map_pictures.draw_sheet
    monkeypatch.setattr(map_pictures, "draw_sheet", lambda sheet: drawn.append(sheet) or draw(sheet))
    switching = ModelSwitching(desk.settings, desk.database, Studio())  # type: ignore[arg-type]
    cards = {name: read_card(path / CARD_FILE) for name, path in models.items()}
    versions = {name: ModelIdentity.of(card).model_version for name, card in cards.items()}

    def shown(project: int = 1) -> tuple[str, bool]:
        """Whose maps are shown, and whether the sheet says that another version is in use."""
        address = MapAddresses("", desk.credentials().map_key).of(project)
        assert client.get(f"{address}?image=/data/upload/0.png").status_code == 200
        sheet = drawn[-1]
        [author] = [name for name, version in versions.items() if version in sheet.footnote]
        assert sheet.evidence[0].label == author
        told = [remark for remark in sheet.remarks if "version in use now" in remark]
        [other] = versions.keys() - {author}
        assert all(versions[author] in remark and versions[other] in remark for remark in told)
        return author, bool(told)

    judge(client, "crack")
    judge(client, "crack", project=2, task=2)
    assert shown() == ("crack", False)
    switching.activate(str(models["stain"]), 1, actor="ada", note=None)
    assert shown() == ("crack", True)
    # Looking at maps loads no model and changes nothing of what the desk tells Label Studio.
    assert desk.models._pool.ready(cards["stain"].fingerprint) is None
    assert client.get("/health").json()["model_version"] == versions["crack"]
    judge(client, "stain", task=3)
    assert shown() == ("stain", False)
    switching.take_back(1, actor="ada", note=None)
    assert shown() == ("crack", False)
    # Told again for a further task of the same photograph, which comes later than what the other version told.
    judge(client, "crack", task=4)
    assert shown() == ("crack", False)
    assert shown(project=2) == ("crack", False)
