"""Calibration: the temperature is the one the logits were spoilt with, and few images move it little."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from inspection_models.calibration import fit_calibration, fit_temperature, negative_log_likelihood
from inspection_models.model_card import Calibration


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 6.0), st.integers(0, 1000))
def test_the_temperature_that_spoilt_the_logits_is_found(temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (4000, 4))
    labels = np.array([rng.choice(4, p=row) for row in softmax(honest, axis=1)])
    found = fit_temperature((honest * temperature).astype(np.float32), labels)
    assert found == pytest.approx(temperature, rel=0.12)


def noisy(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    return (4 * np.eye(3)[labels] + rng.normal(0, 5, (count, 3))).astype(np.float32), labels


def test_no_neighbour_is_likelier_than_the_temperature_found() -> None:
    logits, labels = noisy(50)

    def lost(temperature: float) -> float:
        return 50 * negative_log_likelihood(logits, labels, temperature) + 2 * np.log(temperature) ** 2

    best = fit_temperature(logits, labels)
    for factor in (0.98, 1.02):
        assert lost(best) <= lost(best * factor)


def test_with_many_images_the_temperature_is_scikit_learns() -> None:
    logits, labels = noisy(20_000)

    class Given(ClassifierMixin, BaseEstimator):
        """Passes logits through, as a fitted classifier."""

        def fit(self, x: np.ndarray, y: np.ndarray) -> "Given":
            self.classes_ = np.unique(y)
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return self.classes_[x.argmax(axis=1)]

        def decision_function(self, x: np.ndarray) -> np.ndarray:
            return x

    frozen = FrozenEstimator(Given().fit(logits, labels))
    oracle = CalibratedClassifierCV(frozen, method="temperature").fit(logits.astype(np.float64), labels)
    ours = softmax(logits / fit_temperature(logits, labels), axis=1)
    np.testing.assert_allclose(ours, oracle.predict_proba(logits.astype(np.float64)), atol=2e-3)


def test_few_faultless_images_do_not_ask_for_boundless_confidence() -> None:
    logits = np.tile(np.eye(3, dtype=np.float32) * 6, (5, 1))
    labels = np.tile(np.arange(3), 5)
    assert 0.6 < fit_temperature(logits, labels) < 1
    assert 0.05 <= fit_temperature(np.eye(3, dtype=np.float32) * 1e6, np.arange(3)) <= 20


def test_under_sigmoid_each_class_gets_the_temperature_that_spoilt_it() -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 2, (6000, 3))
    targets = rng.random((6000, 3)) < expit(honest)
    spoilt = honest * np.array([0.5, 1.0, 3.0])
    found = fit_calibration(spoilt.astype(np.float32), targets, "sigmoid")
    assert found.class_temperatures == pytest.approx((0.5, 1.0, 3.0), rel=0.12)


def test_a_class_with_few_images_takes_the_temperature_of_all() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 4, (200, 2)).astype(np.float32)
    targets = rng.random((200, 2)) < expit(logits / 2)
    targets[:, 1] = False
    targets[:9, 1] = True
    found = fit_calibration(logits, targets, "sigmoid")
    assert found.class_temperatures[1] == found.temperature != found.class_temperatures[0]
    assert fit_calibration(logits, targets[:, ::-1], "sigmoid").class_temperatures[0] != found.class_temperatures[0]


def test_under_softmax_there_is_one_temperature() -> None:
    logits, labels = noisy(60)
    found = fit_calibration(logits, np.eye(3, dtype=bool)[labels], "softmax")
    assert found == Calibration(temperature=fit_temperature(logits, labels))


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="as many"):
        fit_temperature(np.zeros((2, 3), np.float32), np.zeros(1, np.int64))
