"""From an attribution map to the connected areas that an inspector is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection_models.outlines import Ring, exact_outline, perimeter, simplified

MIN_AREA = 16
MIN_AREA_SHARE = 0.0005
MIN_EVIDENCE = 0.02
MAX_REGIONS = 10


class RegionError(ValueError):
    """The map or the threshold cannot be turned into regions."""


@dataclass(frozen=True, eq=False)
class Region:
    """One connected area of an attribution map, in pixels of the image.

    `polygon`: outer outline, float64 [K, 2] of x, y, K >= 3, within the image; pixel (x, y) covers [x, x + 1] x
    [y, y + 1].
    `holes`: outlines of what it does not include; smaller holes than the smallest region are left out.
    `box`: x, y, width, height of the mask's bounding box. `mask`: the exact pixels, bool [height, width], at the box.
    `area`: pixels of the mask. `evidence`: the map's sum over the mask divided by its sum over the image, in [0, 1].
    `peak`: the map's largest value in it.
    """

    polygon: Ring
    holes: tuple[Ring, ...]
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]
    area: int
    evidence: float
    peak: float


def regions(
    attribution_map: NDArray[np.floating],
    threshold: float,
    *,
    minimum_area: float = MIN_AREA_SHARE,
    max_regions: int = MAX_REGIONS,
) -> tuple[Region, ...]:
    """Connected regions of `attribution_map` [h, w] (image-sized, not negative), those with most evidence first.

    A pixel belongs to a region where the map reaches `threshold`, in (0, 1], times its largest value; pixels that
    touch, also at a corner, belong together. Specks are dropped: less than 16 pixels, less than `minimum_area` of the
    image's area (a share), or less than 2 % of the map's evidence; the region with most evidence stays whatever its
    size. At most `max_regions` remain. A map of zeros has none.

    Polygons deviate from the mask's outline by at most `simplification_tolerance` + 0.5 pixels, less where a region is
    so thin that this would change its area by more than an eighth.
    Raises `RegionError` for a map of another shape, with values that are negative or not finite, and for a threshold
    outside (0, 1] or `max_regions` below 1.
    """
    _check(attribution_map, threshold, max_regions)
    largest = float(attribution_map.max())
    if largest == 0:
        return ()
    inside = attribution_map >= threshold * largest
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
    sums = np.bincount(labels[inside], weights=attribution_map[inside], minlength=count)
    evidence = sums / attribution_map.sum(dtype=np.float64)
    areas = stats[:, cv2.CC_STAT_AREA]
    by_evidence = np.argsort(-evidence[1:], kind="stable") + 1
    large = (areas[by_evidence] >= smallest_area(labels.shape, minimum_area)) & (evidence[by_evidence] >= MIN_EVIDENCE)
    large[0] = True
    kept = by_evidence[large][:max_regions]
    return tuple(_region(attribution_map, labels, stats, int(label), float(evidence[label])) for label in kept)


def smallest_area(size: tuple[int, ...], minimum_area: float = MIN_AREA_SHARE) -> float:
    """Pixels below which an area in an image of `size` is a speck."""
    return max(MIN_AREA, minimum_area * math.prod(size))


def simplification_tolerance(size: tuple[int, ...]) -> float:
    """Pixels by which thinning may move an outline in an image of `size`: 0.5 up to 400 pixels, growing as the root."""
    return 0.5 * math.sqrt(max(1.0, max(size) / 400))


def _region(
    attribution_map: NDArray[np.floating],
    labels: NDArray[np.int32],
    stats: NDArray[np.int32],
    label: int,
    evidence: float,
) -> Region:
    x, y, width, height, area = (int(value) for value in stats[label])
    mask = labels[y : y + height, x : x + width] == label
    outline = exact_outline(mask, smallest_hole=smallest_area(labels.shape))
    tolerance = min(simplification_tolerance(labels.shape), area / perimeter(outline.outer) / 8)
    thinned = simplified(outline, tolerance)
    origin = np.array([x, y], dtype=np.float64)
    return Region(
        polygon=thinned.outer + origin,
        holes=tuple(hole + origin for hole in thinned.holes),
        box=(x, y, width, height),
        mask=mask,
        area=area,
        evidence=evidence,
        peak=float(attribution_map[y : y + height, x : x + width][mask].max()),
    )


def _check(attribution_map: NDArray[np.floating], threshold: float, max_regions: int) -> None:
    if attribution_map.ndim != 2 or not attribution_map.size:
        raise RegionError(f"the map must be [height, width], not {attribution_map.shape}")
    if not np.issubdtype(attribution_map.dtype, np.floating):
        raise RegionError(f"the map must hold floats, not {attribution_map.dtype}")
    if not np.isfinite(attribution_map).all() or attribution_map.min() < 0:
        raise RegionError("the map holds values that are negative or not finite")
    if not 0 < threshold <= 1:
        raise RegionError(f"the threshold is a share of the map's largest value, in (0, 1], not {threshold}")
    if max_regions < 1:
        raise RegionError(f"max_regions must be at least 1, not {max_regions}")
