"""From an attribution map, or a mask, to the connected areas that an inspector is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection_models.outlines import Ring, exact_outline, perimeter, simplified
from inspection_models.region_settings import LEAST_EVIDENCE, DrawnBy

MIN_AREA = 16
MIN_AREA_SHARE = 0.0005
MIN_EVIDENCE = 0.02
MAX_REGIONS = 10


class RegionError(ValueError):
    """The map or the threshold cannot be turned into regions."""


@dataclass(frozen=True, eq=False)
class Region:
    """One connected area, in pixels of the image.

    `polygon`: outer outline, float64 [K, 2] of x, y, K >= 3, within the image; pixel (x, y) covers [x, x + 1] x
    [y, y + 1].
    `holes`: outlines of what it does not include; smaller holes than the smallest region are left out.
    `box`: x, y, width, height of the mask's bounding box. `mask`: the exact pixels, bool [height, width], at the box.
    `area`: pixels of the mask. `evidence`: the map's sum over the mask divided by its sum over the image, in [0, 1].
    `peak`: the map's largest value in it. `drawn_by`: what drew it. `has_evidence`: whether the map supports it; a
    region that a head drew where the map says next to nothing has none.
    """

    polygon: Ring
    holes: tuple[Ring, ...]
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]
    area: int
    evidence: float
    peak: float
    drawn_by: DrawnBy = "map"
    has_evidence: bool = True


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
    _check_map(attribution_map)
    _check_number(max_regions)
    if not 0 < threshold <= 1:
        raise RegionError(f"the threshold is a share of the map's largest value, in (0, 1], not {threshold}")
    largest = float(attribution_map.max())
    if largest == 0:
        return ()
    areas = _Areas.of(attribution_map >= threshold * largest, attribution_map)
    by_evidence = np.argsort(-areas.evidence[1:], kind="stable") + 1
    large = areas.larger_than(minimum_area)[by_evidence] & (areas.evidence[by_evidence] >= MIN_EVIDENCE)
    large[0] = True
    return tuple(areas.region(int(label), "map") for label in by_evidence[large][:max_regions])


def regions_of_mask(
    mask: NDArray[np.bool_],
    attribution_map: NDArray[np.floating],
    drawn_by: DrawnBy,
    *,
    minimum_area: float = MIN_AREA_SHARE,
    least_evidence: float = LEAST_EVIDENCE,
    max_regions: int = MAX_REGIONS,
) -> tuple[Region, ...]:
    """Connected areas of a `mask` [h, w] that something else than the map's threshold drew, as regions.

    Those with most evidence come first, and of equals the larger ones. Specks by area are dropped as in `regions`,
    unless nothing else is there; then the first one stays. A region with less than `least_evidence` of the map's sum is
    marked as one without evidence, and kept: what a head draws is never hidden for want of an explanation.
    Raises `RegionError` where the map is as `regions` refuses it or has another size than the mask.
    """
    _check_map(attribution_map)
    _check_number(max_regions)
    if mask.shape != attribution_map.shape:
        raise RegionError(f"the mask is {mask.shape}, the map {attribution_map.shape}; they must be of one image")
    if not mask.any():
        return ()
    areas = _Areas.of(mask, attribution_map)
    ranked = np.lexsort((-areas.pixels[1:], -areas.evidence[1:])) + 1
    large = areas.larger_than(minimum_area)[ranked]
    large[0] |= not large.any()
    return tuple(areas.region(int(label), drawn_by, least_evidence) for label in ranked[large][:max_regions])


def smallest_area(size: tuple[int, ...], minimum_area: float = MIN_AREA_SHARE) -> float:
    """Pixels below which an area in an image of `size` is a speck."""
    return max(MIN_AREA, minimum_area * math.prod(size))


def simplification_tolerance(size: tuple[int, ...]) -> float:
    """Pixels by which thinning may move an outline in an image of `size`: 0.5 up to 400 pixels, growing as the root."""
    return 0.5 * math.sqrt(max(1.0, max(size) / 400))


@dataclass(frozen=True, eq=False)
class _Areas:
    """The 8-connected areas of a mask, numbered from 1; 0 is what lies outside.

    `labels`: number by pixel, int32 [h, w]; `boxes`: x, y, width, height; `pixels`: their numbers; `evidence`: shares
    of the map's sum.
    """

    attribution_map: NDArray[np.floating]
    labels: NDArray[np.int32]
    boxes: NDArray[np.int32]
    pixels: NDArray[np.int32]
    evidence: NDArray[np.float64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], attribution_map: NDArray[np.floating]) -> _Areas:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        sums = np.bincount(labels[mask], weights=attribution_map[mask], minlength=count)
        total = attribution_map.sum(dtype=np.float64)
        evidence = sums / total if total > 0 else np.zeros(count)
        return cls(attribution_map, labels, stats[:, : cv2.CC_STAT_AREA], stats[:, cv2.CC_STAT_AREA], evidence)

    def larger_than(self, minimum_area: float) -> NDArray[np.bool_]:
        return np.asarray(self.pixels >= smallest_area(self.labels.shape, minimum_area))

    def region(self, label: int, drawn_by: DrawnBy, least_evidence: float = 0.0) -> Region:
        x, y, width, height = (int(value) for value in self.boxes[label])
        area, evidence = int(self.pixels[label]), float(self.evidence[label])
        mask = self.labels[y : y + height, x : x + width] == label
        outline = exact_outline(mask, smallest_hole=smallest_area(self.labels.shape))
        tolerance = min(simplification_tolerance(self.labels.shape), area / perimeter(outline.outer) / 8)
        thinned = simplified(outline, tolerance)
        origin = np.array([x, y], dtype=np.float64)
        return Region(
            polygon=thinned.outer + origin,
            holes=tuple(hole + origin for hole in thinned.holes),
            box=(x, y, width, height),
            mask=mask,
            area=area,
            evidence=evidence,
            peak=float(self.attribution_map[y : y + height, x : x + width][mask].max()),
            drawn_by=drawn_by,
            has_evidence=evidence >= least_evidence,
        )


def _check_map(attribution_map: NDArray[np.floating]) -> None:
    if attribution_map.ndim != 2 or not attribution_map.size:
        raise RegionError(f"the map must be [height, width], not {attribution_map.shape}")
    if not np.issubdtype(attribution_map.dtype, np.floating):
        raise RegionError(f"the map must hold floats, not {attribution_map.dtype}")
    if not np.isfinite(attribution_map).all() or attribution_map.min() < 0:
        raise RegionError("the map holds values that are negative or not finite")


def _check_number(max_regions: int) -> None:
    if max_regions < 1:
        raise RegionError(f"max_regions must be at least 1, not {max_regions}")
