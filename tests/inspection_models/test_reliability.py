"""Reliability: bins, errors and scores are those of scikit-learn and of the literal definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from inspection_models.intervals import clopper_pearson, tail, upper_bound
from inspection_models.reliability import equal_mass_bins, expected_error, reliability

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, count: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 2, (count, classes)), axis=1)
    return probabilities, np.eye(classes, dtype=bool)[rng.integers(0, classes, count)]


@settings(deadline=None)
@given(SEEDS, st.integers(1, 6))
def test_bins_of_equal_mass_are_scikit_learns(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    stated, true = rng.random(60), rng.random(60) < 0.4
    frequency, mean = calibration_curve(true, stated, n_bins=bins, strategy="quantile")
    ours = equal_mass_bins(stated, true, bins)
    assert sum(one.count for one in ours) == 60
    np.testing.assert_allclose([one.frequency for one in ours], frequency)
    np.testing.assert_allclose([one.probability for one in ours], mean)


def test_the_error_of_a_case_done_by_hand() -> None:
    # Two bins: 0.6 and 0.6, both right; 0.9 and 0.9, one right: (2 x 0.4 + 2 x 0.4) / 4.
    bins = equal_mass_bins(np.array([0.9, 0.9, 0.6, 0.6]), np.array([False, True, True, True]), 2)
    assert [one.count for one in bins] == [2, 2]
    assert expected_error(bins) == pytest.approx(0.4)


@pytest.mark.parametrize(("count", "bins"), [(1, 1), (9, 1), (20, 2), (99, 9), (5000, 10)])
def test_few_images_get_few_bins(count: int, bins: int) -> None:
    probabilities, targets = drawn(0, count)
    found = reliability(probabilities, targets, good=0, exclusive=True)
    assert len(found.bins) == len(found.defect_bins) == bins
    assert sum(one.count for one in found.bins) == count


@settings(deadline=None)
@given(SEEDS, st.integers(2, 200))
def test_errors_and_scores_are_the_literal_ones_of_exclusive_classes(seed: int, count: int) -> None:
    probabilities, targets = drawn(seed, count)
    found = reliability(probabilities, targets, good=1, exclusive=True)
    labels = targets.argmax(axis=1)

    def literal(stated: list[float], true: list[bool]) -> float:
        ranked = sorted(zip(stated, true, strict=True), key=lambda pair: pair[0])
        wanted = max(1, min(10, len(ranked) // 10))
        total, place = 0.0, 0
        for number in range(wanted):
            size = len(ranked) // wanted + (number < len(ranked) % wanted)
            part = ranked[place : place + size]
            place += size
            total += abs(sum(p for p, _ in part) - sum(t for _, t in part))
        return total / len(ranked)

    right = [int(np.argmax(row)) == label for row, label in zip(probabilities, labels, strict=True)]
    assert found.expected_error == pytest.approx(literal(probabilities.max(axis=1).tolist(), right))
    each = [literal(probabilities[:, c].tolist(), (labels == c).tolist()) for c in range(3)]
    assert found.classwise_error == pytest.approx(np.mean(each))
    assert found.defect_error == pytest.approx(literal((1 - probabilities[:, 1]).tolist(), (labels != 1).tolist()))
    assert found.log_loss == pytest.approx(log_loss(labels, probabilities, labels=[0, 1, 2]))
    assert found.brier == pytest.approx(
        np.mean([((row - np.eye(3)[k]) ** 2).sum() for row, k in zip(probabilities, labels, strict=True)])
    )


@settings(deadline=None)
@given(SEEDS, st.integers(2, 100))
def test_of_classes_that_do_not_exclude_each_other_every_answer_counts(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, targets = rng.random((count, 3)), rng.random((count, 3)) < 0.5
    found = reliability(probabilities, targets, good=None, exclusive=False)
    assert sum(one.count for one in found.bins) == 3 * count
    columns = range(3)
    assert found.brier == pytest.approx(
        sum(brier_score_loss(targets[:, c], probabilities[:, c], pos_label=True) for c in columns)
    )
    assert found.log_loss == pytest.approx(
        sum(log_loss(targets[:, c], probabilities[:, c], labels=[False, True]) for c in columns)
    )
    assert (found.defect_error, found.defect_bins) == (None, ())


def test_what_was_stated_as_impossible_and_is_true_costs_much_but_not_everything() -> None:
    found = reliability(np.array([[1.0, 0.0]]), np.array([[False, True]]), good=None, exclusive=True)
    assert 20 < found.log_loss < 30


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        reliability(np.zeros((0, 2)), np.zeros((0, 2), bool), good=None, exclusive=True)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.5, 0.999))
def test_bounds_are_scipys_exact_ones(count: int, more: int, confidence: float) -> None:
    of = count + more
    exact = binomtest(count, of).proportion_ci(confidence, method="exact")
    assert clopper_pearson(count, of, confidence) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert clopper_pearson(of, of, confidence)[1] == 1
    one_sided = binomtest(count, of, alternative="less").proportion_ci(confidence, method="exact")
    bound = upper_bound(count, of, confidence)
    assert bound == pytest.approx(one_sided.high, abs=1e-9)
    assert tail(count, of, bound) == pytest.approx(1 - confidence, abs=1e-9)
    assert tail(count, of, 0.3) == pytest.approx(binomtest(count, of, 0.3, alternative="less").pvalue)


def test_where_nothing_was_looked_at_every_share_is_possible() -> None:
    assert clopper_pearson(0, 0) == (0, 1)
