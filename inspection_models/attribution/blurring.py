"""The picture without its details."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_RADIUS_IN_DEVIATIONS = 3


def gaussian_blur(images: Tensor, deviation: float) -> Tensor:
    """Images [N, C, H, W] under a Gaussian of this standard deviation in pixels, mirrored at the borders.

    Along one axis after the other; the kernel ends at three deviations, or where the image does.
    """
    channels = images.shape[1]
    result = images
    for axis in (2, 3):
        radius = min(math.ceil(_RADIUS_IN_DEVIATIONS * deviation), images.shape[axis] - 1)
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        weights = torch.exp(-(offsets**2) / (2 * deviation**2))
        shape = (-1, 1) if axis == 2 else (1, -1)
        kernel = (weights / weights.sum()).reshape(1, 1, *shape).expand(channels, 1, -1, -1)
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        result = functional.conv2d(functional.pad(result, padding, mode="reflect"), kernel, groups=channels)
    return result
