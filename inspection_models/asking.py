"""What a map says of one place of a photograph: the regions that lie in it, cut off at its border."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inspection_models.region_settings import LEAST_EVIDENCE
from inspection_models.regions import Region, RegionError, regions_of_mask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from inspection_models.region_settings import DrawnBy


STANDS_OUT = 2.0
"""Evidence is shown where nothing was drawn if it lies at least so many times as close as on the average of the map."""


def regions_in_place(
    attribution_map: NDArray[np.floating],
    place: NDArray[np.bool_],
    drawn: Mapping[DrawnBy, NDArray[np.bool_]],
    threshold: float,
    *,
    least_evidence: float = LEAST_EVIDENCE,
) -> tuple[Region, ...]:
    """The regions of one class within a place, those with most evidence first.

    Args:
        attribution_map: [h, w] in [0, 1], of the whole photograph.
        place: bool [h, w].
        drawn: the masks, bool [h, w], of the regions that the decision shows of the class, by what drew them.
        threshold: share of the largest value within the place, in (0, 1], from which a pixel belongs to a region where
            none of those is.
        least_evidence: share of the map's sum, 0 to 1.

    Returns:
        The parts of the drawn regions that lie in the place; where none of them has evidence, what stands out in the
        map there: areas with `least_evidence` or more, and with `STANDS_OUT` times what as large an area has on
        average; and where nothing does, those parts all the same. Their `evidence` is a share of the whole map's.

    Raises:
        RegionError: map, place and drawn regions are not of one size, or the map holds what it must not.
    """
    if any(mask.shape != attribution_map.shape for mask in (place, *drawn.values())):
        raise RegionError(f"the map is {attribution_map.shape}, place and regions are not; they must be of one image")
    parts = [
        region
        for drawn_by, mask in drawn.items()
        for region in regions_of_mask(mask & place, attribution_map, drawn_by, least_evidence=least_evidence)
    ]
    parts.sort(key=lambda region: -region.evidence)
    if any(region.has_evidence for region in parts):
        return tuple(parts)
    strongest = float(attribution_map[place].max(initial=0.0))
    if strongest == 0:
        return tuple(parts)
    found = regions_of_mask(
        place & (attribution_map >= threshold * strongest), attribution_map, "map", least_evidence=least_evidence
    )
    by_chance = STANDS_OUT / attribution_map.size
    standing_out = tuple(one for one in found if one.has_evidence and one.evidence >= by_chance * one.area)
    return standing_out or tuple(parts)


def share_in_place(attribution_map: NDArray[np.floating], place: NDArray[np.bool_]) -> float:
    """The share of the map's sum, 0 to 1, that lies within a place; 0 for a map of zeros."""
    total = float(attribution_map.sum(dtype=np.float64))
    return float(attribution_map[place].sum(dtype=np.float64)) / total if total > 0 else 0.0
