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
    """Masks of `feature_maps` [K, h, w], none of them constant, for an input of `size` (H, W).

    Bilinear with half-pixel centres; minimum, maximum and area are those of the upsampled map. `areas` and `spans` are
    float64 on the CPU, `values` stay on the device in the maps' own precision.
    """
    upsampled = functional.interpolate(feature_maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    low, high = torch.aminmax(upsampled.flatten(1), dim=1)
    spans = high - low
    values = (upsampled - low[:, None, None]) / spans[:, None, None]
    return AttributionMasks(values, values.sum(dim=(1, 2)).cpu().double(), spans.cpu().double())
