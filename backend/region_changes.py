"""What became of the regions of a prediction in an inspector's hands.

Regions are matched by id where the kind of region is the same, the rest by their overlap. Label Studio's own `origin`
is not read: it says "prediction" of regions that were changed since. Notes, scores, order and locks are no changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from backend.label_studio.binding import Binding
from backend.label_studio.shapes import ShapeError, geometry_kind, image_size, rasterise, same_geometry

ChangeKind = Literal["kept", "moved", "relabelled", "added", "removed"]
Result = Sequence[Mapping[str, Any]]

LEAST_IOU = 0.1
"""Regions that overlap less are not taken for the same one."""
_SAME_LABEL, _SAME_KIND = 1e-6, 1e-7


@dataclass(frozen=True)
class RegionChange:
    """What became of one region.

    `moved` covers every change of shape, also one to another kind of region; `relabelled` a change of label with or
    without one of shape. Labels are classes where they stand for one, else Label Studio's text. `iou` is in 0..1, 0 for
    regions added or removed, and None where it cannot be told (key points, an image turned in the editor).
    `control_before` and `control_after` are result types such as "polygonlabels". `image` is the key of the task's data
    that names the image, where a part has several; else None.
    """

    kind: ChangeKind
    region_id_predicted: str | None
    region_id_final: str | None
    label_before: str | None
    label_after: str | None
    iou: float | None
    control_before: str | None
    control_after: str | None
    image: str | None = None


@dataclass(frozen=True)
class _Footprint:
    """A mask cut to its bounding box, at `top`, `left` of its image."""

    top: int
    left: int
    mask: NDArray[np.bool_]


class Region:
    """A region of a result: `id`, result `type`, the `classes` its labels may stand for, and their text `label`.

    `image` is the key of the task's data that names its image, where a part has several; else None.
    """

    def __init__(self, item: Mapping[str, Any], binding: Binding) -> None:
        self.item = item
        self.id = str(item["id"]) if item.get("id") else None
        self.type = str(item.get("type"))
        self.classes, self.label = _read_labels(item, binding)
        self.image = _image_key(item, binding)
        self._footprint: _Footprint | None = None
        self._tried = False

    def footprint(self) -> _Footprint | None:
        """None where the region has no area that can be told. Drawn once, and only where it is needed."""
        if not self._tried:
            self._tried = True
            try:
                self._footprint = _cut(rasterise(self.item))
            except ShapeError:
                self._footprint = None
        return self._footprint


def regions_of(result: Result, binding: Binding) -> list[Region]:
    """The regions of a result on the inspected images; what was only asked is none."""
    return [
        Region(item, binding)
        for item in result
        if geometry_kind(item) is not None
        and on_image(item, binding)
        and item.get("from_name") not in binding.questions
    ]


def on_image(item: Mapping[str, Any], binding: Binding) -> bool:
    """Whether an item of a result stands on an inspected image."""
    return binding.image is None or item.get("to_name") in {image.name for image in binding.images}


def _image_key(item: Mapping[str, Any], binding: Binding) -> str | None:
    if not binding.further:
        return None
    return next((image.variable for image in binding.images if image.name == item.get("to_name")), None)


def value_of(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The value of an item of a result, empty where it has none."""
    value = item.get("value")
    return value if isinstance(value, Mapping) else {}


def _read_labels(item: Mapping[str, Any], binding: Binding) -> tuple[tuple[str, ...], str | None]:
    """The classes a region's labels may stand for, and one text for them: the class where it is certain."""
    labels = sorted({str(label) for label in value_of(item).get(str(item.get("type"))) or ()})
    read = [binding.label_classes.get((str(item.get("from_name")), label), ()) for label in labels]
    text = ", ".join(one[0] if len(one) == 1 else label for label, one in zip(labels, read, strict=True))
    return tuple(dict.fromkeys(name for one in read for name in one)), text or None


def match_regions(before: Sequence[Region], after: Sequence[Region]) -> tuple[RegionChange, ...]:
    """The fate of every region: of the predicted ones in their order, then of those added."""
    partner: dict[int, int] = {}
    by_id = {region.id: index for index, region in reversed(list(enumerate(after))) if region.id is not None}
    for index, region in enumerate(before):
        other = by_id.get(region.id) if region.id is not None else None
        if other is None or other in partner.values():
            continue
        if _kind(region) == _kind(after[other]) and _may_be_one(region, after[other]):
            partner[index] = other
    left = [index for index in range(len(before)) if index not in partner]
    right = [index for index in range(len(after)) if index not in partner.values()]
    if left and right:
        overlaps = np.array([[_likely_overlap(before[i], after[j]) for j in right] for i in left])
        overlaps[overlaps < LEAST_IOU] = 0
        ties = [[_likeness(before[i], after[j]) for j in right] for i in left]
        rows, columns = linear_sum_assignment(overlaps + np.array(ties) * (overlaps > 0), maximize=True)
        partner |= {left[r]: right[c] for r, c in zip(rows, columns, strict=True) if overlaps[r, c] > 0}
    fates = [_fate(region, after[partner[i]] if i in partner else None) for i, region in enumerate(before)]
    return (*fates, *(_fate(None, region) for j, region in enumerate(after) if j not in partner.values()))


def _fate(before: Region | None, after: Region | None) -> RegionChange:
    kind: ChangeKind
    iou: float | None = 0.0
    if before is None or after is None:
        kind = "added" if before is None else "removed"
    else:
        iou = _overlap(before, after)
        # An overlap of exactly 1 is the same pixels.
        same_shape = _kind(before) == _kind(after) and (iou == 1.0 or same_geometry(before.item, after.item))
        kind = "relabelled" if before.label != after.label else "kept" if same_shape else "moved"
    return RegionChange(
        kind=kind,
        region_id_predicted=before.id if before else None,
        region_id_final=after.id if after else None,
        label_before=before.label if before else None,
        label_after=after.label if after else None,
        iou=iou,
        control_before=before.type if before else None,
        control_after=after.type if after else None,
        image=next((region.image for region in (after, before) if region is not None), None),
    )


def _may_be_one(one: Region, other: Region) -> bool:
    """A region stays on its image; where only one side knows several images, nobody knows on which it was."""
    return one.image is None or other.image is None or one.image == other.image


def _kind(region: Region) -> str | None:
    return geometry_kind(region.item)


def _likeness(one: Region, other: Region) -> float:
    """What decides between equal overlaps."""
    return _SAME_LABEL * (one.label == other.label) + _SAME_KIND * (_kind(one) == _kind(other))


def _likely_overlap(one: Region, other: Region) -> float:
    return (_overlap(one, other) or 0.0) if _may_be_one(one, other) else 0.0


def _overlap(one: Region, other: Region) -> float | None:
    """Intersection over union, 0..1; exactly 1 for equal numbers, which need not be drawn."""
    if _kind(one) != "keypoint" and same_geometry(one.item, other.item):
        return 1.0
    if not _on_one_picture(one, other):
        return None
    a, b = one.footprint(), other.footprint()
    if a is None or b is None:
        return None
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom = min(a.top + a.mask.shape[0], b.top + b.mask.shape[0])
    right = min(a.left + a.mask.shape[1], b.left + b.mask.shape[1])
    shared = 0
    if top < bottom and left < right:
        mine = a.mask[top - a.top : bottom - a.top, left - a.left : right - a.left]
        theirs = b.mask[top - b.top : bottom - b.top, left - b.left : right - b.left]
        shared = int(np.count_nonzero(mine & theirs))
    union = int(np.count_nonzero(a.mask)) + int(np.count_nonzero(b.mask)) - shared
    return shared / union if union else 0.0


def _on_one_picture(one: Region, other: Region) -> bool:
    """Looked at before anything is drawn: an annotation may claim any size, a prediction has that of its image."""
    try:
        return image_size(one.item) == image_size(other.item)
    except ShapeError:
        return False


def _cut(mask: NDArray[np.bool_]) -> _Footprint:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return _Footprint(0, 0, mask[:0, :0])
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    # A copy, so that the whole picture's mask can go.
    return _Footprint(int(top), int(left), mask[top:bottom, left:right].copy())
