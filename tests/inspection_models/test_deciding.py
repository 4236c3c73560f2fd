"""Deciding: probabilities follow the activation, and between its lines a model leaves the decision to a person."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models.deciding import decide, probabilities_of
from inspection_models.decision_lines import ReviewLines
from inspection_models.model_card import Calibration, ModelCard, Thresholds
from inspection_models.preprocessing import Preprocessing

CLASSES = ("crack", "good", "pit")
LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=3).map(lambda row: np.array(row, np.float32))
PROBABILITY = st.floats(0, 1, exclude_min=True)


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


def softmax_logits(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities)).astype(np.float32)


def sigmoid_logits(*probabilities: float) -> np.ndarray:
    given = np.array(probabilities)
    return np.log(given / (1 - given)).astype(np.float32)


@settings(deadline=None)
@given(LOGITS, st.floats(0.1, 10), st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_probabilities_are_torchs(logits: np.ndarray, temperature: float, own: list[float]) -> None:
    tensor = torch.from_numpy(logits).double()
    one = probabilities_of(card(calibration=Calibration(temperature=temperature)), logits)
    np.testing.assert_allclose(one, torch.softmax(tensor / temperature, 0), rtol=1e-9)
    shared = card(activation="sigmoid", calibration=Calibration(temperature=temperature))
    np.testing.assert_allclose(probabilities_of(shared, logits), torch.sigmoid(tensor / temperature), rtol=1e-9)
    each = card(activation="sigmoid", calibration=Calibration(class_temperatures=tuple(own)))
    np.testing.assert_allclose(
        probabilities_of(each, logits), torch.sigmoid(tensor / torch.tensor(own, dtype=torch.float64)), rtol=1e-6
    )
    rows = np.stack([logits, logits[::-1]])
    np.testing.assert_array_equal(probabilities_of(each, rows)[0], probabilities_of(each, logits))


@pytest.mark.parametrize(
    ("good", "verdict", "is_defect"),
    [(0.99, "good", False), (0.75, "review", False), (0.65, "review", True), (0.05, "defect", True)],
)
def test_between_the_lines_a_person_decides(good: float, verdict: str, is_defect: bool) -> None:
    lines = Thresholds(decision=0.3, review=ReviewLines(good_below=0.1, defect_from=0.8))
    prediction = decide(card(thresholds=lines), softmax_logits(0.6 * (1 - good), good, 0.4 * (1 - good)))
    assert (prediction.verdict, prediction.is_defect) == (verdict, is_defect)
    assert prediction.labels == (prediction.label,) == (("crack",) if is_defect else ("good",))
    assert prediction.defect_probability == pytest.approx(1 - good, abs=1e-6)


@settings(deadline=None)
@given(LOGITS, st.lists(PROBABILITY, min_size=3, max_size=3).map(sorted), st.sampled_from(["softmax", "sigmoid"]))
def test_a_verdict_never_contradicts_the_called_class(logits: np.ndarray, three: list[float], activation: str) -> None:
    lower, decision, upper = three
    lines = Thresholds(decision=decision, review=ReviewLines(good_below=lower, defect_from=upper))
    prediction = decide(card(thresholds=lines, activation=activation), logits)
    p = prediction.defect_probability
    assert prediction.is_defect == (p >= decision)
    assert prediction.verdict == ("good" if p < lower else "defect" if p >= upper else "review")
    assert prediction.labels[0] == prediction.label
    assert ("good" in prediction.labels) != prediction.is_defect
    assert prediction.probability == float(prediction.probabilities[prediction.index])


def test_lines_that_meet_leave_nothing_to_review() -> None:
    lines = Thresholds(decision=0.3, review=ReviewLines(good_below=0.3, defect_from=0.3))
    for good in (0.69, 0.71):
        prediction = decide(card(thresholds=lines), softmax_logits(1 - good - 0.01, good, 0.01))
        assert prediction.verdict == ("defect" if prediction.is_defect else "good")


@pytest.mark.parametrize(
    ("probabilities", "thresholds", "labels"),
    [
        ((0.9, 0.1, 0.7), {}, ("crack", "pit")),
        ((0.6, 0.1, 0.7), {}, ("pit", "crack")),
        ((0.4, 0.1, 0.7), {}, ("pit",)),
        ((0.4, 0.1, 0.7), {"classes": {"crack": 0.35}}, ("pit", "crack")),
        ((0.2, 0.3, 0.1), {}, ("crack",)),
        ((0.9, 0.6, 0.7), {}, ("good",)),
        ((0.9, 0.6, 0.7), {"decision": 0.35}, ("crack", "pit")),
    ],
)
def test_an_image_of_several_classes_is_called_by_all_that_reach_their_lines(
    probabilities: tuple[float, ...], thresholds: dict[str, Any], labels: tuple[str, ...]
) -> None:
    prediction = decide(card(activation="sigmoid", thresholds=Thresholds(**thresholds)), sigmoid_logits(*probabilities))
    assert prediction.labels == labels
    assert prediction.label == labels[0]
    assert prediction.index == CLASSES.index(labels[0])
    assert prediction.probability == pytest.approx(probabilities[prediction.index], abs=1e-6)
    assert prediction.defect_probability == pytest.approx(1 - probabilities[1], abs=1e-6)
    assert prediction.verdict == ("good" if labels == ("good",) else "defect")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_without_a_good_class_the_class_has_to_be_sure(activation: str) -> None:
    one = card(good_class=None, activation=activation, thresholds=Thresholds(review=ReviewLines(sure_from=0.8)))
    logits = softmax_logits if activation == "softmax" else sigmoid_logits
    sure, unsure = decide(one, logits(0.9, 0.05, 0.05)), decide(one, logits(0.7, 0.2, 0.1))
    assert (sure.verdict, unsure.verdict) == ("defect", "review")
    assert (sure.labels, unsure.labels) == (("crack",), ("crack",))
    assert sure.defect_probability == 1.0
    assert sure.is_defect


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RuntimeError, match="not finite"):
        decide(card(), np.array([0.0, np.inf, 0.0], np.float32))
