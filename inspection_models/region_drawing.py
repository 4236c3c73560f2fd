"""From a photograph and its attribution map to regions, by the way that the model's card states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.regions import Region, RegionError, regions, regions_of_mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from inspection_models.model_card import RegionThresholds
    from inspection_models.region_settings import RegionDrawing


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
        Regions that say who drew them. Where a head draws nothing, the map does, so that a decision that rests on
        evidence always shows some.

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
    return regions(attribution_map, thresholds.relative, minimum_area=thresholds.minimum_area)
