"""What an inspector made of a prediction: the outcome of a review, and what became of each region.

What the annotation says in the end is read by `final_verdict`. Another set of defects than the decided one is
`relabelled`. What the model left to the inspector was no answer that could be accepted or rejected: whatever the
inspector says of it is `decided`, and nothing said is `skipped`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backend.final_verdict import Finding, find, find_several, find_undecided
from backend.label_studio.binding import Binding
from backend.label_studio.shapes import geometry_kind
from backend.region_changes import (
    ChangeKind,
    Region,
    RegionChange,
    Result,
    match_regions,
    on_image,
    regions_of,
    value_of,
)

__all__ = ["ChangeKind", "Comparison", "Outcome", "RegionChange", "compare"]

Outcome = Literal["accepted", "adjusted", "relabelled", "rejected", "missed", "decided", "skipped"]


@dataclass(frozen=True)
class Comparison:
    """One prediction against one annotation.

    `outcome` is None only where the predicted class is not known. `label_predicted` is the most probable class of
    several, and None where the model left the decision to the inspector. `label_final` is None where no class, or more
    than one, is named; `labels_final` are all classes named, and None where there is no verdict. `mean_iou` is the mean
    over all regions of either side, None where there is none. `reason` says why an annotation that the inspector did
    not skip carries no verdict, or what could not be compared; "" otherwise.
    """

    outcome: Outcome | None
    label_predicted: str | None
    label_final: str | None
    regions: tuple[RegionChange, ...]
    mean_iou: float | None
    reason: str = ""
    labels_final: tuple[str, ...] | None = None


def compare(
    predicted: Result | None,
    final: Result,
    *,
    binding: Binding,
    predicted_in: Binding | None = None,
    decided: Sequence[str] = (),
    is_for_review: bool = False,
    was_cancelled: bool = False,
) -> Comparison:
    """Compare a prediction's result with an annotation's.

    `predicted` is None where the inspector had no prediction: then only classes are compared. `predicted_in` is how the
    labeling configuration that it was made for is read, where that is another one by now. `decided` are the
    decision's classes, the most probable first; without them the class is read from `predicted`, where classes that
    share a choice look alike. `is_for_review`: the model left the decision to the inspector.
    """
    made_for = predicted_in or binding
    before = regions_of(predicted or (), made_for)
    after = regions_of(final, binding)
    said_before, said_after = _said(predicted or (), made_for, binding), _said(final, binding, binding)
    label_predicted = None
    if not is_for_review:
        known = decided[0] if decided else None
        label_predicted = known or _predicted_class(said_before, before, binding, is_known=predicted is not None)
    if was_cancelled:
        return Comparison("skipped", label_predicted, None, (), None)
    changes = match_regions(before, after) if predicted is not None else ()
    ious = [change.iou for change in changes if change.iou is not None]
    mean_iou = float(np.mean(ious)) if ious else None
    unchanged = said_before == said_after and all(change.kind == "kept" for change in changes)
    stands = unchanged and predicted is not None
    if is_for_review:
        finding = find_undecided(said_after, after, changes, binding, unchanged=stands)
    elif binding.takes_several or len(decided) > 1:
        finding = find_several(said_after, before, after, changes, decided, label_predicted, binding, unchanged=stands)
    else:
        finding = find(said_after, after, changes, label_predicted, binding, unchanged=stands)
    reason = finding.reason
    if predicted is None:
        unchanged = True
        reason = reason or "there was no prediction whose regions could be compared"
    if is_for_review:
        outcome: Outcome | None = "skipped" if finding.is_good is None else "decided"
    else:
        outcome = _outcome(finding, label_predicted, decided, binding, unchanged=unchanged)
    if outcome is None:
        reason = reason or "the predicted class is not known"
    label = None if finding.several else finding.label
    return Comparison(outcome, label_predicted, label, changes, mean_iou, reason, finding.classes(binding))


def _outcome(
    finding: Finding, label_predicted: str | None, decided: Sequence[str], binding: Binding, *, unchanged: bool
) -> Outcome | None:
    if finding.is_good is None:
        return "skipped"
    if label_predicted is None:
        return None
    predicted_good = label_predicted == binding.good_class
    if predicted_good != finding.is_good:
        return "missed" if predicted_good else "rejected"
    if finding.several or len(decided) > 1:
        same = set(finding.classes(binding) or ()) == set(decided or (label_predicted,))
    else:
        same = finding.label == label_predicted
    if not same:
        return "relabelled"
    return "accepted" if unchanged else "adjusted"


def _predicted_class(
    said: frozenset[str], regions: Sequence[Region], binding: Binding, *, is_known: bool
) -> str | None:
    named = {name for value in said for name in binding.choice_classes.get(value, ())}
    drawn = {name for region in regions for name in region.classes}
    if len(named) != 1 and drawn:
        named = named & drawn if named else drawn
    if len(named) == 1:
        return next(iter(named))
    nothing = is_known and not said and not regions and binding.choice_control is None
    return binding.good_class if nothing else None


def _said(result: Result, binding: Binding, now: Binding) -> frozenset[str]:
    """The values chosen for the whole image, one spelling each: that of the configuration as it is `now`.

    Where no control holds the verdict, whatever choice was made counts, but for those that belong to a region (they
    carry its id). A reason for a correction is none.
    """
    ids = {item.get("id") for item in result if geometry_kind(item) is not None}
    values: set[str] = set()
    for item in result:
        if item.get("type") != "choices" or not on_image(item, binding):
            continue
        asked = item.get("from_name") == binding.choice_control
        if item.get("from_name") == binding.reasons:
            continue
        if asked or (binding.choice_control is None and (item.get("id") is None or item.get("id") not in ids)):
            values |= {str(value) for value in value_of(item).get("choices") or ()}
    return frozenset(_one_spelling(value, binding, now) for value in values)


def _one_spelling(value: str, binding: Binding, now: Binding) -> str:
    """A choice's stored value for any spelling of it."""
    classes = binding.choice_classes.get(value)
    return now.choices.get(classes[0], value) if classes else value
