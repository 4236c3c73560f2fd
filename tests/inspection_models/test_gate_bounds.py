"""Bounds of rates and paired differences, against literal definitions and SciPy's own exact intervals."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from inspection_models.gate.bounds import (
    Bounds,
    clopper_pearson,
    combined,
    effective_parts,
    further_parts,
    mcnemar,
    paired_difference,
)


@given(st.lists(st.sampled_from("abcdef"), max_size=40))
def test_images_are_worth_as_many_parts_as_kish_says(groups: list[str]) -> None:
    sizes = Counter(groups).values()
    worth = sum(sizes) ** 2 / sum(size**2 for size in sizes) if groups else 0
    assert effective_parts(groups) == pytest.approx(worth)
    assert effective_parts(groups) <= len(set(groups)) + 1e-9


def test_equal_groups_are_worth_their_number_and_single_images_themselves() -> None:
    assert effective_parts(["a"] * 6 + ["b"] * 6) == 2
    assert effective_parts(range(17)) == 17


@settings(max_examples=60)
@given(of=st.integers(1, 400), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_clopper_pearson_is_that_of_scipy(of: int, share: float, confidence: float) -> None:
    count = round(share * of)
    found = clopper_pearson(count, of, confidence)
    # Two one-sided bounds of 95 % are a two-sided interval of 90 %.
    exact = binomtest(count, of).proportion_ci(2 * confidence - 1, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.value == count / of
    if count < of:
        assert binom.cdf(count, of, found.high) == pytest.approx(1 - confidence)


def test_no_errors_in_300_still_means_up_to_one_per_cent() -> None:
    assert clopper_pearson(0, 300, 0.95).high == pytest.approx(1 - 0.05 ** (1 / 300))
    assert clopper_pearson(0, 300, 0.95).low == 0
    assert clopper_pearson(300, 300, 0.95).high == 1


@pytest.mark.parametrize(("count", "of"), [(1, 0), (-1, 4), (5, 4), (0, 0)])
def test_a_rate_of_nothing_is_refused(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="has no interval"):
        clopper_pearson(count, of, 0.95)


def literal_tango(first_only: int, second_only: int, of: int, z: float) -> tuple[float, float]:
    """Every difference on a fine grid is kept whose score lies within z, the other probability being searched for."""
    kept = []
    both = of - first_only - second_only
    for difference in np.linspace(-0.999, 0.999, 3997):
        # p21 is the probability that the second alone is so; p12 = p21 + difference.
        low, high = max(0.0, -difference), (1 - difference) / 2
        candidates = np.linspace(low, high, 4001)[1:-1]
        with np.errstate(divide="ignore"):
            likelihood = (
                first_only * np.log(candidates + difference)
                + second_only * np.log(candidates)
                + both * np.log(1 - 2 * candidates - difference)
            )
        likelihood = np.where(np.isfinite(likelihood), likelihood, -np.inf)
        likeliest = candidates[int(np.argmax(likelihood))]
        variance = of * (2 * likeliest + difference - difference**2)
        if abs(first_only - second_only - of * difference) <= z * math.sqrt(variance):
            kept.append(difference)
    return min(kept), max(kept)


@pytest.mark.parametrize(("first", "second", "of"), [(12, 3, 44), (1, 1, 20), (0, 4, 30), (7, 0, 60), (2, 9, 25)])
def test_tangos_bounds_are_those_of_a_search_over_all_differences(first: int, second: int, of: int) -> None:
    found = paired_difference(first, second, of, 0.95)
    assert (found.low, found.high) == pytest.approx(literal_tango(first, second, of, norm.ppf(0.95)), abs=1.5e-3)


def test_without_disagreement_the_bounds_are_still_no_point() -> None:
    z = norm.ppf(0.95)
    found = paired_difference(0, 0, 100, 0.95)
    assert found.value == 0
    assert found.high == pytest.approx(z**2 / (100 + z**2))
    assert found.low == -found.high


@settings(max_examples=100)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60), st.floats(0.55, 0.999))
def test_swapped_rates_mirror_their_difference(first: int, second: int, agreeing: int, confidence: float) -> None:
    of = first + second + agreeing
    found = paired_difference(first, second, of, confidence)
    swapped = paired_difference(second, first, of, confidence)
    assert swapped == found.mirrored()
    assert -1 <= found.low <= found.value <= found.high <= 1


@settings(max_examples=50)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 80))
def test_one_disagreement_more_never_makes_a_bound_better(first: int, second: int, agreeing: int) -> None:
    of = first + second + agreeing
    before, after = paired_difference(first, second, of, 0.95), paired_difference(first + 1, second, of, 0.95)
    assert after.high > before.high - 1e-12


def test_more_disagreement_than_cases_is_refused() -> None:
    for wrong in ((3, 3, 5), (-1, 0, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="cannot disagree"):
            paired_difference(*wrong, 0.95)


@pytest.mark.slow
def test_the_upper_bound_holds_as_often_as_it_says() -> None:
    """Of all outcomes of 40 pairs, those whose bound lies below the truth are about 5 in 100 likely, never 9."""
    of, p12, p21 = 40, 0.06, 0.02
    missed = 0.0
    for first, second in itertools.product(range(of + 1), repeat=2):
        if first + second > of:
            continue
        both = of - first - second
        chance = (
            math.comb(of, first) * math.comb(of - first, second) * p12**first * p21**second * (1 - p12 - p21) ** both
        )
        if chance > 1e-9 and paired_difference(first, second, of, 0.95).high < p12 - p21:
            missed += chance
    assert missed < 0.09


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_adds_up_the_binomial_tails(first: int, second: int) -> None:
    of = first + second
    tail = sum(math.comb(of, k) for k in range(min(first, second) + 1)) / 2**of
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))


def test_independent_bounds_add_by_squares_and_others_as_they_are() -> None:
    one, other = Bounds(0.5, 0.4, 0.8), Bounds(0.7, 0.6, 0.8)
    free = combined([one, other], independent=True)
    assert free.value == pytest.approx(0.6)
    assert free.low == pytest.approx(0.6 - math.sqrt(0.1**2 + 0.1**2) / 2)
    assert free.high == pytest.approx(0.6 + math.sqrt(0.3**2 + 0.1**2) / 2)
    tied = combined([one, other], independent=False)
    assert (tied.low, tied.high) == pytest.approx((0.5, 0.8))
    with pytest.raises(ValueError, match="nothing"):
        combined([], independent=True)


@settings(max_examples=40)
@given(count=st.integers(0, 5), of=st.integers(5, 200), limit=st.floats(0.01, 0.4))
def test_as_many_parts_more_as_it_takes_and_not_one_less(count: int, of: int, limit: float) -> None:
    def bound(times: float) -> float:
        return clopper_pearson(count * times, of * times, 0.95).high

    found = further_parts(bound, limit, of)
    if found is None:
        assert count / of > limit * 0.98
    elif found == 0:
        assert bound(1.0) <= limit
    else:
        assert bound((of + found) / of) <= limit * (1 + 1e-6)
        assert bound((of + found - 1) / of) > limit * (1 - 1e-6)


def test_299_parts_without_an_escape_show_one_per_cent() -> None:
    def bound(times: float) -> float:
        return clopper_pearson(0, 100 * times, 0.95).high

    assert further_parts(bound, 0.01, 100) == 299 - 100
