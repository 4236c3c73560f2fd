"""`inspection calibrate` and the stated risks of `train`, as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from backend.cli.program import run
from backend.cli.risks import share
from inspection_models import DefectClassifier
from inspection_models.data.splits import Split
from inspection_models.training_record import HASH_KEY, IMAGES_FILE, images_csv, images_sha256
from tests.backend import desks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    listed = images_csv(Split((), (), ()))
    folder = desks.write_model(tmp_path_factory.mktemp("model") / "tiny", training={HASH_KEY: images_sha256(listed)})
    (folder / IMAGES_FILE).write_bytes(listed)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for label, count in (("good", 12), ("crack", 14), ("stain", 10)):
        (root / label).mkdir()
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(root / label / f"{index}.png")
    return root


@pytest.mark.slow
def test_it_says_what_is_promised_what_it_costs_and_what_else_could_be(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["calibrate", str(model), "--data", str(data), "--out", str(tmp_path / "new")]
    assert run([*arguments, "--escapes", "20%", "--overkill", "0.3"]) == 0
    shown = capsys.readouterr().out
    assert "escapes: at most 20 % with 95 % confidence; " in shown
    assert "of 24 independent parts failed (24 images)" in shown
    assert "overkill: at most 30 % with 95 % confidence; " in shown
    assert "cannot be shown; 598 parts" in shown
    assert "sent to review" in shown
    card = DefectClassifier.load(tmp_path / "new").card
    assert [(origin.line, origin.rate) for origin in card.origins] == [("escapes", 0.2), ("overkill", 0.3)]
    assert run([*arguments, "--overwrite", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["thresholds"]["decision"] == 0.5
    assert [origin["confidence"] for origin in report["origins"]] == [None, None]
    assert [offer["rate"] for offer in report["offers"]][:2] == [0.1, 0.05]
    assert report["after"]["images"] == 36


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (["--escapes", "0.5%"], 1, "598 are needed"),
        (["--errors", "5%"], 1, "state escapes and overkill"),
        (["--escapes", "5"], 2, "write 0.5% or 0.005"),
        (["--escapes", "little"], 2, "--escapes 'little' is no share"),
        (["--escapes", "5%", "--confidence", "100%"], 2, "--confidence '100%'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    model: Path,
    data: Path,
    tmp_path: Path,
    options: list[str],
    status: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["calibrate", str(model), "--data", str(data), "--out", str(tmp_path / "new"), *options]) == status
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert says in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_promise_needs_the_list_of_images_and_nothing_else_does(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = desks.write_model(tmp_path / "bare")
    arguments = ["calibrate", str(bare), "--data", str(data), "--out", str(tmp_path / "new")]
    assert run([*arguments, "--escapes", "20%"]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "without a list of the images" in line
    assert not (tmp_path / "new").exists()
    assert run(arguments) == 0
    assert "make sure that these are others" in capsys.readouterr().out


def test_a_training_that_could_not_keep_its_promise_does_not_begin(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--data", str(data), "--out", str(tmp_path / "model"), "--escapes", "0.5%"]) == 1
    assert "598 are needed" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("text", "value"), [("0.5%", 0.005), ("0.5 %", 0.005), (" 0.005 ", 0.005), ("95%", 0.95)])
def test_shares_are_read_as_people_write_them(text: str, value: float) -> None:
    assert share(text, "--escapes") == pytest.approx(value)


@pytest.mark.parametrize("text", ["0", "1", "100%", "-1%", "5", "nan", "inf", "", "%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        share(text, "--escapes")
