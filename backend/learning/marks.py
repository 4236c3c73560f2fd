"""The regions that inspectors drew, as marks on a photograph.

Regions count where an inspector's hand was on those of the photograph: added, moved or removed one, or gave it another
label. What was sent off as the model had drawn it teaches the class alone: a head that learned from its own regions
would be sure to agree with itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection_models.data import Box, Polygon, RunLengths
from inspection_models.data.label_studio_regions import Region, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.learning.verdicts import Verdict
    from db.lessons import StandingReview


class MarkError(ValueError):
    """Regions of a review cannot be drawn as marks; the message says why."""


@dataclass(frozen=True)
class Marks:
    """Where defects are, in pixels of the photograph as shown."""

    boxes: tuple[Box, ...] = ()
    polygons: tuple[Polygon, ...] = ()
    runs: tuple[RunLengths, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.boxes or self.polygons or self.runs)


def marks_of(verdict: Verdict, good_class: str | None) -> Marks:
    """The marks of the latest review whose inspector worked on the regions; none on a good part.

    Raises:
        MarkError: one of the regions cannot be drawn, and without it the others would say that there is no more.
    """
    if good_class in verdict.labels:
        return Marks()
    by_hand = next((review for review in verdict.reviews if _is_by_hand(review)), None)
    return Marks() if by_hand is None else _drawn(by_hand, verdict)


def _is_by_hand(review: StandingReview) -> bool:
    return any(
        change["change"] in ("added", "moved", "removed")
        or (change["change"] == "relabelled" and change.get("iou") != 1.0)
        for change in review.region_changes
    )


def _drawn(review: StandingReview, verdict: Verdict) -> Marks:
    items = {str(item["id"]): item for item in review.regions_final if item.get("id")}
    found: list[Box | Polygon | RunLengths] = []
    for change in review.region_changes:
        if change["change"] == "removed":
            continue
        item = items.get(str(change.get("region_final")))
        if item is None:
            raise MarkError("a region has no id to be known by")
        if item.get("image_rotation") not in (None, 0):
            raise MarkError("the image was turned in the editor")
        region = Region.of(item.get("value") or {}, item)
        if region is None:
            raise MarkError(f"a region of the type {item.get('type')!r} has no area")
        try:
            found.append(draw(region, _label(change.get("label_after"), verdict), verdict.image.size))
        except (ValueError, TypeError) as error:
            raise MarkError(str(error)) from error
    return Marks(*(tuple(_of_kind(found, kind)) for kind in (Box, Polygon, RunLengths)))  # type: ignore[arg-type]


def _of_kind(marks: Sequence[object], kind: type) -> list[object]:
    return [mark for mark in marks if isinstance(mark, kind)]


def _label(named: str | None, verdict: Verdict) -> str:
    if named in verdict.image.classes:
        return str(named)
    if named is None and len(verdict.labels) == 1:
        return verdict.labels[0]
    raise MarkError(f"the label {named!r} of a region stands for no class")
