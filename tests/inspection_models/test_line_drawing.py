"""Drawing lines: parts are counted, not images, and what a card promises about them is kept by its decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models.deciding import decide
from inspection_models.line_drawing import DEFAULT_RATE, StatedRisks, draw_lines
from inspection_models.model_card import ModelCard
from inspection_models.preprocessing import Preprocessing
from inspection_models.risk import RiskError
from inspection_models.training.evaluation import Evaluation, figures_of_logits

CLASSES = ("good", "pit", "scratch")
SHA = "a" * 64


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


def world(seed: int, parts: int, images: int = 1, skill: float = 3.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Logits, truth and parts; images of one part are alike."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.choice(3, parts, p=(0.6, 0.2, 0.2)), images)
    of_part = np.repeat(rng.normal(0, 1.5, (parts, 3)), images, axis=0)
    logits = skill * np.eye(3)[labels] + of_part + rng.normal(0, 0.5, (parts * images, 3))
    groups = [f"part {number // images}" for number in range(parts * images)]
    return logits.astype(np.float32), np.eye(3, dtype=bool)[labels], groups


def with_lines(one: ModelCard, data: tuple[np.ndarray, np.ndarray, list[str]], **stated: Any) -> ModelCard:
    logits, targets, groups = data
    return draw_lines(one, [decide(one, row) for row in logits], targets, groups, StatedRisks(**stated), SHA)


def drawn(
    one: ModelCard, data: tuple[np.ndarray, np.ndarray, list[str]], **stated: Any
) -> tuple[ModelCard, Evaluation]:
    logits, targets, groups = data
    made = with_lines(one, data, **stated)
    return made, figures_of_logits(made, logits, targets, groups)


def test_stated_escapes_become_the_decision_threshold_with_where_it_comes_from() -> None:
    made, on_data = drawn(card(), world(0, 600), escapes=0.05)
    escapes, overkill = made.origins
    line = made.thresholds.review.good_below
    assert made.thresholds.decision == line == escapes.value
    assert (escapes.line, escapes.rate, escapes.confidence, escapes.data_sha256) == ("escapes", 0.05, 0.95, SHA)
    assert escapes.bound is not None
    assert escapes.bound <= 0.05
    assert on_data.escapes is not None
    assert (on_data.escapes.count, on_data.escapes.of) == (escapes.failures, escapes.parts)
    assert escapes.parts == escapes.images == 255
    assert on_data.alone.escapes == on_data.escapes
    assert (overkill.line, overkill.rate, overkill.confidence, overkill.bound) == ("overkill", DEFAULT_RATE, None, None)
    assert made.fingerprint != card().fingerprint


def test_both_risks_leave_what_lies_between_to_a_person() -> None:
    made, on_data = drawn(card(), world(1, 600, skill=2.0), escapes=0.05, overkill=0.05)
    lines = made.thresholds.review
    assert lines.good_below is not None
    assert lines.defect_from is not None
    assert lines.good_below < 0.5 < lines.defect_from
    assert on_data.alone.review.count > 0
    for rate in (on_data.alone.escapes, on_data.alone.overkill):
        assert rate is not None
        assert rate.count / rate.of <= 0.05


def test_an_image_of_a_part_that_escapes_is_an_escape_of_the_part() -> None:
    # Three parts of two images: the line must keep all but one of nine parts out, whatever their second images say.
    defect = [(0.05, 0.9), (0.9, 0.1), (0.8, 0.8), *((0.9, 0.95),) * 17, *((0.01, 0.02),) * 20]
    logits = np.array([np.log([1 - p, p * 0.9, p * 0.1]) for pair in defect for p in pair], np.float32)
    targets = np.zeros((len(logits), 3), bool)
    targets[:40, 1] = targets[40:, 0] = True
    groups = [f"part {number // 2}" for number in range(len(logits))]
    made, on_data = drawn(card(), (logits, targets, groups), escapes=0.25)
    origin = made.origins[0]
    # Of 20 parts one may fail: P(Bin(20, 0.25) <= 1) = 0.024, of two it is 0.091.
    assert (origin.parts, origin.images, origin.failures) == (20, 40, 1)
    assert origin.value == pytest.approx(0.1, abs=1e-6)
    assert on_data.alone.escapes is not None
    assert (on_data.alone.escapes.parts, on_data.alone.escapes.of_parts) == (1, 20)
    # As if they were independent, 40 images would seem to show more.
    alone, _ = drawn(card(), (logits, targets, [str(n) for n in range(len(logits))]), escapes=0.25)
    assert alone.origins[0].value > origin.value


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from(["softmax", "sigmoid"]), st.floats(0.5, 4))
def test_on_the_data_themselves_the_card_decides_as_its_origins_say(
    seed: int, images: int, activation: str, skill: float
) -> None:
    data = world(seed, 150, images, skill)
    made, on_data = drawn(card(activation=activation), data, escapes=0.2, overkill=0.2)
    for origin, rate in zip(made.origins, (on_data.alone.escapes, on_data.alone.overkill), strict=True):
        assert rate is not None
        assert (rate.parts, rate.of_parts, rate.of) == (origin.failures, origin.parts, origin.images)
        assert origin.bound is not None
        assert origin.bound <= 0.2


@pytest.mark.slow
def test_promises_are_kept_on_parts_never_seen() -> None:
    # Rates of 20,000 other parts stand for the true ones.
    logits, targets, groups = world(99, 20_000, 2)
    probability = 1 - np.exp(logits[:, 0] - np.logaddexp.reduce(logits, axis=1))
    good = targets[:, 0]
    part = np.array([int(group.split()[1]) for group in groups])

    def share(wrong: np.ndarray, among: np.ndarray) -> float:
        return len(np.unique(part[wrong & among])) / len(np.unique(part[among]))

    escapes, overkill, repeats = 0, 0, 200
    for seed in range(repeats):
        lines = with_lines(card(), world(seed, 150, 2), escapes=0.15, overkill=0.1, confidence=0.9).thresholds.review
        escapes += share(probability < lines.good_below, ~good) > 0.15
        overkill += share(probability >= lines.defect_from, good) > 0.1
    noise = 3 * np.sqrt(0.9 * 0.1 / repeats)
    assert escapes / repeats <= 0.1 + noise
    assert overkill / repeats <= 0.1 + noise
    assert escapes + overkill > 0


@pytest.mark.slow
def test_a_model_that_never_errs_asks_no_one_and_no_line_passes_even_odds() -> None:
    logits, targets, groups = world(2, 400, skill=40.0)
    made, on_data = drawn(card(), (logits, targets, groups))
    assert made.thresholds.review.good_below == made.thresholds.decision == made.thresholds.review.defect_from == 0.5
    assert on_data.alone.review.count == 0
    assert [origin.failures for origin in made.origins] == [0, 0]


def test_without_a_stated_risk_few_parts_say_which_rate_they_allow() -> None:
    made, _ = drawn(card(), world(3, 30))
    for origin in made.origins:
        assert origin.rate == 1 / (origin.parts + 1) > DEFAULT_RATE
        assert (origin.confidence, origin.bound) == (None, None)


def test_where_no_class_is_good_the_class_has_to_be_sure() -> None:
    one = card(good_class=None)
    made, on_data = drawn(one, world(4, 500, 2, skill=2.0), errors=0.05)
    (origin,) = made.origins
    assert made.thresholds.decision is None
    assert made.thresholds.review.sure_from == origin.value
    assert (origin.line, origin.parts, origin.images) == ("errors", 500, 1000)
    assert on_data.alone.errors.parts == origin.failures <= 0.05 * 500
    assert 0 < on_data.alone.review.count < 1000
    more, _ = drawn(one, world(4, 500, 2, skill=2.0), errors=0.15)
    assert more.origins[0].value < origin.value


def test_what_the_model_cannot_promise_is_refused() -> None:
    data = world(5, 60)
    for one, stated, message in (
        (card(), {"escapes": 0.005}, "598 are needed"),
        (card(), {"overkill": 0.001}, "independent good parts"),
        (card(good_class=None), {"errors": 0.01}, "60 independent parts"),
        (card(good_class=None), {"escapes": 0.1}, "need a good class"),
        (card(), {"errors": 0.1}, "state escapes and overkill"),
    ):
        with pytest.raises(RiskError, match=message):
            drawn(one, data, **stated)
    with pytest.raises(RiskError, match="stated rate"):
        StatedRisks(escapes=1.5)


def test_parts_that_are_surely_wrong_leave_no_line() -> None:
    logits, targets, groups = world(6, 200)
    logits[~targets[:, 0]] = (60, 0, 0)
    with pytest.raises(RiskError, match="no line keeps escapes to 10 %: too many of the"):
        drawn(card(), (logits, targets, groups), escapes=0.1)
    made, on_data = drawn(card(), (logits, targets, groups))
    assert made.thresholds.review.good_below == 0
    assert on_data.alone.escapes is not None
    assert on_data.alone.escapes.count == 0
    logits[targets[:, 0]] = (0, 60, 0)
    with pytest.raises(RiskError, match="no line keeps overkill to 10 %"):
        drawn(card(), (logits, targets, groups), overkill=0.1)


@pytest.mark.parametrize("stated", [{}, {"overkill": 0.005}, {"escapes": 0.005, "overkill": 0.005}])
def test_what_lies_on_even_odds_is_called_defective_and_counts_as_such(stated: dict[str, float]) -> None:
    logits = np.tile(np.float32([0, 0]), (1200, 1))
    targets = np.repeat(np.eye(2, dtype=bool), 600, axis=0)
    one = card(classes=("good", "pit"))
    made, on_data = drawn(one, (logits, targets, [str(n) for n in range(1200)]), **stated)
    escapes, overkill = made.origins
    # At a line of one half all good parts would be called defective; just above it none is.
    assert 0.5 < overkill.value < 0.500001
    assert escapes.value == 0.5
    for origin, rate in zip((escapes, overkill), (on_data.alone.escapes, on_data.alone.overkill), strict=True):
        assert rate is not None
        assert origin.failures == rate.count == 0


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([-200, -60, -1, 0, 1, 60, 200]), st.booleans()), min_size=4, max_size=60),
    st.sampled_from(["softmax", "sigmoid"]),
    st.booleans(),
)
def test_wherever_scores_tie_failures_are_those_of_the_decisions(
    seen: list[tuple[int, bool]], activation: str, has_good: bool
) -> None:
    logits = np.array([(0, score) if activation == "softmax" else (-score, score) for score, _ in seen], np.float32)
    targets = np.array([(not bad, bad) for _, bad in seen])
    targets[:2] = np.eye(2, dtype=bool)
    one = card(classes=("good", "pit"), good_class="good" if has_good else None, activation=activation)
    made, on_data = drawn(one, (logits, targets, [str(n // 2) for n in range(len(seen))]))
    alone = on_data.alone
    for origin, rate in zip(
        made.origins, (alone.escapes, alone.overkill) if has_good else (alone.errors,), strict=True
    ):
        assert rate is not None
        assert origin.failures == rate.parts
        assert origin.failures + 1 <= origin.rate * (origin.parts + 1) + 1e-9 or origin.failures == 0
