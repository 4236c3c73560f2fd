"""Which feature maps are worth a mask (SISE, equations 6 to 8; Ada-SISE, arXiv 2102.07799)."""

from __future__ import annotations

import torch
from torch import Tensor

from inspection_models.attribution.confidence import precise
from inspection_models.attribution.fusion import otsu_threshold
from inspection_models.attribution.masks import resized

_ROUNDING_STEPS = 8


def channel_weights(gradients: Tensor) -> Tensor:
    """alpha_k, the sum of channel k's gradient, of gradients [C, h, w]: float64 [C] on the CPU."""
    return precise(gradients).sum(dim=(1, 2)).cpu().double()


def above_share(alpha: Tensor, mu: float) -> Tensor:
    """SISE: channel k stays iff alpha_k > mu * beta and alpha_k > 0, beta being the largest alpha. Bool [C].

    The second matters only where no alpha is positive: then none stays.
    """
    return alpha > max(mu * float(alpha.max()), 0.0)


def above_otsu(alpha: Tensor) -> Tensor:
    """Ada-SISE: of the positive alpha, divided by the largest, those above their own Otsu threshold stay. Bool [C].

    The threshold is that of 256 bins on [0, 1]. Where all positive alpha share one bin there is nothing to tell apart:
    all of them stay.
    """
    positive = alpha > 0
    shares = alpha / alpha.max()
    if not bool(positive.any()):
        return positive
    return positive & (shares >= otsu_threshold(shares[positive].numpy()))


def constant_channels(feature_maps: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Which of the maps [C, h, w] show nothing: they vary by no more than a few rounding steps. Bool [C].

    Where a network magnifies its input of `input_size` (H, W), what is lost at that size is not shown either.
    """
    height, width = input_size
    magnified = feature_maps.shape[1] > height or feature_maps.shape[2] > width
    flat = (resized(feature_maps, input_size) if magnified else feature_maps).flatten(1)
    low, high = torch.aminmax(flat, dim=1)
    return high - low <= _ROUNDING_STEPS * torch.finfo(flat.dtype).eps * torch.maximum(high.abs(), low.abs())
