"""The verdict: what passes, what fails, and what cannot be told from so few images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models.gate import ExplanationComparison, GateVerdict, RuleOutcome, compare, judge, parse_rules
from inspection_models.gate.resampling import GroupResamples, weighted_mean
from tests.inspection_models.gate_material import answer, golden, image, model

NONE_MARKED = ExplanationComparison(0, {}, (), {})
HASH = "ab" * 32


def judged(
    text: str,
    truth: Sequence[str],
    new: Sequence[str],
    old: Sequence[str],
    *,
    maps: ExplanationComparison = NONE_MARKED,
    groups: Sequence[str] | None = None,
    sure: tuple[float, float] = (0.99, 0.99),
    **of_set: Any,
) -> GateVerdict:
    images = [image(n, label, None if groups is None else groups[n]) for n, label in enumerate(truth)]
    rules = parse_rules(text, "r")
    comparison = compare(
        model([answer(label, sure[0]) for label in new]),
        model([answer(label, sure[1]) for label in old], "b"),
        images,
        confidence=rules.confidence,
    )
    return judge(rules, comparison, golden(images, **of_set), maps, HASH)


def only(verdict: GateVerdict) -> RuleOutcome:
    [one] = verdict.outcomes
    return one


def cracks(escaped: int, of: int) -> tuple[list[str], list[str]]:
    return ["crack"] * of, ["good"] * escaped + ["crack"] * (of - escaped)


@pytest.mark.parametrize(
    ("escaped", "of", "outcome", "further"),
    [
        (0, 149, "pass", None),
        (0, 148, "cannot tell", 1),
        (0, 100, "cannot tell", 49),
        (1, 149, "cannot tell", None),
        (8, 149, "fail", None),
    ],
)
def test_at_most_is_judged_by_the_exact_bound(escaped: int, of: int, outcome: str, further: int | None) -> None:
    truth, said = cracks(escaped, of)
    verdict = judged("[escapes]\nat_most = 0.02\n", truth, said, said)
    one = only(verdict)
    assert one.outcome == outcome
    assert verdict.release == (outcome == "pass")
    assert verdict.words == ("release" if outcome == "pass" else "do not release")
    if further is not None:
        assert one.further_parts == further
    elif outcome == "cannot tell":
        assert one.further_parts is not None
        assert one.further_parts > 0


def test_a_candidate_no_worse_on_paper_is_not_released_on_twenty_images() -> None:
    truth, said = cracks(0, 20)
    one = only(judged("[escapes]\nnot_worse_by = 0.02\n", truth, said, said))
    assert one.outcome == "cannot tell"
    # Tango's bound without disagreement is z^2 / (n + z^2) with z = 1.645.
    assert one.further_parts == math.ceil(1.6448536**2 * (1 / 0.02 - 1)) - 20


def test_a_worse_candidate_fails_and_a_better_one_passes() -> None:
    truth, worse = cracks(30, 200)
    _, better = cracks(0, 200)
    rule = "[escapes]\nnot_worse_by = 0.02\n"
    assert only(judged(rule, truth, worse, better)).outcome == "fail"
    passed = only(judged(rule, truth, better, worse))
    assert passed.outcome == "pass"
    assert passed.measured is not None
    assert passed.measured.value == -0.15


def test_alike_images_are_no_evidence() -> None:
    truth, said = cracks(0, 200)
    groups = [f"part {n // 10}" for n in range(200)]
    one = only(judged("[escapes]\nat_most = 0.02\n", truth, said, said, groups=groups))
    assert (one.outcome, one.further_parts) == ("cannot tell", 149 - 20)
    assert "worth 20.0 independent parts" in one.because


def test_sending_everything_to_a_person_is_no_way_out() -> None:
    images = [image(n) for n in range(200)]
    rules = parse_rules("[review]\nat_most = 0.2\n", "r")
    new = model([answer("crack", 0.6, "review")] * 200)
    comparison = compare(new, model([answer("crack")] * 200), images)
    assert comparison.escapes is not None
    assert comparison.escapes.candidate_count == 0
    assert only(judge(rules, comparison, golden(images), NONE_MARKED, HASH)).outcome == "fail"


def test_balanced_accuracy_is_bounded_from_below() -> None:
    truth = ["crack"] * 100 + ["good"] * 100 + ["pit"] * 100
    rule = "[balanced_accuracy]\nat_least = 0.95\nnot_worse_by = 0.02\n"
    verdict = judged(rule, truth, truth, truth)
    assert verdict.release
    wrong = [*truth[:-40], *["crack"] * 40]
    least, worse = judged(rule, truth, wrong, truth).outcomes
    assert (least.outcome, worse.outcome) == ("fail", "fail")
    assert least.measured is not None
    assert least.measured.value == pytest.approx((1 + 1 + 0.6) / 3)
    assert least.limit == 0.95
    few = truth[90:110] + truth[200:210]
    least, worse = judged(rule, few, few, few).outcomes
    assert (least.outcome, worse.outcome) == ("cannot tell", "cannot tell")
    assert least.further_parts
    # As many parts more would do, and a few less would not.
    enough = {label: math.ceil(10 * (30 + least.further_parts) / 30) for label in ("crack", "good", "pit")}
    assert judged(rule, *[[label for label, n in enough.items() for _ in range(n)]] * 3).outcomes[0].outcome == "pass"
    enough = {label: n - 3 for label, n in enough.items()}
    short = judged(rule, *[[label for label, n in enough.items() for _ in range(n)]] * 3).outcomes[0]
    assert short.outcome == "cannot tell"


def test_calibration_needs_twenty_parts_and_a_bound() -> None:
    truth = ["crack", "good"] * 100
    rule = "[calibration]\nerror_not_worse_by = 0.05\nerror_at_most = 0.05\nbrier_not_worse_by = 0.05\n"
    assert judged(rule, truth, truth, truth).release
    outcomes = judged(rule, truth, truth, truth, sure=(0.6, 0.99)).outcomes
    assert {one.rule: one.outcome for one in outcomes} == {
        "calibration.error_at_most": "fail",
        "calibration.error_not_worse_by": "fail",
        "calibration.brier_not_worse_by": "fail",
    }
    few = judged("[calibration]\nerror_not_worse_by = 0.05\n", truth[:19], truth[:19], truth[:19])
    assert only(few).outcome == "cannot tell"
    assert only(few).further_parts == 1


def maps(values: Sequence[float], others: Sequence[float]) -> ExplanationComparison:
    resamples = GroupResamples([str(n) for n in range(len(values))], 0)
    figure = resamples.paired(weighted_mean(np.array(values)), weighted_mean(np.array(others)), 0.95)
    return ExplanationComparison(len(values), {}, (), {"ap": figure, "ebpg": figure})


def test_maps_are_asked_about_only_where_defects_are_marked() -> None:
    truth, said = cracks(0, 200)
    rule = "[explanations]\nap_not_worse_by = 0.05\n"

    def outcome(explained: ExplanationComparison) -> RuleOutcome:
        return judged(rule, truth, said, said, maps=explained).outcomes[0]

    assert outcome(NONE_MARKED).outcome == "not asked"
    assert outcome(ExplanationComparison(7, {}, (), {})).outcome == "cannot tell"
    assert outcome(maps([0.5] * 30, [0.52] * 30)).outcome == "pass"
    assert outcome(maps([0.4] * 30, [0.52] * 30)).outcome == "fail"
    assert outcome(maps([0.5] * 19, [0.5] * 19)).outcome == "cannot tell"


def test_a_file_of_rules_that_cannot_be_asked_is_no_release() -> None:
    truth, said = cracks(0, 200)
    verdict = judged("[explanations]\nap_not_worse_by = 0.05\n", truth, said, said)
    assert not verdict.release
    assert [(one.rule, one.outcome) for one in verdict.against] == [("limits", "cannot tell")]
    assert "no defect of the set is marked" in verdict.against[0].because


@pytest.mark.parametrize("data", ["", "[data]\nunseen = true\nkeeps_classes = true\n", f"[data]\nsha256 = '{HASH}'\n"])
def test_what_is_known_of_the_data_alone_releases_no_candidate(data: str) -> None:
    classes = ("crack", "pit")
    images = [image(n, "crack") for n in range(200)]
    # It decides every single image wrongly.
    new = model([answer("pit", classes=classes)] * 200, classes=classes)
    old = model([answer("crack", classes=classes)] * 200, "b", classes=classes)
    rules = parse_rules(f"{data}[escapes]\nat_most = 0.02\n[overkill]\nat_most = 0.05\n", "r")
    verdict = judge(rules, compare(new, old, images), golden(images, good_name=None), NONE_MARKED, HASH)
    assert not verdict.release
    [against] = verdict.against
    assert (against.rule, against.outcome) == ("limits", "cannot tell")
    assert "none of the file is asked here (neither model has a good class)" in against.because


def test_missing_good_or_defective_parts_cannot_tell_and_say_how_many_it_takes() -> None:
    truth, said = cracks(0, 200)
    most, worse = judged("[overkill]\nat_most = 0.05\nnot_worse_by = 0.05\n", truth, said, said).outcomes
    assert (most.outcome, most.further_parts) == ("cannot tell", 59)
    assert (worse.outcome, worse.further_parts) == ("cannot tell", math.ceil(1.6448536**2 * (1 / 0.05 - 1)))
    nothing = judged("[escapes]\nat_most = 0.02\n", ["good"] * 30, ["good"] * 30, ["good"] * 30)
    assert (only(nothing).outcome, only(nothing).further_parts) == ("cannot tell", 149)


def test_models_without_a_good_class_are_not_asked_about_escapes() -> None:
    classes = ("crack", "pit")
    images = [image(n, "crack") for n in range(200)]
    side = model([answer("crack", classes=classes)] * 200, classes=classes)
    rules = parse_rules("[escapes]\nat_most = 0.02\n[balanced_accuracy]\nat_least = 0.9\n", "r")
    verdict = judge(rules, compare(side, side, images), golden(images, good_name=None), NONE_MARKED, HASH)
    assert [one.outcome for one in verdict.outcomes] == ["not asked", "pass"]
    assert verdict.release


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        ({"candidate": 0, "service": 0}, "pass"),
        ({"candidate": 3, "service": 0}, "fail"),
        ({"candidate": 0, "service": None}, "cannot tell"),
        ({"candidate": 3, "service": None}, "fail"),
    ],
)
def test_images_that_a_model_has_seen_stop_a_release(seen: dict[str, int | None], outcome: str) -> None:
    truth, said = cracks(0, 200)
    rules = "[data]\nunseen = true\n[escapes]\nat_most = 0.02\n"
    verdict = judged(rules, truth, said, said, seen=seen)
    assert verdict.outcomes[0].outcome == outcome
    assert verdict.release == (outcome == "pass")


def test_the_set_can_be_pinned_and_a_class_be_forbidden_to_escape() -> None:
    truth, said = cracks(1, 300)
    limits = "[escapes]\nat_most = 0.02\n"
    assert judged(f"{limits}[data]\nsha256 = '{HASH}'\n", truth, said, said).release
    other = judged(f"{limits}[data]\nsha256 = '{'cd' * 32}'\n", truth, said, said)
    assert [one.rule for one in other.against] == ["data.sha256"]
    never = judged(f"{limits}never = ['crack', 'pit']\n", truth, said, said)
    assert [(one.rule, one.outcome) for one in never.against] == [("escapes.never", "fail")]
    assert "crack/0.png" in never.against[0].because
    absent = judged(f"{limits}never = ['pit']\n", truth, said, said)
    assert [(one.rule, one.outcome) for one in absent.against] == [("escapes.never", "cannot tell")]


def test_a_candidate_that_forgot_a_class_is_refused() -> None:
    images = [image(n, "crack") for n in range(200)]
    fewer = model([answer("crack", classes=("crack", "good"))] * 200, classes=("crack", "good"))
    rules = parse_rules("[data]\nkeeps_classes = true\n[escapes]\nat_most = 0.02\n", "r")
    comparison = compare(fewer, model([answer("crack")] * 200), images)
    verdict = judge(rules, comparison, golden(images), NONE_MARKED, HASH)
    assert [one.because for one in verdict.against] == ["it does not know pit"]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(escapes=st.integers(0, 12), of=st.integers(20, 300), others=st.integers(0, 12))
def test_one_escape_more_never_turns_a_refusal_into_a_release(escapes: int, of: int, others: int) -> None:
    truth, said = cracks(escapes, of)
    _, more = cracks(escapes + 1, of)
    _, old = cracks(others, of)
    rule = "[escapes]\nat_most = 0.05\nnot_worse_by = 0.05\n"
    before, after = judged(rule, truth, said, old), judged(rule, truth, more, old)
    assert before.release or not after.release
