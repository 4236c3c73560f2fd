"""Regions of Label Studio results as masks of pixels.

Coordinates are percent of the original width and height; what lies beyond the border is cut off. A pixel belongs to a
shape where its centre does: for polygons by the even-odd rule, with left and upper edges inside and right and lower
ones outside, so that shapes that share an edge share no pixel. Angles are degrees clockwise as seen on the screen:
rectangles turn about their upper left corner, ellipses about their centre, both in pixels, not in percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspection_models import brush_rle

MAX_SIDE = 65_535
MAX_PIXELS = 400_000_000
_FARTHEST = 1e6  # percent: far beyond any border, near enough for exact arithmetic

_GEOMETRY_KEYS: Mapping[str, tuple[str, ...]] = {
    "rectangle": ("x", "y", "width", "height"),
    "ellipse": ("x", "y", "radiusX", "radiusY"),
    "keypoint": ("x", "y"),
}


class ShapeError(ValueError):
    """A region has no area that could be drawn, or its numbers make no sense; the message says which."""


def geometry_kind(region: Mapping[str, Any]) -> str | None:
    """ "polygon", "rectangle", "ellipse", "brush" or "keypoint"; None for results that are no region on an image."""
    kind = str(region.get("type", "")).removesuffix("labels")
    return kind if kind in ("polygon", "rectangle", "ellipse", "brush", "keypoint") else None


def image_size(region: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) in pixels of the image a region was drawn on.

    Raises ShapeError where the region does not say, or where the image was turned in the editor.
    """
    height, width = _side(region, "original_height"), _side(region, "original_width")
    if height * width > MAX_PIXELS:
        raise ShapeError(f"the region's image has {height * width} pixels, more than {MAX_PIXELS}")
    if region.get("image_rotation") not in (None, 0):
        raise ShapeError(f"the image was turned by {region['image_rotation']}° in the editor; turn it back, save again")
    return height, width


def _side(region: Mapping[str, Any], key: str) -> int:
    side = region.get(key)
    if isinstance(side, bool) or not isinstance(side, int) or not 0 < side <= MAX_SIDE:
        raise ShapeError(f"the region's {key} is {side!r}, not a whole number of pixels")
    return side


def rasterise(region: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask [height, width] of a region, True inside. Raises ShapeError."""
    size = image_size(region)
    kind, value = geometry_kind(region), region.get("value")
    if not isinstance(value, Mapping):
        raise ShapeError("the region has no value")
    if kind == "brush":
        try:
            return brush_rle.decode(value.get("rle") or (), *size)
        except brush_rle.BrushCodeError as error:
            raise ShapeError(str(error)) from error
    if kind in ("polygon", "rectangle"):
        return polygon_mask(outline(region), size)
    if kind == "ellipse":
        return _ellipse_mask(_numbers(value, "ellipse"), _angle(value), size)
    if kind == "keypoint":
        raise ShapeError("a key point has no area")
    raise ShapeError(f"a result of the type '{region.get('type')}' is no region on an image")


def outline(region: Mapping[str, Any]) -> NDArray[np.float64]:
    """The corners [K, 2] of a polygon or rectangle as x, y in pixels. Raises ShapeError."""
    height, width = image_size(region)
    value = region["value"]
    if geometry_kind(region) == "polygon":
        try:
            points = np.asarray(value.get("points"), dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ShapeError("the polygon's points are not pairs of numbers") from error
        if points.ndim != 2 or points.shape[0] < 3 or points.shape[1] != 2 or not (np.abs(points) <= _FARTHEST).all():
            raise ShapeError("the polygon has not at least 3 points of 2 numbers each")
        return points / 100 * (width, height)
    x, y, box_width, box_height = _numbers(value, "rectangle") / 100 * (width, height, width, height)
    along = np.array([[0, 0], [box_width, 0], [box_width, box_height], [0, box_height]])
    cos, sin = _turn(_angle(value))
    return np.stack([x + along[:, 0] * cos - along[:, 1] * sin, y + along[:, 0] * sin + along[:, 1] * cos], axis=1)


def polygon_mask(corners: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask [height, width] of a polygon [K, 2] (x, y in pixels, K >= 3) by the even-odd rule on pixel centres."""
    height, width = size
    crossings = np.zeros((height, width + 1), dtype=np.uint8)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = min(y1, y2), max(y1, y2)
        first = min(max(math.ceil(low - 0.5), 0), height)
        end = min(max(math.ceil(high - 0.5), 0), height)
        if first >= end:
            continue
        rows = np.arange(first, end)
        x = x1 + (rows + 0.5 - y1) * ((x2 - x1) / (y2 - y1))
        columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)
        crossings[rows, columns] ^= 1
    inside: NDArray[np.bool_] = np.bitwise_xor.accumulate(crossings[:, :width], axis=1).astype(np.bool_)
    return inside


def same_geometry(one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float = 0.01) -> bool:
    """Whether two regions of one kind have the same numbers to within `tolerance` pixels (for brushes: the same code).

    False where the kind or the image's size differs; different numbers may still cover the same pixels.
    """
    kind = geometry_kind(one)
    mine, theirs = one.get("value"), other.get("value")
    if kind is None or kind != geometry_kind(other) or not (isinstance(mine, Mapping) and isinstance(theirs, Mapping)):
        return False
    if kind == "brush":
        return mine.get("rle") == theirs.get("rle") and _frame(one) == _frame(other)
    try:
        if image_size(one) != image_size(other):
            return False
        return all(
            a.shape == b.shape and bool(np.abs(a - b).max(initial=0) <= tolerance)
            for a, b in zip(_landmarks(one, kind), _landmarks(other, kind), strict=True)
        )
    except ShapeError:
        return dict(mine) == dict(theirs) and _frame(one) == _frame(other)


def _landmarks(region: Mapping[str, Any], kind: str) -> tuple[NDArray[np.float64], ...]:
    """Numbers in pixels that fix a shape."""
    if kind in ("polygon", "rectangle"):
        return (outline(region),)
    height, width = image_size(region)
    value = region["value"]
    if kind == "keypoint":
        return (_numbers(value, "keypoint") / 100 * (width, height),)
    x, y, radius_x, radius_y = _numbers(value, "ellipse") / 100 * (width, height, width, height)
    cos, sin = _turn(_angle(value))
    return (np.array([[x, y], [x + radius_x * cos, y + radius_x * sin], [x - radius_y * sin, y + radius_y * cos]]),)


def _ellipse_mask(numbers: NDArray[np.float64], angle: float, size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    x, y, radius_x, radius_y = numbers / 100 * (width, height, width, height)
    if min(radius_x, radius_y) <= 0:
        raise ShapeError("the ellipse has no area")
    reach = max(radius_x, radius_y)
    top, bottom = (int(np.clip(edge, 0, height)) for edge in (math.floor(y - reach), math.ceil(y + reach)))
    left, right = (int(np.clip(edge, 0, width)) for edge in (math.floor(x - reach), math.ceil(x + reach)))
    down, across = np.ogrid[top:bottom, left:right]
    dx, dy = across + 0.5 - x, down + 0.5 - y
    cos, sin = _turn(angle)
    mask = np.zeros(size, dtype=np.bool_)
    mask[top:bottom, left:right] = ((dx * cos + dy * sin) / radius_x) ** 2 + (
        (dy * cos - dx * sin) / radius_y
    ) ** 2 <= 1
    return mask


def _turn(angle: float) -> tuple[float, float]:
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))


def _angle(value: Mapping[str, Any]) -> float:
    angle = value.get("rotation") or 0.0
    if isinstance(angle, bool) or not isinstance(angle, int | float) or not abs(angle) <= _FARTHEST:
        raise ShapeError(f"the region is turned by {angle!r}, which is no number of degrees")
    return float(angle)


def _numbers(value: Mapping[str, Any], kind: str) -> NDArray[np.float64]:
    """The numbers that fix a shape of this kind, in percent."""
    found = [value.get(key) for key in _GEOMETRY_KEYS[kind]]
    for number in found:
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= _FARTHEST:
            raise ShapeError(f"the {kind}'s {', '.join(_GEOMETRY_KEYS[kind])} are {found}, not numbers of percent")
    return np.array(found, dtype=np.float64)


def _frame(region: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return region.get("original_height"), region.get("original_width"), region.get("image_rotation") or 0
