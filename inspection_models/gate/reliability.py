"""Whether probabilities mean what they say: bins of a reliability diagram, calibration error, Brier score and loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 10
# float32 probabilities reach 0 and 1; a loss has to stay finite.
_LEAST = 1e-7


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of about the same stated probability: the mean of it, the share that came true, and their number."""

    stated: float
    observed: float
    images: int


def bin_of(probabilities: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of ten bins of equal mass each probability [N] falls into, for weights [R, N]: int64 [R, N].

    Equal probabilities stay together, in the bin where the middle of their mass lies; so the order of the images
    decides nothing.
    """
    _, block = np.unique(probabilities, return_inverse=True)
    order = np.argsort(block, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(block[order]) > 0])
    mass = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = mass.cumsum(axis=1) - mass / 2
    share = middle / mass.sum(axis=1, keepdims=True)
    bins: NDArray[np.int64] = np.minimum((share * BINS).astype(np.int64), BINS - 1)[:, block]
    return bins


def calibration_error(
    probabilities: NDArray[np.float64], came_true: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected calibration error under each row of weights [R, N]: float64 [R], in [0, 1].

    The mean distance between stated probability and observed share over bins of equal mass (Nixon et al., "Measuring
    calibration in deep learning", 2019), which bins of equal width do not measure where most probabilities are high.
    """
    bins = bin_of(probabilities, weights)
    gaps = weights * (probabilities - came_true)
    rows = np.arange(len(weights))[:, None] * BINS + bins
    sums = np.bincount(rows.ravel(), weights=gaps.ravel(), minlength=len(weights) * BINS).reshape(-1, BINS)
    error: NDArray[np.float64] = np.abs(sums).sum(axis=1) / weights.sum(axis=1)
    return error


def reliability_bins(probabilities: NDArray[np.float64], came_true: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    """The bins of a reliability diagram, those of low probability first; empty ones are left out."""
    bins = bin_of(probabilities, np.ones((1, len(probabilities))))[0]
    return tuple(
        ReliabilityBin(
            float(probabilities[bins == one].mean()), float(came_true[bins == one].mean()), int((bins == one).sum())
        )
        for one in np.unique(bins)
    )


def squared_errors(probabilities: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Brier score of each image: the sum over the last axis of (probability - truth)^2; [N, C] to [N]."""
    errors: NDArray[np.float64] = ((probabilities - truth) ** 2).sum(axis=-1)
    return errors


def log_losses(probabilities: NDArray[np.float64], truth: NDArray[np.bool_], *, exclusive: bool) -> NDArray[np.float64]:
    """Negative log likelihood of each image, in nats; [N, C] to [N].

    Args:
        probabilities: of the classes.
        truth: which of them are true.
        exclusive: exactly one class is true, and the probabilities sum to 1; otherwise each is a yes or no by itself.
    """
    safe = np.clip(probabilities, _LEAST, 1 - _LEAST)
    chosen = np.where(truth, np.log(safe), 0.0 if exclusive else np.log1p(-safe))
    losses: NDArray[np.float64] = -chosen.sum(axis=-1)
    return losses
