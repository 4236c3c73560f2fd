"""Which feature maps are worth a mask (SISE, equations 6 to 8)."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDING_STEPS = 8


def select_channels(feature_maps: Tensor, gradients: Tensor, mu: float) -> Tensor:
    """Indices of the channels to score, ascending: int64 [K].

    `feature_maps` and `gradients` are [C, h, w]. With alpha_k the sum of channel k's gradient and beta the largest of
    them, channel k stays iff alpha_k > mu * beta and alpha_k > 0 (the second matters only where no alpha is positive:
    then none stays). Constant maps are left out: their masks are zero and add nothing.
    """
    alpha = gradients.cpu().double().sum(dim=(1, 2))
    kept = alpha > max(mu * float(alpha.max()), 0.0)
    return torch.nonzero(kept & ~constant_channels(feature_maps).cpu()).flatten()


def constant_channels(feature_maps: Tensor) -> Tensor:
    """Which of the maps [C, h, w] show nothing: they vary by no more than a few rounding steps. Bool [C]."""
    flat = feature_maps.flatten(1)
    low, high = torch.aminmax(flat, dim=1)
    return high - low <= _ROUNDING_STEPS * torch.finfo(flat.dtype).eps * torch.maximum(high.abs(), low.abs())
