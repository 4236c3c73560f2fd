"""Maps that know no model: what an explanation must beat before its figures say anything about the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from inspection_models.attribution.blurring import gaussian_blur
from inspection_models.metrics.errors import MetricError

_CENTRE_DEVIATION = 0.25
_CONTRAST_DEVIATION = 0.02


def uniform(image: Tensor) -> Tensor:
    """The same everywhere, [H, W] for an image [C, H, W]: a blind guess."""
    return torch.ones_like(image[0])


def centre_gaussian(image: Tensor) -> Tensor:
    """A Gaussian about the centre, [H, W] in (0, 1]: defects are often photographed in the middle.

    Its standard deviation is a quarter of each side.
    """
    axes = []
    for length in image.shape[1:]:
        place = (torch.arange(length, device=image.device, dtype=image.dtype) + 0.5) / length - 0.5
        axes.append(torch.exp(-(place**2) / (2 * _CENTRE_DEVIATION**2)))
    return axes[0][:, None] * axes[1]


def local_contrast(image: Tensor) -> Tensor:
    """Local standard deviation of an image [C, H, W], root mean square over its channels, [H, W]: defects stand out.

    The neighbourhood is a Gaussian with a standard deviation of 2 % of the shorter side, at least one pixel.
    """
    deviation = max(1.0, _CONTRAST_DEVIATION * min(image.shape[1:]))
    # About the image's mean, so that the difference of the two large numbers below keeps its digits.
    centred = image - image.mean(dim=(1, 2), keepdim=True)
    squares, mean = (gaussian_blur(plane[None], deviation)[0] for plane in (centred**2, centred))
    variance = squares - mean**2
    return variance.clamp_min(0).mean(dim=0).sqrt()


CONTROLS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "uniform": uniform,
    "centre-gaussian": centre_gaussian,
    "local-contrast": local_contrast,
}
"""Controls by name: each takes one image [C, H, W] to a map [H, W] of values of at least 0."""


def control_map(name: str, image: Tensor) -> Tensor:
    """The map [H, W] of a control. Raises `MetricError` for an unknown name or what is not one image [C, H, W]."""
    if name not in CONTROLS:
        raise MetricError(f"unknown control {name!r}: there are {', '.join(CONTROLS)}")
    if image.ndim != 3 or not image.is_floating_point():
        raise MetricError(f"a control needs one float image [C, H, W], not {image.dtype} {tuple(image.shape)}")
    return CONTROLS[name](image)
