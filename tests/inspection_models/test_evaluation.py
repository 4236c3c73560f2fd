"""Evaluation: what is counted is what a person counts, by image, by part and by verdict."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from inspection_models.deciding import decide
from inspection_models.decision_lines import ReviewLines
from inspection_models.model_card import Calibration, ModelCard, Thresholds
from inspection_models.preprocessing import Preprocessing
from inspection_models.training.evaluation import Evaluation, Rate, figures_of_logits
from inspection_models.training.figures import confusion_png, reliability_png

CLASSES = ("good", "pit", "scratch", "absent")


def card(**fields: Any) -> ModelCard:
    defaults: dict[str, Any] = {
        "name": "tiny",
        "architecture": "squeezenet1_1",
        "classes": CLASSES,
        "good_class": "good",
        "preprocessing": Preprocessing("letterbox", (64, 64), (127.0,) * 3, (128.0,) * 3),
        "weights_sha256": "0" * 64,
    }
    return ModelCard(**defaults | fields)


def one_hot(labels: list[int]) -> np.ndarray:
    return np.eye(4, dtype=bool)[labels]


def log_odds(probabilities: list[list[float]]) -> np.ndarray:
    p = np.array(probabilities)
    return np.log(p / (1 - p)).astype(np.float32)


def test_figures_of_a_case_done_by_hand() -> None:
    logits = 3 * np.eye(4, dtype=np.float32)[[0, 0, 1, 0, 1, 0, 0, 2]]
    targets = one_hot([0, 0, 0, 0, 1, 1, 2, 2])
    result = figures_of_logits(card(), logits, targets)
    assert result.confusion == ((3, 1, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (0, 0, 0, 0))
    assert result.accuracy == 5 / 8
    assert result.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert result.escapes == Rate(2, 4)
    assert result.overkill == Rate(1, 4)
    good, absent = result.per_class["good"], result.per_class["absent"]
    assert (good.precision, good.recall, good.support) == (pytest.approx(3 / 5), pytest.approx(3 / 4), 4)
    assert (good.named, good.found) == (5, 3)
    assert good.f1 == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert (absent.precision, absent.recall, absent.f1, absent.support) == (None, None, None, 0)
    assert result.mean_average_precision is None
    json.dumps(result.to_dict(), allow_nan=False)


def test_where_no_class_is_good_nothing_escapes() -> None:
    logits = 3 * np.eye(4, dtype=np.float32)[[0, 1, 2]]
    lines = Thresholds(review=ReviewLines(sure_from=0.9))
    result = figures_of_logits(card(good_class=None, thresholds=lines), logits, one_hot([0, 1, 1]))
    assert (result.escapes, result.overkill) == (None, None)
    assert (result.alone.escapes, result.alone.overkill) == (None, None)
    assert result.alone.review == Rate(3, 3)  # softmax of 3, 0, 0, 0 is 0.87
    assert result.alone.errors == Rate(0, 0)


def test_verdicts_are_counted_by_image_and_by_part() -> None:
    lines = Thresholds(decision=0.4, review=ReviewLines(good_below=0.2, defect_from=0.8))
    # Probability of any defect; true class; part.
    cases = [
        (0.1, 0, "a"),
        (0.3, 0, "a"),
        (0.9, 0, "b"),
        (0.1, 1, "c"),
        (0.15, 1, "c"),
        (0.5, 1, "d"),
        (0.9, 1, "d"),
        (0.9, 2, "e"),
    ]
    logits = np.log([[1 - p, 0.98 * p, 0.01 * p, 0.01 * p] for p, _, _ in cases]).astype(np.float32)
    targets, groups = one_hot([label for _, label, _ in cases]), [group for _, _, group in cases]
    result = figures_of_logits(card(thresholds=lines), logits, targets, groups)
    assert result.escapes == Rate(2, 5, 1, 3)
    assert result.overkill == Rate(1, 3, 1, 2)
    assert result.alone.review == Rate(2, 8, 2, 5)
    assert result.alone.escapes == Rate(2, 5, 1, 3)
    assert result.alone.overkill == Rate(1, 3, 1, 2)
    assert result.alone.errors == Rate(4, 6, 3, 5)


def test_an_interval_is_that_of_the_parts_where_they_are_known() -> None:
    of_images, of_parts = Rate(3, 40), Rate(3, 40, 2, 9)
    for rate, count, of in ((of_images, 3, 40), (of_parts, 2, 9)):
        exact = binomtest(count, of).proportion_ci(method="exact")
        assert (rate.low, rate.high) == pytest.approx((exact.low, exact.high))


def several() -> tuple[np.ndarray, np.ndarray]:
    logits = log_odds(
        [[0.9, 0.1, 0.2, 0.1], [0.1, 0.9, 0.7, 0.1], [0.2, 0.3, 0.6, 0.2], [0.8, 0.6, 0.1, 0.1], [0.1, 0.2, 0.3, 0.1]]
    )
    targets = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]], bool)
    return logits, targets


def test_several_classes_of_an_image_by_hand() -> None:
    logits, targets = several()
    result = figures_of_logits(card(activation="sigmoid"), logits, targets)
    # Named: good; pit and scratch; scratch; good; scratch.
    assert result.accuracy == 3 / 5
    assert result.confusion == ()
    assert result.escapes == Rate(1, 4)
    assert result.overkill == Rate(0, 1)
    pit, scratch = result.per_class["pit"], result.per_class["scratch"]
    assert (pit.precision, pit.recall, pit.support, pit.named, pit.found) == (1, pytest.approx(1 / 3), 3, 1, 1)
    assert (scratch.precision, scratch.recall, scratch.support) == (1, 1, 3)
    # By probability the pits are 1st, 2nd and 3rd of five; the good one is 1st.
    assert (pit.average_precision, result.per_class["good"].average_precision) == (1, 1)
    assert result.per_class["absent"].average_precision is None
    assert result.mean_average_precision == 1
    assert result.balanced_accuracy == pytest.approx((1 + 1 / 3 + 1) / 3)
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40))
def test_figures_are_scikit_learns(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 4)).astype(np.float32)
    labels = rng.integers(0, 4, count)
    one = figures_of_logits(card(), logits, one_hot(labels.tolist()))
    seen = np.isin(logits.argmax(axis=1), labels)
    if seen.all() and len(np.unique(labels)) > 1:
        assert one.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, logits.argmax(axis=1)))
    targets = rng.random((count, 4)) < 0.4
    targets[:, 0] = ~targets[:, 1:].any(axis=1)
    many_card = card(activation="sigmoid", calibration=Calibration(class_temperatures=(0.5, 1.0, 2.0, 3.0)))
    many = figures_of_logits(many_card, logits, targets)
    named = np.array([[c in decide(many_card, row).labels for c in CLASSES] for row in logits])
    for index, label in enumerate(CLASSES):
        figures = many.per_class[label]
        if targets[:, index].any() and named[:, index].any():
            assert figures.f1 == pytest.approx(f1_score(targets[:, index], named[:, index], zero_division=0))
        if targets[:, index].any():
            assert figures.average_precision == pytest.approx(
                average_precision_score(targets[:, index], logits[:, index])
            )
    assert many.accuracy == (named == targets).all(axis=1).mean()


def test_nothing_to_evaluate_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        figures_of_logits(card(), np.zeros((0, 4), np.float32), one_hot([]))


def measured(activation: str, *, good: bool) -> Evaluation:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 120)
    logits = (2 * np.eye(4)[labels] + rng.normal(0, 1.5, (120, 4))).astype(np.float32)
    fields = {"activation": activation, "good_class": "good" if good else None}
    return figures_of_logits(card(**fields, calibration=Calibration(temperature=0.6)), logits, one_hot(labels.tolist()))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("good", [True, False])
def test_pictures_show_something_and_repeat_to_the_byte(activation: str, good: bool, tmp_path: Any) -> None:
    result = measured(activation, good=good)
    for draw in (confusion_png, reliability_png):
        content = draw(result, "title")
        (tmp_path / "one.png").write_bytes(content)
        with Image.open(tmp_path / "one.png") as picture:
            pixels = np.asarray(picture.convert("L"))
        assert min(pixels.shape) > 200
        assert 0.02 < (pixels < 200).mean() < 0.6
        assert draw(result, "title") == content
