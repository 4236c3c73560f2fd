"""From a photograph and its attribution map to regions, by the way that the model's card states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inspection_models.regions import MAX_REGIONS, MIN_EVIDENCE, Region, RegionError, regions, regions_of_mask
from inspection_models.snapping import snapped_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection_models.model_card import RegionThresholds
    from inspection_models.region_settings import RegionDrawing

KEPT_EVIDENCE = 0.05
"""An area of the map with this share of its evidence is shown as the map has it where snapping left it out."""


def draw_regions(
    pixels: NDArray[np.uint8],
    attribution_map: NDArray[np.floating],
    thresholds: RegionThresholds,
    drawing: RegionDrawing,
    *,
    head_map: NDArray[np.float32] | None = None,
) -> tuple[Region, ...]:
    """The regions of one class in one photograph, those with most evidence first.

    Args:
        pixels: uint8 [h, w, 3], RGB.
        attribution_map: [h, w], not negative; of a photograph in tiles the stitched one.
        thresholds: where the map is cut.
        drawing: who draws.
        head_map: for regions drawn by a head, the probability that a pixel is defective, [h, w] in [0, 1].

    Returns:
        Regions that say who drew them. Where a head draws nothing, snapping does, and where the photograph has no
        edges, the map: a decision that rests on evidence always shows some.

    Raises:
        RegionError: map, photograph and the head's map are not of one size, a map holds what it must not, or the head
            is to draw and its map is missing.
    """
    if pixels.shape[:2] != attribution_map.shape:
        raise RegionError(f"the photograph is {pixels.shape[:2]}, its map {attribution_map.shape}; they must be alike")
    if drawing.drawn_by == "learned" and drawing.head is not None:
        if head_map is None:
            raise RegionError("the regions are drawn by a head, whose map is missing; give head_map")
        found = regions_of_mask(
            head_map >= drawing.head.threshold,
            attribution_map,
            "learned",
            minimum_area=thresholds.minimum_area,
            least_evidence=drawing.least_evidence,
        )
        if found:
            return found
    cut = regions(attribution_map, thresholds.relative, minimum_area=thresholds.minimum_area)
    return cut if drawing.drawn_by == "map" or not cut else _snapped(pixels, attribution_map, thresholds, drawing, cut)


def _snapped(
    pixels: NDArray[np.uint8],
    attribution_map: NDArray[np.floating],
    thresholds: RegionThresholds,
    drawing: RegionDrawing,
    cut: tuple[Region, ...],
) -> tuple[Region, ...]:
    mask = snapped_mask(pixels, attribution_map)
    if mask is None:
        return cut
    drawn = regions_of_mask(
        mask,
        attribution_map,
        "snapped",
        minimum_area=thresholds.minimum_area,
        least_evidence=drawing.least_evidence,
    )
    # Crumbs at the border of what was moved; the first one stays, whatever it holds.
    drawn = drawn[:1] + tuple(region for region in drawn[1:] if region.evidence >= MIN_EVIDENCE)
    shown = mask_of(drawn, (mask.shape[0], mask.shape[1]))
    lost = [
        region
        for region in cut
        if region.evidence >= KEPT_EVIDENCE and not (shown[_window(region)] & region.mask).any()
    ]
    together = sorted((*drawn, *lost), key=lambda region: -region.evidence)
    return tuple(together[:MAX_REGIONS])


def mask_of(found: tuple[Region, ...], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of all regions of an image of `size` (height, width): bool [h, w]."""
    mask = np.zeros(size, np.bool_)
    for region in found:
        mask[_window(region)] |= region.mask
    return mask


def _window(region: Region) -> tuple[slice, slice]:
    x, y, width, height = region.box
    return slice(y, y + height), slice(x, x + width)
