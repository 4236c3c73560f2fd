"""Risk: the promise holds in repeated draws, the bounds are exact, and what the data cannot show is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

from inspection_models.risk import Risk, RiskError, allowed_failures, highest_line, lowest_rate, parts_needed

RATES = st.floats(0.001, 0.5)
CONFIDENCES = st.floats(0.5, 0.995)
# Enough of them for any of these rates, which make no bound meet the stated rate to the last digit.
ENOUGH, SOME, SURE = 20, st.floats(0.15, 0.6).map(lambda rate: rate + 1e-4 / 3), st.floats(0.5, 0.95)
SCORES = st.lists(st.integers(0, 40).map(lambda n: n / 40), min_size=ENOUGH, max_size=120).map(
    lambda values: np.array(values, np.float32)
)


def drawn(scores: np.ndarray, risk: Risk, limit: float = 1.0) -> float:
    return highest_line(scores.astype(np.float32), risk, limit, "escapes", "defective").value


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"), [(0.005, 0.95, 598), (0.01, 0.95, 299), (0.001, 0.99, 4603), (0.05, 0.9, 45)]
)
def test_how_many_parts_are_needed_is_what_tables_say(rate: float, confidence: float, needed: int) -> None:
    assert parts_needed(Risk(rate, confidence)) == needed


@settings(deadline=None)
@given(RATES, CONFIDENCES)
@example(0.5, 0.5000000000000001)
def test_one_part_fewer_than_needed_shows_nothing(rate: float, confidence: float) -> None:
    risk = Risk(rate, confidence)
    needed = parts_needed(risk)
    assert allowed_failures(needed, risk) >= 0
    assert needed == 1 or allowed_failures(needed - 1, risk) == -1
    assert lowest_rate(needed, confidence) <= rate * (1 + 1e-9)


@pytest.mark.parametrize("rate", [1 / 49, 1 / 3, 0.07])
def test_a_rate_on_average_needs_as_many_parts_as_it_is_shown_on(rate: float) -> None:
    needed = parts_needed(Risk(rate, None))
    assert allowed_failures(needed, Risk(rate, None)) >= 0
    assert allowed_failures(needed - 1, Risk(rate, None)) == -1


@settings(deadline=None)
@given(st.integers(1, 3000), RATES, CONFIDENCES)
def test_the_failures_allowed_are_the_most_whose_exact_bound_keeps_to_the_rate(
    parts: int, rate: float, confidence: float
) -> None:
    allowed = allowed_failures(parts, Risk(rate, confidence))
    assert binom.cdf(allowed + 1, parts, rate) > 1 - confidence - 1e-9
    if allowed >= 0:
        assert binom.cdf(allowed, parts, rate) <= 1 - confidence + 1e-9
        bound = binomtest(allowed, parts, alternative="less").proportion_ci(confidence, method="exact").high
        assert bound <= rate * (1 + 1e-6)


def exhaustive(scores: np.ndarray, risk: Risk) -> float:
    """Fixed-sequence testing to the letter: every line from the safest on, until a bound is above the rate."""
    best = 0.0
    for line in sorted({*scores.tolist(), 1.0}):
        failures = int((scores < line).sum())
        bound = 1.0 if failures == len(scores) else beta.ppf(risk.confidence, failures + 1, len(scores) - failures)
        if bound > risk.rate * (1 + 1e-12):
            break
        best = line
    return best


@settings(deadline=None)
@given(SCORES, SOME, SURE)
def test_the_line_is_that_of_testing_one_line_after_another(scores: np.ndarray, rate: float, confidence: float) -> None:
    risk = Risk(rate, confidence)
    assert drawn(scores, risk) == exhaustive(scores, risk)


@pytest.mark.slow
@settings(deadline=None)
@given(SCORES, SOME, SOME, SURE, SURE)
def test_more_risk_and_less_confidence_never_lower_the_line(
    scores: np.ndarray, rate: float, other_rate: float, confidence: float, other: float
) -> None:
    strict = Risk(min(rate, other_rate), max(confidence, other))
    loose = Risk(max(rate, other_rate), min(confidence, other))
    assert drawn(scores, strict) <= drawn(scores, loose)


@settings(deadline=None)
@given(SCORES, SOME, SURE, st.integers(0, 119), st.floats(0, 1, width=32))
def test_a_part_that_looks_more_defective_never_lowers_the_line(
    scores: np.ndarray, rate: float, confidence: float, place: int, score: float
) -> None:
    risk = Risk(rate, confidence)
    raised = scores.copy()
    place %= len(scores)
    raised[place] = max(raised[place], score)
    assert drawn(raised, risk) >= drawn(scores, risk)


@settings(deadline=None)
@given(SCORES, SOME, SURE, st.floats(0, 1))
def test_a_line_keeps_below_its_limit_and_says_what_it_counted(
    scores: np.ndarray, rate: float, confidence: float, limit: float
) -> None:
    risk = Risk(rate, confidence)
    line = highest_line(scores, risk, limit, "escapes", "defective")
    assert line.value <= limit
    assert line.failures == (scores < line.value).sum()
    assert line.parts == len(scores)
    assert line.bound is not None
    assert line.failures / line.parts <= line.bound <= rate * (1 + 1e-9)


def steps(rng: np.random.Generator, count: int) -> np.ndarray:
    """Scores of few values, many parts on each."""
    return np.round(rng.beta(2, 1, count), 1)


WORLDS: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], Callable[[float], float]]] = {
    "continuous": (lambda rng, count: rng.beta(2, 1, count), lambda line: beta.cdf(line, 2, 1)),
    "steps": (steps, lambda line: float(beta.cdf(max(0.0, np.ceil(line * 10 - 1e-6) / 10 - 0.05), 2, 1))),
}


@pytest.mark.parametrize("world", sorted(WORLDS))
@pytest.mark.parametrize(("parts", "rate", "confidence"), [(150, 0.05, 0.9), (100, 0.03, 0.95), (400, 0.2, 0.8)])
def test_in_repeated_draws_the_promise_fails_no_more_often_than_stated(
    world: str, parts: int, rate: float, confidence: float
) -> None:
    draw, true_rate = WORLDS[world]
    rng, repeats = np.random.default_rng(5), 2000
    risk = Risk(rate, confidence)
    failed = np.mean([true_rate(drawn(draw(rng, parts), risk)) > rate for _ in range(repeats)])
    noise = 3 * np.sqrt(confidence * (1 - confidence) / repeats)
    assert failed <= 1 - confidence + noise
    if world == "continuous":
        # The order statistic is Beta distributed: the promise fails exactly so often, so it is not kept by caution.
        allowed = allowed_failures(parts, risk)
        exact = beta.sf(rate, allowed + 1, parts - allowed)
        assert failed == pytest.approx(exact, abs=noise)
        assert exact > (1 - confidence) / 4


def test_on_average_the_rate_is_kept_without_a_confidence() -> None:
    rng, risk = np.random.default_rng(3), Risk(0.1, None)
    for parts in (9, 25, 100):
        rates = [beta.cdf(drawn(rng.beta(2, 1, parts), risk), 2, 1) for _ in range(3000)]
        assert np.mean(rates) <= 0.1 + 3 * np.std(rates) / np.sqrt(3000)
        assert np.mean(rates) >= 0.05


def test_without_a_confidence_few_parts_give_the_lowest_rate_that_they_allow() -> None:
    line = highest_line(np.array([0.4, 0.2, 0.9], np.float32), Risk(0.02, None), 0.5, "escapes", "defective")
    assert (line.value, line.failures, line.parts, line.rate, line.bound) == (pytest.approx(0.2), 0, 3, 0.25, None)


def test_too_few_parts_are_refused_with_what_is_needed_and_what_they_show() -> None:
    with pytest.raises(RiskError) as refused:
        drawn(np.full(48, 0.9), Risk(0.005))
    for part in (
        "at most 0.5 % escapes with 95 % confidence",
        "48 independent defective parts",
        "598",
        "6.05 % at best",
    ):
        assert part in str(refused.value)
    assert drawn(np.full(48, 0.9), Risk(0.0606)) == pytest.approx(0.9)
    with pytest.raises(RiskError, match="no defective parts"):
        drawn(np.array([]), Risk(0.1, None))


@pytest.mark.parametrize(
    ("rate", "confidence", "message"),
    [(0, 0.95, "stated rate"), (1, 0.95, "stated rate"), (0.1, 1, "confidence"), (0.1, 0, "confidence")],
)
def test_risks_out_of_range_are_refused(rate: float, confidence: float, message: str) -> None:
    with pytest.raises(RiskError, match=message):
        Risk(rate, confidence)
