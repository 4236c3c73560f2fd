"""What one rule says of a figure: it passes or fails by a bound, or cannot tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inspection_models.gate.bounds import Bounds, clopper_pearson, combined, further_parts, paired_difference
from inspection_models.gate.resampling import FEWEST_GROUPS, PairedFigure

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection_models.gate.comparison import Comparison, PairedRate
    from inspection_models.gate.explanations import ExplanationComparison

Outcome = Literal["pass", "fail", "cannot tell", "not asked"]

_WHAT = {
    "escapes": "escapes",
    "overkill": "overkill",
    "review": "share sent to review",
    "balanced_accuracy": "balanced accuracy",
    "error": "calibration error",
    "brier": "Brier score",
    "ap": "average precision of the maps",
    "ebpg": "EBPG of the maps",
}


@dataclass(frozen=True)
class RuleOutcome:
    """What one rule says.

    Attributes:
        rule: its name in the file, ``table.key``.
        says: what it asks for, in words.
        outcome: ``cannot tell`` where the data does not support an answer, ``not asked`` where it has none to give.
        because: the reason, in words with numbers.
        limit: the share that it states; None for rules without one.
        measured: the figure that was held against the limit; None where there is none.
        further_parts: independent parts that it would take beyond those at hand to pass, if they came out alike; None
            where that says nothing.
    """

    rule: str
    says: str
    outcome: Outcome
    because: str
    limit: float | None = None
    measured: Bounds | None = None
    further_parts: int | None = None


def judge_rate(rule: str, key: str, limit: float, comparison: Comparison) -> RuleOutcome:
    """Escapes, overkill or review, by the table that the rule stands in."""
    table = rule.partition(".")[0]
    says = _asks(table, key, limit)
    found: PairedRate | None = getattr(comparison, table)
    if found is None:
        if comparison.candidate.good_class is None and comparison.service.good_class is None:
            return RuleOutcome(rule, says, "not asked", "neither model has a good class", limit)
        what = "a defect" if table == "escapes" else "a good part"
        if key == "at_most":
            further = further_parts(lambda parts: clopper_pearson(0, parts, comparison.confidence).high, limit, 1.0)
        else:
            further = further_parts(
                lambda parts: paired_difference(0, 0, parts, comparison.confidence).high, limit, 1.0
            )
        # They count from one part, of which there is none.
        further = None if further is None else further + 1
        return RuleOutcome(rule, says, "cannot tell", f"no image of the set shows {what}", limit, None, further)
    scale = found.parts / found.of
    if key == "at_most":
        count = min(found.parts, found.candidate_count * scale)
        because = _share_of(found.candidate_count, found.of, found.parts)
        return _held(
            rule,
            says,
            limit,
            found.candidate,
            lambda s: clopper_pearson(count * s, found.parts * s, comparison.confidence).high,
            found.parts,
            because,
        )
    sides = found.candidate_only * scale, found.service_only * scale
    because = (
        f"{found.candidate_count} against {found.service_count} of {found.of}; "
        f"{found.candidate_only} by the candidate alone, {found.service_only} by the other alone"
    )
    return _held(
        rule,
        says,
        limit,
        found.difference,
        lambda s: paired_difference(sides[0] * s, sides[1] * s, found.parts * s, comparison.confidence).high,
        found.parts,
        because,
    )


def judge_balanced_accuracy(rule: str, key: str, limit: float, comparison: Comparison) -> RuleOutcome:
    """The mean recall of the classes."""
    says = _asks("balanced_accuracy", key, limit)
    found = comparison.balanced_accuracy
    if found is None:
        return RuleOutcome(rule, says, "cannot tell", "no image of the set is of a class that both models know", limit)
    rates, confidence = list(comparison.recall.values()), comparison.confidence
    parts = sum(rate.parts for rate in rates)
    because = (
        f"{_percent(found.candidate.value)} against {_percent(found.service.value)}, mean of {found.classes} classes"
    )

    def lower(times: float) -> Bounds:
        components = []
        for rate in rates:
            scale = rate.parts / rate.of
            if key == "at_least":
                count = min(rate.parts, rate.candidate_count * scale)
                components.append(clopper_pearson(count * times, rate.parts * times, confidence))
            else:
                sides = rate.candidate_only * scale * times, rate.service_only * scale * times
                components.append(paired_difference(*sides, rate.parts * times, confidence))
        return combined(components, independent=found.independent)

    # More is better here, so what the rule bounds is the negative.
    measured = found.candidate if key == "at_least" else found.difference
    held = _held(
        rule,
        says,
        -limit if key == "at_least" else limit,
        measured.mirrored(),
        lambda times: -lower(times).low,
        parts,
        because,
    )
    return RuleOutcome(rule, says, held.outcome, held.because, limit, measured, held.further_parts)


def judge_calibration(rule: str, key: str, limit: float, comparison: Comparison) -> RuleOutcome:
    """Calibration error or Brier score: of any defect, or of the decided class where no class is good."""
    name, _, how = key.partition("_")
    says = _asks(name, how, limit)
    if not comparison.calibration:
        return RuleOutcome(rule, says, "cannot tell", "no image of the set is of a class that both models know", limit)
    view = comparison.calibration[0]
    found = view.error if name == "error" else view.brier
    if found is None:
        return RuleOutcome(
            rule, says, "cannot tell", "the models' classes differ, so their scores do not compare", limit
        )
    of = "of any defect" if view.of == "defect" else "of the most probable class"
    because = f"{found.candidate.value:.3f} against {found.service.value:.3f}, {of}"
    return _resampled(rule, says, limit, found, because, of_candidate=how == "at_most", higher_is_better=False)


def judge_explanations(rule: str, key: str, limit: float, explanations: ExplanationComparison) -> RuleOutcome:
    """Where the maps point."""
    name, _, how = key.partition("_")
    says = _asks(name, how, limit)
    if not explanations.marked:
        return RuleOutcome(rule, says, "not asked", "no defect of the set is marked by a mask or a box", limit)
    found = explanations.figures.get(name)
    if found is None:
        because = f"none of {explanations.marked} images with a marked defect is decided rightly by both models"
        return RuleOutcome(rule, says, "cannot tell", because, limit)
    because = (
        f"{_percent(found.candidate.value)} against {_percent(found.service.value)} on {found.images} images that both "
        "decide rightly"
    )
    return _resampled(rule, says, limit, found, because, of_candidate=False, higher_is_better=True)


def _resampled(
    rule: str,
    says: str,
    limit: float,
    found: PairedFigure,
    because: str,
    *,
    of_candidate: bool,
    higher_is_better: bool,
) -> RuleOutcome:
    measured = found.candidate if of_candidate else found.difference
    if found.groups < FEWEST_GROUPS:
        reason = f"{because}; bounds of {found.groups} independent parts are too narrow, it takes {FEWEST_GROUPS}"
        return RuleOutcome(rule, says, "cannot tell", reason, limit, measured, FEWEST_GROUPS - found.groups)
    turned = measured.mirrored() if higher_is_better else measured
    held = _held(
        rule,
        says,
        limit,
        turned,
        lambda times: turned.value + (turned.high - turned.value) / math.sqrt(times),
        found.groups,
        because,
    )
    return RuleOutcome(rule, says, held.outcome, held.because, limit, measured, held.further_parts)


def _held(
    rule: str,
    says: str,
    limit: float,
    measured: Bounds,
    bound_at: Callable[[float], float],
    parts: float,
    because: str,
) -> RuleOutcome:
    """Hold a figure of which less is better against the most that it may be."""
    if measured.high <= limit:
        return RuleOutcome(rule, says, "pass", because, limit, measured)
    if measured.low > limit:
        return RuleOutcome(rule, says, "fail", because, limit, measured)
    return RuleOutcome(rule, says, "cannot tell", because, limit, measured, further_parts(bound_at, limit, parts))


def _asks(what: str, how: str, limit: float) -> str:
    words = {"at_most": "at most", "at_least": "at least", "not_worse_by": "not worse by more than"}[how]
    return f"{_WHAT[what]} {words} {_percent(limit) if what != 'brier' else f'{limit:g}'}"


def _share_of(count: int, of: int, parts: float) -> str:
    worth = "" if math.isclose(parts, of) else f", worth {parts:.1f} independent parts"
    return f"{count} of {of}{worth}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
