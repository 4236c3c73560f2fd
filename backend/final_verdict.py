"""What an inspector's annotation says in the end: good, one defect, several, or nothing that could be counted.

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

Where several classes can be ticked, or the model decided several, the final classes are all those ticked; where only
one can be, that one, those of the regions that are left, and those that the model decided without drawing anything.
Where the model left the decision to the inspector, only what the inspector did counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.label_studio.binding import SETTING, Binding
from backend.region_changes import Region, RegionChange


@dataclass(frozen=True)
class Finding:
    """The final verdict; `is_good` is None where there is none, `several` the classes where more than one is named."""

    is_good: bool | None
    label: str | None
    reason: str = ""
    several: frozenset[str] = frozenset()

    def classes(self, binding: Binding) -> tuple[str, ...] | None:
        """All classes named, in the model's order; None where there is no verdict."""
        if self.is_good is None:
            return None
        return tuple(name for name in binding.classes if name == self.label or name in self.several)


def find_undecided(
    said: frozenset[str],
    regions: Sequence[Region],
    changes: Sequence[RegionChange],
    binding: Binding,
    *,
    unchanged: bool,
) -> Finding:
    """The final verdict on what the model left to the inspector."""
    if unchanged and not said and binding.choice_control is not None:
        return Finding(None, None, "the model left the decision to the inspector, who ticked nothing")
    if binding.takes_several:
        found = find_several(said, (), regions, changes, (), None, binding, unchanged=False)
    else:
        found = find(said, regions, changes, None, binding, unchanged=False)
    drawn = any(change.kind == "added" and change.label_after in binding.classes for change in changes)
    if found.is_good and said and drawn:
        return Finding(None, found.label, "good was ticked and a defect was drawn")
    return found


def find_several(
    said: frozenset[str],
    before: Sequence[Region],
    after: Sequence[Region],
    changes: Sequence[RegionChange],
    decided: Sequence[str],
    label_predicted: str | None,
    binding: Binding,
    *,
    unchanged: bool,
) -> Finding:
    """The final verdict where it may name several defects; of one or none it is found as it is elsewhere."""
    if unchanged and len(decided) > 1:
        return Finding(is_good=False, label=decided[0], several=frozenset(decided))
    named = {name for value in said for name in binding.choice_classes.get(value, ())}
    defects = named - {binding.good_class}
    if not defects or binding.good_class in named:
        return find(said, after, changes, label_predicted, binding, unchanged=unchanged)
    drawn = {name for region in after if len(region.classes) == 1 for name in region.classes} - {binding.good_class}
    undrawn = set(decided) - {name for region in before for name in region.classes}
    if binding.takes_several:
        spoken = [binding.choice_classes[value] for value in said if value in binding.choice_classes]
        meant = [_meant(candidates, decided, drawn | undrawn) for candidates in spoken]
        if not all(meant):
            return Finding(is_good=False, label=None)
        classes = frozenset(name for one in meant for name in one)
    else:
        main = _one_of(defects, drawn & defects, said, label_predicted, binding)
        beside = {name for name in drawn | undrawn if name != label_predicted or main == label_predicted}
        classes = frozenset(beside - {binding.good_class} | ({main} if main is not None else set()))
    if len(classes) == 1:
        return Finding(is_good=False, label=next(iter(classes)))
    return Finding(is_good=False, label=None, several=classes)


def _meant(candidates: Sequence[str], decided: Sequence[str], likely: set[str]) -> tuple[str, ...]:
    """The classes meant by one choice that stands for these: the only one, those that are likely, those decided."""
    if len(candidates) == 1:
        return tuple(candidates)
    return tuple(sorted(set(candidates) & likely)) or tuple(sorted(set(candidates) & set(decided)))


def find(
    said: frozenset[str],
    regions: Sequence[Region],
    changes: Sequence[RegionChange],
    label_predicted: str | None,
    binding: Binding,
    *,
    unchanged: bool,
) -> Finding:
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
                return Finding(is_good=False, label=label, reason="a defect was drawn while good stayed ticked")
            return Finding(is_good=True, label=binding.good_class)
        if len(defects) < len(named):
            return Finding(None, text, f"the choices '{text}' say good and a defect at once")
        return Finding(is_good=False, label=_one_of(defects, drawn & defects, said, label_predicted, binding))
    if unchanged and label_predicted is not None:
        return Finding(label_predicted == binding.good_class, label_predicted)
    if said and binding.choice_control is not None:
        if any(change.kind in ("added", "moved", "relabelled") for change in changes):
            return Finding(is_good=False, label=text)
        return Finding(None, text, f"the choice '{text}' stands for no class; {SETTING} can give it one")
    if drawn:
        return Finding(is_good=False, label=_one_of(drawn, drawn, said, label_predicted, binding))
    if regions:
        labels = sorted({region.label for region in regions if region.label})
        return Finding(is_good=False, label=", ".join(labels) or None)
    if said:
        return Finding(None, text, f"the choice '{text}' stands for no class; {SETTING} can give it one")
    if binding.choice_control is None and binding.good_class is not None:
        return Finding(is_good=True, label=binding.good_class)
    return Finding(None, None, "the annotation names no class")


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
