"""Intervals against scipy's bootstrap and the normal approximation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from inspection_models.metrics.bootstrap import Interval, bootstrap, mean_interval, paired_difference
from inspection_models.metrics.errors import MetricError


def test_the_interval_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    found = mean_interval(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, random_state=1)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)
    assert found.of == 60


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(5)
    covered = [(one := mean_interval(rng.normal(size=50), seed=number)).low <= 0 <= one.high for number in range(200)]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_pairs_are_kept_together() -> None:
    rng = np.random.default_rng(2)
    cases = rng.normal(scale=10, size=40)
    better, worse = cases + 0.5 + 0.01 * rng.normal(size=40), cases
    difference = paired_difference(better, worse)
    assert difference.excludes_zero
    assert difference.low == pytest.approx(0.5, abs=0.02)
    assert difference.high == pytest.approx(0.5, abs=0.02)
    assert paired_difference(worse, better).high < 0
    assert not paired_difference(better, rng.permutation(worse)).excludes_zero


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).random(30)
    assert mean_interval(values, seed=4) == mean_interval(values, seed=4)
    assert mean_interval(values, seed=4) != mean_interval(values, seed=5)


def test_one_case_has_an_interval_of_no_width() -> None:
    assert mean_interval([0.25]) == Interval(0.25, 0.25, 0.25, 1, 1)


def test_a_single_group_is_no_proof_of_a_difference() -> None:
    alone = mean_interval([0.1, 0.9, 0.4], groups=["tile"] * 3)
    assert (alone.low, alone.high, alone.of, alone.groups) == (alone.value, alone.value, 3, 1)
    assert not alone.excludes_zero
    assert mean_interval([0.1, 0.9, 0.4]).excludes_zero


def test_resamples_without_a_figure_do_not_count() -> None:
    def undefined_for_many(cases: np.ndarray) -> float:
        return float("nan") if 0 in cases[:1] else 2.0

    found = bootstrap(undefined_for_many, 3)
    assert (found.low, found.high) == (2.0, 2.0)


def test_cases_of_one_group_count_as_one_when_resampled() -> None:
    parts = np.random.default_rng(7).normal(size=20)
    alone = mean_interval(parts)
    photographed_often = mean_interval(np.repeat(parts, 9), groups=np.repeat(np.arange(20), 9).tolist())
    assert (photographed_often.low, photographed_often.high) == pytest.approx((alone.low, alone.high))
    naive = mean_interval(np.repeat(parts, 9))
    assert naive.high - naive.low < (alone.high - alone.low) / 2
    assert photographed_often.of == 180


def test_groups_of_unequal_size_weigh_as_their_cases_do() -> None:
    values, groups = [1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]
    found = mean_interval(values, groups=groups)
    assert found.value == 2.0
    # Of the draws aa, ab, ba, bb the first and the last are a quarter each, beyond the interval's 2.5 per cent.
    assert (found.low, found.high) == (1.0, 5.0)
    assert mean_interval(values) == mean_interval(values, groups=["a", "b", "c", "d"])


def test_no_cases_and_unequal_pairs_are_refused() -> None:
    with pytest.raises(MetricError, match="no cases"):
        mean_interval([])
    with pytest.raises(MetricError, match="paired"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(MetricError, match="3 cases need as many groups, not 2"):
        mean_interval([1.0, 2.0, 3.0], groups=["a", "b"])
