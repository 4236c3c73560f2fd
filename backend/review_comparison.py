"""What an inspector made of a prediction: the outcome of a review, and what became of each region.

The final class is read in this order:

1. from the choices that stand for classes; where a mapping lets several defects share one choice, the labels of the
   regions decide among them if they name just one, else the predicted class stays if it is among them; a defect drawn
   on a part that the model called good outweighs the tick for good that was there before;
2. where there is no such choice, from the labels of the regions: the only class they name, else the predicted one if it
   is among them;
3. with neither, an annotation that changed nothing keeps the predicted class, and where the configuration has no
   choices at all, no region means good.

A choice that stands for no class ("unsure") is kept as text; it is a verdict only together with a region the inspector
drew or changed. An annotation without any verdict counts as `skipped`, with the reason told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backend.label_studio.binding import SETTING, Binding
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

Outcome = Literal["accepted", "adjusted", "relabelled", "rejected", "missed", "skipped"]


@dataclass(frozen=True)
class Comparison:
    """One prediction against one annotation.

    `outcome` is None only where the predicted class is not known. `label_final` is None where no class, or more than
    one, is named. `mean_iou` is the mean over all regions of either side, None where there is none. `reason` says why
    an annotation that the inspector did not skip carries no verdict, or what could not be compared; "" otherwise.
    """

    outcome: Outcome | None
    label_predicted: str | None
    label_final: str | None
    regions: tuple[RegionChange, ...]
    mean_iou: float | None
    reason: str = ""


@dataclass(frozen=True)
class _Finding:
    """The final verdict; `is_good` is None where there is none."""

    is_good: bool | None
    label: str | None
    reason: str = ""


def compare(
    predicted: Result | None,
    final: Result,
    *,
    binding: Binding,
    predicted_class: str | None = None,
    was_cancelled: bool = False,
) -> Comparison:
    """Compare a prediction's result with an annotation's.

    `predicted` is None where the inspector had no prediction: then only classes are compared. `predicted_class` is the
    decision's class; without it the class is read from `predicted`, where classes that share a choice look alike.
    """
    before = regions_of(predicted or (), binding)
    after = regions_of(final, binding)
    said_before, said_after = _said(predicted or (), binding), _said(final, binding)
    label_predicted = predicted_class or _predicted_class(said_before, before, binding, is_known=predicted is not None)
    if was_cancelled:
        return Comparison("skipped", label_predicted, None, (), None)
    changes = match_regions(before, after) if predicted is not None else ()
    ious = [change.iou for change in changes if change.iou is not None]
    mean_iou = float(np.mean(ious)) if ious else None
    unchanged = said_before == said_after and all(change.kind == "kept" for change in changes)
    finding = _find(said_after, after, changes, label_predicted, binding, unchanged=unchanged and predicted is not None)
    reason = finding.reason
    if predicted is None:
        unchanged = True
        reason = reason or "there was no prediction whose regions could be compared"
    outcome = _outcome(finding, label_predicted, binding.good_class, unchanged=unchanged)
    if outcome is None:
        reason = reason or "the predicted class is not known"
    return Comparison(outcome, label_predicted, finding.label, changes, mean_iou, reason)


def _outcome(
    finding: _Finding, label_predicted: str | None, good_class: str | None, *, unchanged: bool
) -> Outcome | None:
    if finding.is_good is None:
        return "skipped"
    if label_predicted is None:
        return None
    predicted_good = label_predicted == good_class
    if predicted_good != finding.is_good:
        return "missed" if predicted_good else "rejected"
    if finding.label != label_predicted:
        return "relabelled"
    return "accepted" if unchanged else "adjusted"


def _find(
    said: frozenset[str],
    regions: Sequence[Region],
    changes: Sequence[RegionChange],
    label_predicted: str | None,
    binding: Binding,
    *,
    unchanged: bool,
) -> _Finding:
    """The final verdict, by the order that the module's docstring gives."""
    text = ", ".join(sorted(said))
    named = {name for value in said for name in binding.choice_classes.get(value, ())}
    drawn = {name for region in regions if len(region.classes) == 1 for name in region.classes}
    if named:
        defects = named - {binding.good_class}
        if not defects:
            added = {change.label_after for change in changes if change.kind == "added"} & (
                drawn - {binding.good_class}
            )
            if label_predicted == binding.good_class and len(added) >= 1:
                label = next(iter(added)) if len(added) == 1 else None
                return _Finding(is_good=False, label=label, reason="a defect was drawn while good stayed ticked")
            return _Finding(is_good=True, label=binding.good_class)
        if len(defects) < len(named):
            return _Finding(None, text, f"the choices '{text}' say good and a defect at once")
        return _Finding(is_good=False, label=_one_of(defects, drawn & defects, said, label_predicted, binding))
    if unchanged and label_predicted is not None:
        return _Finding(label_predicted == binding.good_class, label_predicted)
    if said and binding.choice_control is not None:
        if any(change.kind in ("added", "moved", "relabelled") for change in changes):
            return _Finding(is_good=False, label=text)
        return _Finding(None, text, f"the choice '{text}' stands for no class; {SETTING} can give it one")
    if drawn:
        return _Finding(is_good=False, label=_one_of(drawn, drawn, said, label_predicted, binding))
    if regions:
        labels = sorted({region.label for region in regions if region.label})
        return _Finding(is_good=False, label=", ".join(labels) or None)
    if said:
        return _Finding(None, text, f"the choice '{text}' stands for no class; {SETTING} can give it one")
    if binding.choice_control is None and binding.good_class is not None:
        return _Finding(is_good=True, label=binding.good_class)
    return _Finding(None, None, "the annotation names no class")


def _one_of(
    candidates: set[str], drawn: set[str], said: frozenset[str], label_predicted: str | None, binding: Binding
) -> str | None:
    """The one class meant among several defects, or None."""
    if len(candidates) == 1:
        return next(iter(candidates))
    if label_predicted in candidates and any(binding.choice_classes.get(value) == (label_predicted,) for value in said):
        return label_predicted
    if len(drawn) == 1:
        return next(iter(drawn))
    return label_predicted if label_predicted in candidates else None


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


def _said(result: Result, binding: Binding) -> frozenset[str]:
    """The values chosen for the whole image, one spelling each.

    Where no control holds the verdict, whatever choice was made counts, but for those that belong to a region (they
    carry its id).
    """
    ids = {item.get("id") for item in result if geometry_kind(item) is not None}
    values: set[str] = set()
    for item in result:
        if item.get("type") != "choices" or not on_image(item, binding):
            continue
        asked = item.get("from_name") == binding.choice_control
        if asked or (binding.choice_control is None and (item.get("id") is None or item.get("id") not in ids)):
            values |= {str(value) for value in value_of(item).get("choices") or ()}
    return frozenset(_one_spelling(value, binding) for value in values)


def _one_spelling(value: str, binding: Binding) -> str:
    """A choice's stored value for any spelling of it."""
    classes = binding.choice_classes.get(value)
    return binding.choices[classes[0]] if classes else value
