"""The picture without its details."""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor

from inspection_models._torchvision import torchvision

_RADIUS_IN_DEVIATIONS = 3


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Images [..., H, W] under a Gaussian of this standard deviation in pixels, mirrored at the borders."""
    radii = [min(math.ceil(_RADIUS_IN_DEVIATIONS * deviation), side - 1) for side in images.shape[-2:]]
    height, width = (2 * radius + 1 for radius in radii)
    kernel, deviations = [width, height], [deviation, deviation]
    return cast("Tensor", torchvision.transforms.functional.gaussian_blur(images, kernel, deviations))
