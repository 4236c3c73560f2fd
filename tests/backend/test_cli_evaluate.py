"""`inspection evaluate` as a person and a script meet it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.cli import program
from backend.cli.program import run
from inspection_models.metrics import mean_interval
from tests.backend import desks

METHODS = ["sise", "centre-gaussian"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls everything a crack."""
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images a class, each defect with its mask; every third defect is small."""
    root = tmp_path_factory.mktemp("data")
    for number, label in enumerate(desks.CLASSES):
        for index in range(6):
            seed = 100 * number + index
            path = root / "images" / label / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(desks.png(seed=seed))
            if label != "good":
                side = 3 if index % 3 == 0 else 12
                mask = np.zeros((32, 48), np.uint8)
                mask[8 : 8 + side, 20 : 20 + side] = 255
                target = root / "masks" / label / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(target)
    return root


@pytest.fixture(autouse=True)
def _own_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "DEFAULT_DATA_DIR", tmp_path / "home")


def measure(model: Path, data: Path, *more: str) -> int:
    return run(["evaluate", str(model), "--data", str(data), "--explanations", *more])


@pytest.mark.slow
def test_the_report_measures_every_image_and_says_what_was_left_out(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "report.json"
    assert measure(model, data, "--part", "all", "--methods", ",".join(METHODS), "--json", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    report = json.loads(printed)
    assert out.read_text() == printed
    assert [row["method"] for row in report["rows"]] == METHODS
    assert [row["method"] for row in report["small"]] == METHODS
    assert report["left_out"] == {"good part": 6, "misclassified": 6}
    assert report["baseline"] == "sise"
    assert report["part"] == "all"
    assert report["environment"]["packages"]["torch"]
    images = report["images"]
    assert [image["label"] for image in images] == ["crack"] * 6
    small = [image["defect_share"] for image in images if image["defect_share"] < 0.01]
    assert small == [pytest.approx(9 / (32 * 48))] * 2
    ap = [image["maps"][0]["values"]["ap"] for image in images]
    interval = mean_interval(ap)
    assert report["rows"][0]["figures"]["ap"] == {
        "value": pytest.approx(interval.value),
        "low": pytest.approx(interval.low),
        "high": pytest.approx(interval.high),
        "of": 6,
        "groups": 6,
    }


@pytest.mark.slow
def test_the_tables_show_figures_differences_and_notes(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(model, data, "--limit", "3", "--part", "all", "--methods", "sise, local-contrast") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for expected in (
        "3 rightly decided images",
        "6 good part",
        "6 misclassified",
        "3 over the limit",
        "also those that the model may have been trained on",
        "difference to sise",
        "filled with the training mean",
        "filled with the blurred image",
        "only 3 groups (3 images)",
        "local-contrast",
        *("AP ↑", "EBPG ↑", "mIoU ↑", "Bbox ↑", "pointing ↑", "Drop ↓", "Increase ↑", "insertion ↑", "deletion ↓"),
        *("seconds", "masks"),
    ):
        assert expected in shown
    assert "uniform" not in shown


def test_the_part_for_testing_is_taken_by_itself(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(model, data, "--methods", "uniform", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["part"] == "test"
    assert "records no split" in report["notes"][0]
    assert len(report["images"]) == 1
    assert report["left_out"] == {"good part": 1, "misclassified": 1}
    assert report["baseline"] is None


@pytest.mark.slow
def test_the_seed_draws_the_images(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = []
    for seed in ("0", "0", "1", "2", "3"):
        arguments = ["--part", "all", "--limit", "2", "--methods", "uniform", "--json", "--seed", seed]
        assert measure(model, data, *arguments) == 0
        drawn.append([image["file"] for image in json.loads(capsys.readouterr().out)["images"]])
    assert drawn[0] == drawn[1]
    assert len({tuple(names) for names in drawn}) > 1


def test_without_explanations_the_decisions_are_measured(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    arguments = ["evaluate", str(model), "--data", str(data), "--part", "all", "--out", str(out)]
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert re.search(r"escapes: defects called good +│ +0 of 12 +│ +0 of 12 +│ +0\.0% │ +0\.0% … 26\.5%", shown)
    assert re.search(
        r"overkill: good ones called defective +│ +6 of 6 +│ +6 of 6 +│ +100\.0% │ +54\.1% … 100\.0%", shown
    )
    assert "balanced accuracy 33.3%" in shown
    assert json.loads(out.read_text())["confusion"] == [[0, 6, 0], [0, 6, 0], [0, 6, 0]]
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 18


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--explanations", "--methods", "magic"], "local-contrast"),
        (["--explanations", "--methods", ","], "separated by commas"),
        (["--explanations", "--methods", "sise,sise"], "each once"),
        (["--methods", "sise"], "--explanations"),
        (["--limit", "3"], "--explanations"),
        (["--explanations", "--limit", "0"], "limit"),
        (["--part", "some"], "some"),
    ],
)
def test_wrong_use_is_exit_2(
    model: Path, data: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(model), "--data", str(data), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_data_without_masks_or_boxes_says_so(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, label in enumerate(desks.CLASSES):
        (tmp_path / "plain" / label).mkdir(parents=True)
        for index in range(3):
            (tmp_path / "plain" / label / f"{index}.png").write_bytes(desks.png(seed=10 * number + index))
    assert measure(model, tmp_path / "plain") == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "has a mask or a box" in line
    assert "masks/<class>/<stem>.png" in line


def test_data_of_another_model_and_no_data_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, label in enumerate(("good", "rust")):
        (tmp_path / "other" / label).mkdir(parents=True)
        (tmp_path / "other" / label / "0.png").write_bytes(desks.png(seed=number))
    for arguments in ([], ["--explanations"]):
        assert run(["evaluate", str(model), "--data", str(tmp_path / "other"), *arguments]) == 1
        assert "class 'rust', the model knows good, crack, stain" in capsys.readouterr().err
        assert run(["evaluate", str(model), "--data", str(tmp_path / "nowhere"), *arguments]) == 1
        assert "not a directory" in capsys.readouterr().err
        assert run(["evaluate", str(tmp_path), "--data", str(tmp_path / "other"), *arguments]) == 1
        assert "model directory" in capsys.readouterr().err


def test_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--help"]) == 0
    assert "--explanations" in capsys.readouterr().out
