"""What stands where a picture is taken away: two fills, because a figure that holds under one only is an artefact."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from inspection_models.attribution.blurring import gaussian_blur
from inspection_models.metrics.errors import MetricError

Fill = Literal["mean", "blur"]
FILLS: tuple[Fill, ...] = get_args(Fill)
BLUR_SHARE = 0.05
"""Standard deviation of the blur, as a share of the input's shorter side: 11 pixels at 224 x 224."""


def fill_image(image: Tensor, fill: Fill) -> Tensor:
    """What replaces pixels of a network's input [C, H, W], of the same shape.

    "mean": 0 in the network's space, which is the mean that its preprocessing subtracts; "blur": the input itself,
    blurred by a Gaussian with a standard deviation of 5 % of its shorter side, so that no edge comes in with the cut.
    Raises `MetricError` for an unknown fill.
    """
    if fill == "mean":
        return torch.zeros_like(image)
    if fill == "blur":
        return gaussian_blur(image[None], BLUR_SHARE * min(image.shape[-2:]))[0]
    raise MetricError(f"unknown fill {fill!r}: there are {', '.join(FILLS)}")
