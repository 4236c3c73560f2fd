"""What stands where a picture is taken away: two fills, because a figure that holds under one only is an artefact."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from inspection_models.metrics.errors import MetricError

Fill = Literal["mean", "blur"]
FILLS: tuple[Fill, ...] = get_args(Fill)
BLUR_SHARE = 0.05
"""Standard deviation of the blur, as a share of the input's shorter side: 11 pixels at 224 x 224."""

_RADIUS_IN_DEVIATIONS = 3


def fill_image(image: Tensor, fill: Fill) -> Tensor:
    """What replaces pixels of a network's input [C, H, W], of the same shape.

    "mean": 0 in the network's space, which is the mean that its preprocessing subtracts; "blur": the input itself,
    blurred by a Gaussian with a standard deviation of 5 % of its shorter side, so that no edge comes in with the cut.
    Raises `MetricError` for an unknown fill.
    """
    if fill == "mean":
        return torch.zeros_like(image)
    if fill == "blur":
        return gaussian_blur(image, BLUR_SHARE * min(image.shape[-2:]))
    raise MetricError(f"unknown fill {fill!r}: there are {', '.join(FILLS)}")


def gaussian_blur(image: Tensor, deviation: float) -> Tensor:
    """An image [C, H, W] blurred by a Gaussian of this standard deviation in pixels, mirrored at its borders.

    The kernel ends at three deviations, or where the image does.
    """
    blurred = image[None]
    for axis in (2, 3):
        radius = min(math.ceil(_RADIUS_IN_DEVIATIONS * deviation), image.shape[axis - 1] - 1)
        offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        weights = torch.exp(-(offsets**2) / (2 * deviation**2))
        shape = (-1, 1) if axis == 2 else (1, -1)
        kernel = (weights / weights.sum()).reshape(1, 1, *shape).expand(image.shape[0], 1, -1, -1)
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        padded = functional.pad(blurred, padding, mode="reflect")
        blurred = functional.conv2d(padded, kernel, groups=image.shape[0])
    return blurred[0]
