"""A stated coverage: the promise holds over repeated draws, and what the data cannot show is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models.region_coverage import strictest_level
from inspection_models.risk import RiskError


def names(count: int) -> list[str]:
    return [f"part {number}" for number in range(count)]


def test_the_strictest_level_is_taken_that_keeps_to_the_bound() -> None:
    left_out = np.array([[0.0] * 19, [0.05] * 19, [0.06] * 19, [0.5] * 19])
    # (19 * 0.05 + 1) / 20 = 0.0975 and (19 * 0.06 + 1) / 20 = 0.107.
    assert strictest_level(left_out, names(19), 0.9) == 1
    assert strictest_level(left_out, names(19), 0.89) == 2
    assert strictest_level(left_out[:1], names(19), 0.95) == 0


def test_a_threshold_counts_with_the_most_that_a_lower_one_left_out() -> None:
    left_out = np.array([[0.0] * 19, [0.9] * 19, [0.01] * 19])
    assert strictest_level(left_out, names(19), 0.9) == 0


def test_images_of_one_part_count_once() -> None:
    left_out = np.array([[0.0] * 40, [0.4] * 20 + [0.0] * 20])
    alike = ["one"] * 20 + names(20)
    # The one part leaves out 0.4: (0.4 + 1) / 22 = 0.064. Counted twenty times it were (8 + 1) / 41 = 0.22.
    assert strictest_level(left_out, alike, 0.9) == 1


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.95, 19), (0.5, 1), (0.99, 99)])
def test_too_few_parts_are_refused_with_the_number_needed(coverage: float, needed: int) -> None:
    perfect = np.zeros((1, needed))
    assert strictest_level(perfect, names(needed), coverage) == 0
    with pytest.raises(RiskError, match=rf"cannot be shown on {needed - 1} .*: {needed} are needed"):
        strictest_level(perfect[:, 1:], names(needed - 1), coverage)


def test_a_coverage_that_is_not_reached_is_refused_with_the_one_that_is() -> None:
    with pytest.raises(RiskError, match=r"not reached: .* show 66\.5 %"):
        strictest_level(np.full((2, 19), 0.3), names(19), 0.9)
    for coverage in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(RiskError, match="must lie above 0"):
            strictest_level(np.zeros((1, 50)), names(50), coverage)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.7, 0.8, 0.9)), st.integers(12, 40))
def test_no_stricter_level_would_do(seed: int, coverage: float, parts: int) -> None:
    left_out = np.sort(np.random.default_rng(seed).beta(0.3, 3, (12, parts)), axis=0)
    left_out[0] = 0
    level = strictest_level(left_out, names(parts), coverage)
    bounds = (left_out.sum(axis=1) + 1) / (parts + 1)
    assert bounds[level] <= 1 - coverage
    assert level == 11 or bounds[level + 1] > 1 - coverage


@pytest.mark.slow
def test_over_repeated_draws_new_parts_are_covered_as_stated() -> None:
    """4,000 draws of 20 parts and one new one, of which the expected share left out is to be at most 20 %."""
    rng = np.random.default_rng(3)
    thresholds = np.linspace(0, 1, 21)[:, None]
    found = []
    for _ in range(4000):
        # Each part is covered by so much of its defect as has a probability above the threshold.
        left_out = np.clip((thresholds / rng.beta(2, 2, 21)) ** 3, 0, 1)
        level = strictest_level(left_out[:, :20], names(20), 0.8)
        found.append(left_out[level, 20])
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) <= 0.2 + 3 * error
    # It is not kept by being timid: the bound is off by at most 1 / (n + 1) and a step of the levels.
    assert np.mean(found) >= 0.2 - 0.12
