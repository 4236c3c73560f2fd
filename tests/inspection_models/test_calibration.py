"""Calibration: the temperature is the one the logits were spoilt with, and its error is counted as in the paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from inspection_models.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 6.0), st.integers(0, 1000))
def test_the_temperature_that_spoilt_the_logits_is_found(temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (4000, 4))
    labels = np.array([rng.choice(4, p=row) for row in softmax(honest, axis=1)])
    found = fit_temperature((honest * temperature).astype(np.float32), labels)
    assert found == pytest.approx(temperature, rel=0.12)


def test_no_neighbour_is_likelier_than_the_temperature_found() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50)
    logits = (4 * np.eye(3)[labels] + rng.normal(0, 5, (50, 3))).astype(np.float32)
    best = fit_temperature(logits, labels)
    for factor in (0.98, 1.02):
        assert negative_log_likelihood(logits, labels, best) <= negative_log_likelihood(logits, labels, best * factor)


def test_faultless_logits_keep_a_temperature_within_bounds() -> None:
    logits = np.eye(3, dtype=np.float32) * 100
    assert 0.05 <= fit_temperature(logits, np.arange(3)) <= 20


def test_the_calibration_error_of_a_case_done_by_hand() -> None:
    # Confidences 0.9, 0.9 (one right) and 0.6, 0.6 (both right): (2 * |0.5 - 0.9| + 2 * |1 - 0.6|) / 4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])
    error = expected_calibration_error(np.log(probabilities).astype(np.float32), labels, bins=10)
    assert error == pytest.approx(0.4, abs=1e-6)


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="as many"):
        fit_temperature(np.zeros((2, 3), np.float32), np.zeros(1, np.int64))
