"""Lines of a trained model: promised on photographs that had no part in it, at training and later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inspection_models import DefectClassifier
from inspection_models.calibration import fit_calibration
from inspection_models.data import DatasetError, Sample, load_dataset, split_dataset
from inspection_models.data.splits import Split
from inspection_models.line_drawing import StatedRisks
from inspection_models.metrics import MetricError, choose_part
from inspection_models.model_card import ModelError
from inspection_models.risk import RiskError
from inspection_models.training import CalibrationRequest, TrainingEvent, TrainingRequest, calibrate, evaluate, train
from inspection_models.training.evaluation import targets_of
from inspection_models.training.lines import set_aside
from inspection_models.training_record import HASH_KEY, seen_images

POSSIBLE = StatedRisks(escapes=0.7, confidence=0.5)


def shades(root: Path, seed: int, counts: tuple[int, int] = (30, 20)) -> Path:
    """Dark and bright images whose shades overlap a little."""
    rng = np.random.default_rng(seed)
    for label, level, count in (("good", 90, counts[0]), ("bright", 150, counts[1])):
        (root / label).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(rng.normal(level + rng.normal(0, 25), 12, (40, 48)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{index}.png")
    return root


def request(data: Path, output: Path, **changes: Any) -> TrainingRequest:
    fields = {"architecture": "shufflenet_v2_x0_5", "size": (48, 48), "epochs": 1, "batch_size": 8, "seed": 7}
    return TrainingRequest(data=data, output=output, **fields | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shades(tmp_path_factory.mktemp("shades"), 0)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shades(tmp_path_factory.mktemp("fresh"), 1)


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(request(data, tmp_path_factory.mktemp("models") / "shades")).output


def sample(number: int, label: str, group: str) -> Sample:
    return Sample(Path(f"{number}.png"), label, group, f"{number:064x}")


def test_half_of_the_test_part_is_set_aside_by_part_and_class() -> None:
    test = tuple(sample(n, "good" if n < 40 else "pit", str(n // 2)) for n in range(60))
    split = Split((), (), test)
    halved = set_aside(split, "good", StatedRisks(escapes=0.5, confidence=0.9))
    assert sorted(s.path for s in (*halved.test, *halved.lines)) == sorted(s.path for s in test)
    assert not {s.group for s in halved.test} & {s.group for s in halved.lines}
    assert [sum(s.label == "pit" for s in part) for part in (halved.test, halved.lines)] == [10, 10]
    assert set_aside(split, "good", StatedRisks()) == split
    # Five defective parts are left, however many images they have.
    with pytest.raises(RiskError, match=r"on 5 independent defective parts.*29 are needed"):
        set_aside(split, "good", StatedRisks(escapes=0.1))
    with pytest.raises(RiskError, match="10 independent good parts"):
        set_aside(split, "good", StatedRisks(overkill=0.1))
    with pytest.raises(RiskError, match="15 independent parts"):
        set_aside(split, None, StatedRisks(errors=0.1))


@pytest.mark.slow
def test_a_training_with_a_stated_risk_draws_its_lines_from_what_nothing_else_saw(data: Path, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    report = train(request(data, tmp_path / "model", risks=POSSIBLE), events.append)
    card = DefectClassifier.load(report.output).card
    split = set_aside(split_dataset(load_dataset(data), seed=7), "good", POSSIBLE)
    escapes = card.origins[0]
    assert (escapes.line, escapes.rate, escapes.confidence) == ("escapes", 0.7, 0.5)
    assert escapes.parts == sum(s.label == "bright" for s in split.lines) == 2
    assert escapes.data_sha256 == load_dataset(data).sha256
    assert card.thresholds.decision == card.thresholds.review.good_below == escapes.value
    assert card.training["counts"]["lines"] == {"bright": 2, "good": 2}
    assert evaluate(report.classifier, split.test) == report.test
    assert [event.phase for event in events if event.done == event.total].count("lines") == 1
    seen = seen_images(report.output, card)
    assert seen == {s.sha256 for part in (split.train, split.validation, split.lines) for s in part}
    assert "half of this part" in choose_part(card, load_dataset(data), "test").notes[0]


def test_what_too_few_parts_cannot_show_is_refused_before_the_work(data: Path, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    with pytest.raises(RiskError, match="598 are needed"):
        train(request(data, tmp_path / "model", risks=StatedRisks(escapes=0.005)), events.append)
    assert events == []
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_without_a_stated_risk_the_lines_come_from_the_validation_part(model: Path, data: Path) -> None:
    card = DefectClassifier.load(model).card
    validation = split_dataset(load_dataset(data), seed=7).validation
    assert [origin.line for origin in card.origins] == ["escapes", "overkill"]
    assert [origin.images for origin in card.origins] == [
        sum(s.label == c for s in validation) for c in ("bright", "good")
    ]
    assert all(origin.confidence is None for origin in card.origins)
    assert card.thresholds.decision == 0.5
    assert card.metrics["test"]["alone"]["review"]["of"] == 7


@pytest.mark.slow
def test_a_stated_risk_moves_lines_only_and_leaves_the_model_as_it_was(
    model: Path, fresh: Path, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    counted: list[tuple[int, int]] = []
    report = calibrate(
        CalibrationRequest(model, fresh, tmp_path / "new", risks=StatedRisks(0.2, 0.2, confidence=0.9)),
        lambda *done: counted.append(done),
    )
    assert {path.name: path.read_bytes() for path in model.iterdir()} == files
    before, made = DefectClassifier.load(model), DefectClassifier.load(tmp_path / "new")
    assert made.card == report.classifier.card
    assert made.card.calibration == before.card.calibration
    assert made.version.weights_sha256 == before.version.weights_sha256
    # Where the data separate well, the promise may be kept by the very lines that were there.
    moved = made.card.thresholds != before.card.thresholds
    assert (made.version.fingerprint != before.version.fingerprint) == moved
    assert [(o.rate, o.confidence, o.parts) for o in made.card.origins] == [(0.2, 0.9, 20), (0.2, 0.9, 30)]
    assert made.card.training["calibrated"]["from"]["fingerprint"] == before.version.fingerprint
    assert made.card.training["calibrated"]["probabilities"] == "as they were"
    assert evaluate(made, load_dataset(fresh).samples) == report.figures
    assert evaluate(before, load_dataset(fresh).samples) == report.figures_before
    assert report.figures.escapes is not None
    assert report.figures.escapes.count == made.card.origins[0].failures
    assert counted[-1] == (50, 50)
    summary = json.loads((tmp_path / "new" / "calibration_summary.json").read_text())
    assert summary["after"] == report.figures.to_dict() == made.card.metrics["calibration"]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert {"training_summary.json", "training_images.csv", "reliability.png", "confusion_matrix.png"} <= names


@pytest.mark.slow
def test_without_a_stated_risk_the_probabilities_are_calibrated_anew(model: Path, fresh: Path, tmp_path: Path) -> None:
    report = calibrate(CalibrationRequest(model, fresh, tmp_path / "new"))
    samples = load_dataset(fresh).samples
    before = DefectClassifier.load(model)
    pixels = [np.repeat(np.asarray(Image.open(s.path))[..., None], 3, axis=2) for s in samples]
    logits = np.array([prediction.logits for prediction in before.predict(pixels)])
    expected = fit_calibration(logits, targets_of(samples, before.classes), "softmax")
    assert report.classifier.card.calibration == expected != before.card.calibration
    assert report.classifier.card.training["calibrated"]["probabilities"] == "anew"


@pytest.mark.slow
def test_other_rates_are_offered_with_their_cost_or_the_reason_against(
    model: Path, fresh: Path, tmp_path: Path
) -> None:
    risks = StatedRisks(escapes=0.3, confidence=0.85)
    report = calibrate(CalibrationRequest(model, fresh, tmp_path / "new", risks=risks))
    # Of 20 parts none may fail: 0.9 ** 20 = 0.12, and 0.95 ** 20 = 0.36.
    assert [offer.refused is None for offer in report.offers] == [True, False, False, False, False, False]
    assert [offer.rate for offer in report.offers] == [0.1, 0.05, 0.02, 0.01, 0.005, 0.001]
    first = report.offers[0].evaluation
    assert first is not None
    assert first.escapes is not None
    assert first.escapes.count == 0
    assert "37 are needed" in str(report.offers[1].refused)


@pytest.mark.slow
def test_photographs_that_had_a_part_in_the_model_are_refused(
    model: Path, data: Path, fresh: Path, tmp_path: Path
) -> None:
    ask = CalibrationRequest(model, data, tmp_path / "one", risks=POSSIBLE)
    for part, count in (("all", 43), ("train", 35), ("validation", 8)):
        with pytest.raises(RiskError, match=rf"trained or tuned on {count} of .*fresh ones, or take the test part"):
            calibrate(replace(ask, part=part))
    # The test part of its own data set is what is taken by itself.
    assert calibrate(ask).figures.images == 7
    calibrated = calibrate(CalibrationRequest(model, fresh, tmp_path / "two")).output
    again = CalibrationRequest(calibrated, fresh, tmp_path / "three", risks=POSSIBLE)
    with pytest.raises(RiskError, match="on 50 of the 50 photographs"):
        calibrate(again)
    # What lines alone were drawn from may show other lines.
    lined = calibrate(CalibrationRequest(model, fresh, tmp_path / "four", risks=POSSIBLE)).output
    assert calibrate(replace(again, model=lined)).classifier.card.origins[0].parts == 20
    assert seen_images(lined, DefectClassifier.load(lined).card) > seen_images(model, DefectClassifier.load(model).card)


@pytest.mark.slow
def test_a_model_whose_list_of_images_is_gone_is_refused_until_it_is_back(
    model: Path, data: Path, fresh: Path, tmp_path: Path
) -> None:
    DefectClassifier.load(model).save(tmp_path / "bare")
    ask = CalibrationRequest(tmp_path / "bare", data, tmp_path / "new", part="train", risks=POSSIBLE)
    for request_ in (ask, replace(ask, risks=StatedRisks()), replace(ask, data=fresh, part=None)):
        with pytest.raises(ModelError, match=r"training_images\.csv: is missing"):
            calibrate(request_)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_no_risk_is_promised_for_a_model_of_which_nobody_knows_what_it_has_seen(
    model: Path, data: Path, fresh: Path, tmp_path: Path
) -> None:
    old = DefectClassifier.load(model)
    training = {key: value for key, value in old.card.training.items() if key != HASH_KEY}
    old.with_settings(training=training).save(tmp_path / "old")
    ask = CalibrationRequest(tmp_path / "old", fresh, tmp_path / "new")
    for request_ in (ask, replace(ask, data=data, part="train")):
        with pytest.raises(RiskError, match=r"without a list of the images .*state no risk"):
            calibrate(replace(request_, risks=POSSIBLE))
    assert not (tmp_path / "new").exists()
    report = calibrate(ask)
    assert "without a list of the images" in report.notes[0]
    assert [origin.confidence for origin in report.classifier.card.origins] == [None, None]
    assert not (tmp_path / "new" / "training_images.csv").exists()


def test_an_image_that_is_good_and_defective_at_once_is_no_evidence(model: Path, tmp_path: Path) -> None:
    images = shades(tmp_path / "data", 3, (6, 6))
    lines = [f"{path.relative_to(images).as_posix()},{path.parent.name}" for path in sorted(images.rglob("*.png"))]
    (images / "labels.csv").write_text("\n".join(["path,label", *lines, "good/3.png,bright"]) + "\n")
    with pytest.raises(DatasetError, match=r"3\.png is labelled 'good' and 'bright' at once"):
        calibrate(CalibrationRequest(model, images, tmp_path / "new", layout="csv"))
    assert not (tmp_path / "new").exists()


def test_bad_calibrations_are_refused(model: Path, fresh: Path, tmp_path: Path) -> None:
    ask = CalibrationRequest(model, fresh, tmp_path / "new", risks=StatedRisks(escapes=0.01))
    with pytest.raises(RiskError, match=r"20 independent defective parts.*299 are needed"):
        calibrate(ask)
    with pytest.raises(ModelError, match="holds a model already"):
        calibrate(replace(ask, output=model))
    with pytest.raises(RiskError, match="state escapes and overkill"):
        calibrate(replace(ask, risks=StatedRisks(errors=0.4)))
    foreign = shades(tmp_path / "foreign", 2, (3, 3))
    (foreign / "bright").rename(foreign / "dull")
    with pytest.raises(MetricError, match="dull"):
        calibrate(replace(ask, data=foreign))
    assert not (tmp_path / "new").exists()
