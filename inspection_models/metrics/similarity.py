"""How alike two maps of the same picture are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, stats  # type: ignore[import-untyped]

from inspection_models.metrics.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_DEVIATION = 1.5
_WINDOW_DEVIATIONS = 3.5
_STABILISERS = (0.01**2, 0.03**2)


@dataclass(frozen=True)
class Similarity:
    """Of two maps: `spearman`, rank correlation in [-1, 1]; `ssim`, structural similarity in [-1, 1]; equal maps: 1."""

    spearman: float
    ssim: float


def similarity(first: Tensor, second: Tensor) -> Similarity:
    """Compare two maps [H, W] of one picture, both scaled to [0, 1] by their minimum and maximum.

    A constant map has no order: its rank correlation with any other map is 0, and with an equal one 1.
    Raises `MetricError` for shapes that differ and for values that are not finite.
    """
    if first.ndim != 2 or first.shape != second.shape or not first.numel():
        raise MetricError(f"two maps [H, W] of one size are needed, not {tuple(first.shape)} and {tuple(second.shape)}")
    one, other = (_scaled(image.detach().cpu().double().numpy()) for image in (first, second))
    if np.array_equal(one, other):
        return Similarity(1.0, 1.0)
    constant = np.ptp(one) == 0 or np.ptp(other) == 0
    spearman = 0.0 if constant else float(stats.spearmanr(one.ravel(), other.ravel()).statistic)
    return Similarity(spearman, structural_similarity(one, other))


def structural_similarity(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Mean SSIM (Wang et al. 2004, eq. 13) of two maps [H, W] in [0, 1].

    As published: windows of 11 x 11 pixels weighted by a Gaussian of 1.5 pixels, K1 = 0.01 and K2 = 0.03, range 1;
    borders are mirrored.
    """

    def local(values: NDArray[np.float64]) -> NDArray[np.float64]:
        weighted: NDArray[np.float64] = ndimage.gaussian_filter(values, _DEVIATION, truncate=_WINDOW_DEVIATIONS)
        return weighted

    mean_one, mean_two = local(first), local(second)
    variance_one = local(first**2) - mean_one**2
    variance_two = local(second**2) - mean_two**2
    covariance = local(first * second) - mean_one * mean_two
    c1, c2 = _STABILISERS
    alike = (2 * mean_one * mean_two + c1) * (2 * covariance + c2)
    largest = (mean_one**2 + mean_two**2 + c1) * (variance_one + variance_two + c2)
    return float(np.mean(alike / largest))


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise MetricError("the maps hold values that are not finite")
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)
