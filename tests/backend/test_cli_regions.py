"""`inspection regions`: a model that learns from masks how its regions are drawn, and what the command refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from backend.cli.program import run
from backend.pipeline import DecisionPipeline
from inspection_models import DefectClassifier
from inspection_models.data import load_dataset, write_synthetic_steel
from inspection_models.data.markings import read_mask
from inspection_models.metrics import choose_part
from inspection_models.region_head import HEAD_FILE
from inspection_models.training import TrainingRequest, train
from inspection_models.training_record import HASH_KEY, IMAGES_FILE, images_sha256
from tests.backend import desks
from tests.inspection_models.data_files import image_folder, write_mask


@dataclass(frozen=True)
class Steel:
    """A set without masks, a model trained on it, and the same set with the masks that were drawn later."""

    bare: Path
    marked: Path
    model: Path


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Steel:
    root = tmp_path_factory.mktemp("steel")
    made = Steel(root / "bare", root / "marked", root / "model")
    write_synthetic_steel(made.marked, per_class=9, size=96, seed=5)
    shutil.copytree(made.marked / "images", made.bare / "images")
    train(
        TrainingRequest(
            data=made.bare,
            output=made.model,
            architecture="squeezenet1_1",
            pretrained=False,
            size=(64, 64),
            epochs=0,
        )
    )
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_model_learns_from_masks_and_the_figures_are_those_of_what_it_draws(
    steel: Steel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["regions", str(steel.model), "--data", str(steel.marked), "--out", str(tmp_path / "new")]
    assert run([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    before, after = DefectClassifier.load(steel.model), DefectClassifier.load(tmp_path / "new")

    assert (before.card.regions.drawn_by, before.region_head) == ("snapped", None)
    assert report["drawn_by"] == {"before": "snapped", "after": after.card.regions.drawn_by}
    assert report["origin"] == after.card.regions.origin
    ways = report["origin"]["validation_mean_iou"]
    assert set(ways) == {"map", "snapped", "learned"}
    assert after.card.regions.drawn_by == max(ways, key=lambda way: ways[way]["value"])
    assert after.version.weights_sha256 == before.version.weights_sha256
    assert after.version.fingerprint != before.version.fingerprint
    assert report["version"] == after.version.version
    assert after.card.regions.head is not None
    stored = (tmp_path / "new" / HEAD_FILE).read_bytes()
    assert hashlib.sha256(stored).hexdigest() == after.card.regions.head.weights_sha256
    assert images_sha256((tmp_path / "new" / IMAGES_FILE).read_bytes()) == after.card.training[HASH_KEY]

    dataset = load_dataset(steel.marked, good_class="")
    parts = {part: choose_part(before.card, dataset, part).samples for part in ("train", "validation", "test")}
    defective = {part: [one for one in samples if one.label != "good"] for part, samples in parts.items()}
    assert report["origin"]["marked_images"] == {part: len(defective[part]) for part in ("train", "validation")}
    # What the desk would draw on the same images, and the masks as they are on disk.
    for name, classifier in (("before", before), ("after", after)):
        pipeline, overlaps = DecisionPipeline(classifier), []
        for sample in defective["test"]:
            [shown] = pipeline.explain(sample.path.read_bytes(), classes=[sample.label]).explanations
            drawn = np.zeros(shown.attribution_map.shape, np.bool_)
            for region in shown.regions:
                x, y, width, height = region.box
                drawn[y : y + height, x : x + width] |= region.mask
            assert sample.mask_path is not None
            truth = read_mask(sample.mask_path)
            overlaps.append((drawn & truth).sum() / (drawn | truth).sum())
        figures = report["test"][name]
        assert figures["of"] == len(overlaps)
        assert figures["value"] == pytest.approx(np.mean(overlaps), abs=1e-6)
    assert report["test"]["more"]["value"] == pytest.approx(
        report["test"]["after"]["value"] - report["test"]["before"]["value"]
    )

    assert run(arguments) == 1
    assert "holds a model already" in " ".join(capsys.readouterr().err.split())
    assert run([*arguments, "--overwrite"]) == 0
    shown_text = " ".join(capsys.readouterr().out.split())
    assert f"regions are drawn by: {after.card.regions.drawn_by} (before: snapped)" in shown_text
    assert DefectClassifier.load(tmp_path / "new").card == after.card


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desks.write_model(tmp_path_factory.mktemp("model") / "tiny")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 1) -> str:
    assert run(["regions", *arguments]) == status
    shown = capsys.readouterr()
    assert shown.out == "" and "Traceback" not in shown.err
    return " ".join(shown.err.split())


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_stated_coverage_is_kept_or_refused_with_what_would_be_needed(
    steel: Steel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["regions", str(steel.model), "--data", str(steel.marked), "--out", str(tmp_path / "new")]
    assert run([*arguments, "--coverage", "99%"]) == 1
    assert "99 are needed" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert run([*arguments, "--coverage", "50%", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["origin"]["coverage"] == 0.5
    assert report["drawn_by"]["after"] in ("map", "learned")
    assert run([*arguments, "--coverage", "90"]) == 2
    assert "write 0.5% or 0.005" in capsys.readouterr().err


@pytest.mark.parametrize("marked", [0, 5])
def test_data_with_too_few_marks_are_refused_and_say_how_many_there_are(
    model: Path, tmp_path: Path, marked: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data = image_folder(tmp_path / "data", {"good": 6, "crack": 8, "stain": 6}, beneath="images")
    for number in range(marked):
        write_mask(data / "masks" / "crack" / f"{number:03d}.png")
    told = refused([str(model), "--data", str(data), "--out", str(tmp_path / "new")], capsys)
    assert "add masks, boxes or outlines" in told
    if not marked:
        assert "marked in 0 images of the training part and 0 of the validation part" in told
    assert not (tmp_path / "new").exists()


def test_classes_that_the_model_does_not_know_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = image_folder(tmp_path / "data", {"good": 6, "rust": 6}, beneath="images")
    assert "rust" in refused([str(model), "--data", str(data), "--out", str(tmp_path / "new")], capsys)
    assert not (tmp_path / "new").exists()


def test_what_is_there_is_left_untouched(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    told = refused([str(model), "--data", str(tmp_path), "--out", str(tmp_path / "mine"), "--overwrite"], capsys)
    assert "is not a model directory" in told
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    before = (model / "model.json").read_bytes()
    assert "holds a model already" in refused([str(model), "--data", str(tmp_path), "--out", str(model)], capsys)
    assert (model / "model.json").read_bytes() == before


def test_wrong_use_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out" in refused([str(model), "--data", str(tmp_path)], capsys, status=2)
    gone = [str(tmp_path / "gone"), "--data", str(tmp_path), "--out", str(tmp_path / "new")]
    assert "gone" in refused(gone, capsys)
