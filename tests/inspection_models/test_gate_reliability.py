"""Calibration figures and their resampling, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models.gate.reliability import (
    BINS,
    calibration_error,
    log_losses,
    reliability_bins,
    squared_errors,
)
from inspection_models.gate.resampling import RESAMPLES, GroupResamples, weighted_mean

statements = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0]), st.booleans()), min_size=1)


def literal_error(stated: list[tuple[float, bool]]) -> float:
    """Equal statements stay together, in the bin where the middle of their mass lies."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for probability in {p for p, _ in stated}:
        below = sum(p < probability for p, _ in stated)
        tied = [one for one in stated if one[0] == probability]
        bins.setdefault(min(BINS - 1, int((below + len(tied) / 2) / len(stated) * BINS)), []).extend(tied)
    return sum(abs(sum(p for p, _ in one) - sum(hit for _, hit in one)) for one in bins.values()) / len(stated)


@settings(max_examples=150)
@given(statements)
def test_the_error_is_that_of_a_loop_over_the_bins(stated: list[tuple[float, bool]]) -> None:
    probabilities, hits = np.array([p for p, _ in stated]), np.array([hit for _, hit in stated])
    found = calibration_error(probabilities, hits, np.ones((1, len(stated))))
    assert found[0] == pytest.approx(literal_error(stated), abs=1e-12)


@settings(max_examples=80)
@given(statements, st.data())
def test_weights_are_repetitions_and_zero_is_absence(stated: list[tuple[float, bool]], data: st.DataObject) -> None:
    weights = data.draw(
        st.lists(st.integers(0, 3), min_size=len(stated), max_size=len(stated)).filter(lambda w: sum(w) > 0)
    )
    repeated = [one for one, times in zip(stated, weights, strict=True) for _ in range(times)]
    probabilities, hits = np.array([p for p, _ in stated]), np.array([hit for _, hit in stated])
    found = calibration_error(probabilities, hits, np.array([weights, [1] * len(stated)], float))
    assert found == pytest.approx([literal_error(repeated), literal_error(stated)], abs=1e-12)


def test_bins_of_equal_mass_carry_all_images() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(105)
    hits = rng.random(105) < probabilities
    bins = reliability_bins(probabilities, hits)
    assert sum(one.images for one in bins) == 105
    assert {one.images for one in bins} <= {10, 11}
    assert [one.stated for one in bins] == sorted(one.stated for one in bins)
    gap = sum(one.images * abs(one.stated - one.observed) for one in bins) / 105
    assert calibration_error(probabilities, hits, np.ones((1, 105)))[0] == pytest.approx(gap)


def test_brier_and_loss_are_their_definitions_and_finite() -> None:
    probabilities, truth = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]]), np.array([[1, 0, 0], [1, 0, 0]], bool)
    assert squared_errors(probabilities, truth) == pytest.approx([0.09 + 0.04 + 0.01, 2.0])
    exclusive = log_losses(probabilities, truth, exclusive=True)
    assert exclusive[0] == pytest.approx(-math.log(0.7))
    assert 10 < exclusive[1] < 20
    each = log_losses(probabilities, truth, exclusive=False)
    assert each[0] == pytest.approx(-math.log(0.7) - math.log(0.8) - math.log(0.9))


def test_groups_are_resampled_whole_and_their_order_decides_nothing() -> None:
    rng = np.random.default_rng(1)
    groups = [f"part {n // 3}" for n in range(60)]
    values, others = rng.random(60), rng.random(60)
    found = GroupResamples(groups, 4).paired(weighted_mean(values), weighted_mean(others), 0.95)
    assert (found.images, found.groups) == (60, 20)
    assert found.candidate.value == pytest.approx(values.mean())
    assert found.difference.value == pytest.approx(values.mean() - others.mean())
    order = rng.permutation(60)
    shuffled = GroupResamples([groups[i] for i in order], 4).paired(
        weighted_mean(values[order]), weighted_mean(others[order]), 0.95
    )
    assert shuffled.difference.low == pytest.approx(found.difference.low)
    swapped = GroupResamples(groups, 4).paired(weighted_mean(others), weighted_mean(values), 0.95)
    assert swapped.difference.low == pytest.approx(-found.difference.high)
    # Literally: draw groups, pool their images, average.
    draws = np.random.default_rng(4).multinomial(20, np.full(20, 1 / 20), RESAMPLES)
    names = sorted(set(groups))
    means = []
    for draw in draws:
        pooled = [
            value
            for name, times in zip(names, draw, strict=True)
            for _ in range(times)
            for value, group in zip(values - others, groups, strict=True)
            if group == name
        ]
        means.append(np.mean(pooled))
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])))
