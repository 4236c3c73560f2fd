"""Attribution masks: feature maps, upsampled to the input's size and min-max normalised (SISE, mask function Omega)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class AttributionMasks:
    """`values` [K, H, W] in [0, 1]; `areas` [K], their sums; `spans` [K], max - min before normalising."""

    values: Tensor
    areas: Tensor
    spans: Tensor


def attribution_masks(feature_maps: Tensor, size: tuple[int, int]) -> AttributionMasks:
    """Masks of `feature_maps` [K, h, w], none of them constant at `size`, for an input of `size` (H, W).

    Bilinear with half-pixel centres; minimum, maximum and area are those of the upsampled map. All on the maps' device
    and in their precision, but at least in float32: the area of a large mask is beyond float16.
    """
    with torch.inference_mode():
        upsampled = resized(feature_maps.to(torch.promote_types(feature_maps.dtype, torch.float32)), size)
        low, high = torch.aminmax(upsampled.flatten(1), dim=1)
        spans = high - low
        values = upsampled.sub_(low[:, None, None]).div_(spans[:, None, None])
        return AttributionMasks(values, values.sum(dim=(1, 2)), spans)


def resized(feature_maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [K, h, w] at `size` (H, W): bilinear, with half-pixel centres."""
    return functional.interpolate(feature_maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
