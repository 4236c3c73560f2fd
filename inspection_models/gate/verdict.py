"""Release or not: every rule held against a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection_models.gate.outcomes import (
    RuleOutcome,
    judge_balanced_accuracy,
    judge_calibration,
    judge_explanations,
    judge_rate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection_models.gate.comparison import Comparison
    from inspection_models.gate.explanations import ExplanationComparison
    from inspection_models.gate.golden import GoldenSet
    from inspection_models.gate.rules import Rules


@dataclass(frozen=True)
class GateVerdict:
    """The verdict: a release needs every rule that is asked to pass, and one with a limit among them.

    Attributes:
        release: whether the candidate may replace the model in service.
        outcomes: of all rules.
    """

    release: bool
    outcomes: tuple[RuleOutcome, ...]

    @property
    def words(self) -> str:
        """The verdict as a person says it."""
        return "release" if self.release else "do not release"

    @property
    def against(self) -> tuple[RuleOutcome, ...]:
        """The rules that stand against a release."""
        return tuple(one for one in self.outcomes if one.outcome in ("fail", "cannot tell"))


def judge(
    rules: Rules,
    comparison: Comparison,
    golden: GoldenSet,
    explanations: ExplanationComparison,
    data_sha256: str,
) -> GateVerdict:
    """Hold a comparison against the rules.

    Args:
        rules: what must be shown.
        comparison: of the decisions, with bounds of the rules' confidence.
        golden: the images that it is on.
        explanations: of the maps.
        data_sha256: hash of the data set.
    """
    outcomes = tuple(_outcomes(rules, comparison, golden, explanations, data_sha256))
    if unasked := _nothing_asked(rules, outcomes):
        return GateVerdict(release=False, outcomes=(*outcomes, unasked))
    return GateVerdict(all(one.outcome in ("pass", "not asked") for one in outcomes), outcomes)


def _nothing_asked(rules: Rules, outcomes: tuple[RuleOutcome, ...]) -> RuleOutcome | None:
    """What stands against a release where no rule with a limit was asked: nothing is known of the candidate then."""
    limits = [one for one in outcomes if one.rule in rules.limits]
    if any(one.outcome != "not asked" for one in limits):
        return None
    reasons = "; ".join(dict.fromkeys(one.because for one in limits))
    because = f"none of the file is asked here ({reasons}); add one such as balanced_accuracy.at_least"
    return RuleOutcome("limits", "a rule with a limit is asked of the candidate", "cannot tell", because)


def _outcomes(
    rules: Rules,
    comparison: Comparison,
    golden: GoldenSet,
    explanations: ExplanationComparison,
    data_sha256: str,
) -> Iterator[RuleOutcome]:
    if rules.data_sha256 is not None:
        yield _same_data(rules.data_sha256, data_sha256)
    if "data.unseen" in rules.flags:
        yield _unseen(golden)
    if "data.keeps_classes" in rules.flags:
        yield _keeps_classes(comparison)
    if rules.never_escape:
        yield _never(rules.never_escape, comparison)
    for rule, limit in rules.limits.items():
        table, _, key = rule.partition(".")
        if table == "balanced_accuracy":
            yield judge_balanced_accuracy(rule, key, limit, comparison)
        elif table == "calibration":
            yield judge_calibration(rule, key, limit, comparison)
        elif table == "explanations":
            yield judge_explanations(rule, key, limit, explanations)
        else:
            yield judge_rate(rule, key, limit, comparison)


def _same_data(wanted: str, found: str) -> RuleOutcome:
    same = wanted == found
    because = "it is" if same else f"it is {found[:12]}…, not {wanted[:12]}…"
    return RuleOutcome("data.sha256", "the data set is the one named in the rules", "pass" if same else "fail", because)


def _unseen(golden: GoldenSet) -> RuleOutcome:
    says = "neither model was trained or tuned on an image of the set"
    names = {"candidate": "the candidate", "service": "the model in service"}
    seen = {names[side]: count for side, count in golden.seen.items() if count}
    if seen:
        because = "; ".join(f"{side} was on {count} of {len(golden.images)}" for side, count in seen.items())
        return RuleOutcome("data.unseen", says, "fail", because)
    if unknown := [names[side] for side, count in golden.seen.items() if count is None]:
        because = f"{' and '.join(unknown)} came without the list of images trained on; train it anew with this release"
        return RuleOutcome("data.unseen", says, "cannot tell", because)
    return RuleOutcome("data.unseen", says, "pass", f"none of the {len(golden.images)} images")


def _keeps_classes(comparison: Comparison) -> RuleOutcome:
    says = "the candidate knows every class that the model in service knows"
    lost = sorted(set(comparison.service.classes) - set(comparison.candidate.classes))
    if lost:
        return RuleOutcome("data.keeps_classes", says, "fail", f"it does not know {', '.join(lost)}")
    return RuleOutcome("data.keeps_classes", says, "pass", f"all {len(comparison.service.classes)}")


def _never(labels: tuple[str, ...], comparison: Comparison) -> RuleOutcome:
    says = f"no {' or '.join(labels)} escapes"
    shown = [place for place, image in enumerate(comparison.images) if image.defective and image.labels & set(labels)]
    escaped = [
        comparison.images[place].file for place in shown if comparison.candidate.answers[place].verdict == "good"
    ]
    if escaped:
        more = f" and {len(escaped) - 3} more" if len(escaped) > 3 else ""
        because = f"{len(escaped)} of {len(shown)} did: {', '.join(escaped[:3])}{more}"
        return RuleOutcome("escapes.never", says, "fail", because)
    if missing := [one for one in labels if not any(one in comparison.images[place].labels for place in shown)]:
        because = f"no image of the set shows {' or '.join(missing)} as a defect"
        return RuleOutcome("escapes.never", says, "cannot tell", because)
    return RuleOutcome("escapes.never", says, "pass", f"none of {len(shown)} did")
