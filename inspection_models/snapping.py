"""Snapping: the attribution map says about where, the photograph says how far.

Areas are cut from the map at eleven levels. Of each it is asked how much it stands out from the ring around it: the
difference of their mean brightness by their common spread, times the fifth root of its pixels, for of two areas that
stand out alike the larger one says more. The one that stands out most is kept, and its border is moved twice to where
the photograph changes: each pixel of area and ring goes to the side whose brightness it fits better, with a small
preference for the side it is on.

Only elementwise work and filters in a fixed order on at most 256 x 256 pixels: same input, same bits, and milliseconds
whatever the photograph's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

WORKING_SIDE = 256
"""Pixels of the longer side of what is worked on; larger photographs are shrunk to it."""
LEVELS = (0.003, 0.006, 0.012, 0.025, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5)
"""Shares of the map's maximum that areas are cut at."""

_POWER = 0.2
_LEAST_PIXELS, _LARGEST_SHARE = 6, 0.7
# Variance of brightness that is noise of the camera whatever the surface, in squared grey values of 255.
_NOISE = 20.0
# A difference of fewer grey values than this, in the mean, is no edge.
_FLAT = 1.0
_RING, _BAND = 0.3, 0.25
_MOVES, _PREFERENCE = 2, 1.0


def snapped_mask(pixels: NDArray[np.uint8], attribution_map: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Where the defect is, bool [h, w], by a map [h, w] that is not negative and its photograph uint8 [h, w, 3].

    None where the photograph has nothing to snap to, or the map says nothing: then the map alone has to do.
    """
    height, width = attribution_map.shape
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    evidence = cv2.resize(attribution_map.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    best: NDArray[np.bool_] | None = None
    highest = 0.0
    for area in _areas(evidence):
        contrast = _contrast(grey, area)
        if contrast > highest:
            best, highest = area, contrast
    if best is None:
        return None
    for _ in range(_MOVES):
        best = _moved(grey, best)
    enlarged = cv2.resize(best.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(enlarged > 0)


def _areas(evidence: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
    strongest = float(evidence.max())
    if strongest <= 0:
        return
    for level in LEVELS:
        area = evidence >= level * strongest
        pixels = int(area.sum())
        if pixels >= _LEAST_PIXELS and pixels <= _LARGEST_SHARE * area.size:
            yield area


def _contrast(grey: NDArray[np.float32], area: NDArray[np.bool_]) -> float:
    """How much an area stands out from its ring, 0 where it does not."""
    ring = _grown(area, max(3, int(np.sqrt(area.sum()) * _RING))) & ~area
    if int(ring.sum()) < _LEAST_PIXELS:
        return 0.0
    inside, outside = grey[area].astype(np.float64), grey[ring].astype(np.float64)
    difference = abs(float(inside.mean() - outside.mean()))
    if difference < _FLAT:
        return 0.0
    spread = np.sqrt(inside.var() + outside.var() + _NOISE)
    return float(difference / spread * float(len(inside)) ** _POWER)


def _moved(grey: NDArray[np.float32], area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The area with its border where brightness changes; as it is where nothing of it would remain."""
    reach = _grown(area, max(3, int(np.sqrt(area.sum()) * _BAND)))
    ring = reach & ~area
    if int(ring.sum()) < _LEAST_PIXELS:
        return area
    core = cv2.erode(area.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if int(core.sum()) < _LEAST_PIXELS:
        core = area
    gain = _misfit(grey, ring) - _misfit(grey, core)
    fitting = cv2.GaussianBlur(gain, (0, 0), 1.0) / 2 + np.where(area, _PREFERENCE, -_PREFERENCE) > 0
    moved = np.asarray(reach & fitting)
    return moved if int(moved.sum()) >= _LEAST_PIXELS else area


def _misfit(grey: NDArray[np.float32], side: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Minus twice the log likelihood of each pixel's brightness under the normal distribution of a side's."""
    values = grey[side].astype(np.float64)
    variance = float(values.var()) + _NOISE
    return np.asarray((grey - float(values.mean())) ** 2 / variance + np.log(variance), np.float64)


def _grown(area: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    side = 2 * reach + 1
    tall = cv2.dilate(area.view(np.uint8), np.ones((side, 1), np.uint8))
    return np.asarray(cv2.dilate(tall, np.ones((1, side), np.uint8)) > 0)
