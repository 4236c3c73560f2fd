"""Regions of Label Studio, in percent of the image, as marks in its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection_models import brush_rle
from inspection_models.data.dataset import Box, Polygon, RunLengths
from inspection_models.data.markings import mask_runs
from inspection_models.data.shapes import box_between

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LABEL_KEYS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels", "labels")
_ELLIPSE_CORNERS = 64


@dataclass(frozen=True)
class Region:
    """An area as it is written.

    Attributes:
        value: its numbers and labels.
        size: height and width of the image that it was drawn on, or None where that is not said.
    """

    value: Mapping[str, Any]
    size: tuple[int, int] | None

    @classmethod
    def of(cls, value: Mapping[str, Any], about: Mapping[str, Any]) -> Region | None:
        """The area in a result's `value`, or None where it is none; `about` states the image's size."""
        is_area = "rle" in value or "points" in value or {"x", "y", "width", "height"} <= value.keys()
        if not is_area and not {"radiusX", "radiusY"} <= value.keys():
            return None
        height, width = about.get("original_height"), about.get("original_width")
        return cls(value, (height, width) if isinstance(height, int) and isinstance(width, int) else None)


def label_of(region: Region, choices: Sequence[str]) -> str | None:
    """The label of an area; of one without a label the only choice of its image, or None."""
    labels = next((region.value[key] for key in _LABEL_KEYS if region.value.get(key)), None)
    if isinstance(labels, list) and labels:
        return str(labels[0])
    return choices[0] if len(choices) == 1 else None


def draw(region: Region, label: str, size: tuple[int, int]) -> Box | Polygon | RunLengths:
    """The mark of an area on an image of `size` (height, width) as a viewer shows it.

    Raises:
        ValueError: numbers that are missing or none, a brush stroke on an image of another size, or an area outside the
            image.
    """
    value = region.value
    if "rle" in value:
        drawn_on = region.size or size
        if drawn_on != size:
            raise ValueError(
                f"a brush stroke was drawn on an image of {drawn_on[1]} x {drawn_on[0]} pixels, this one has "
                f"{size[1]} x {size[0]}"
            )
        return RunLengths(label, size, mask_runs(brush_rle.decode(value["rle"], *size)))
    scale = np.array([size[1] / 100, size[0] / 100])
    if "points" in value:
        points = np.asarray(value["points"], np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
            raise ValueError("a polygon has fewer than three corners")
        return _polygon(label, points * scale, size)
    if "radiusX" in value:
        turns = np.linspace(0, 2 * math.pi, _ELLIPSE_CORNERS, endpoint=False)
        radii = np.array([_number(value, "radiusX"), _number(value, "radiusY")]) * scale
        corners = np.stack([np.cos(turns), np.sin(turns)], axis=1) * radii
        return _polygon(label, _turned(corners, value) + _corner(value) * scale, size)
    extent = np.array([_number(value, "width"), _number(value, "height")]) * scale
    corner = _corner(value) * scale
    if value.get("rotation"):
        # About its upper left corner, clockwise.
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * extent
        return _polygon(label, _turned(corners, value) + corner, size)
    (left, top), (right, bottom) = corner.tolist(), (corner + extent).tolist()
    return box_between(label, left, top, right, bottom, size)


def _polygon(label: str, points: np.ndarray[Any, np.dtype[np.float64]], size: tuple[int, int]) -> Polygon:
    limits = (size[1], size[0])
    if not np.isfinite(points).all() or (points.max(axis=0) < 0).any() or (points.min(axis=0) > limits).any():
        raise ValueError("an area lies outside its image")
    return Polygon(label, tuple((float(x), float(y)) for x, y in np.clip(points, 0, limits)))


def _turned(
    points: np.ndarray[Any, np.dtype[np.float64]], value: Mapping[str, Any]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    angle = math.radians(_number(value, "rotation") if "rotation" in value else 0.0)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray(points @ turn)


def _corner(value: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([_number(value, "x"), _number(value, "y")])


def _number(value: Mapping[str, Any], key: str) -> float:
    number = value.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{key} is {number!r} and no number")
    return float(number)
