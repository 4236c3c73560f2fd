"""Temperature scaling and its measure (Guo et al., "On calibration of modern neural networks", 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from scipy.special import log_softmax, softmax  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOWEST, _HIGHEST = 0.05, 20.0


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature T, 0.05 to 20, with the least negative log likelihood of softmax(logits / T) (eq. 9).

    Args:
        logits: [N, C], of images that were not trained on.
        labels: [N], true class indices.

    Raises:
        ValueError: there is nothing to fit on.
    """
    if len(logits) == 0 or len(logits) != len(labels):
        raise ValueError(
            f"{len(logits)} rows of logits and {len(labels)} labels; as many of both are needed, at least 1"
        )
    result = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, float(np.exp(log_t))),
        bounds=(np.log(_LOWEST), np.log(_HIGHEST)),
        method="bounded",
    )
    return float(np.exp(result.x))


def negative_log_likelihood(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean of -log softmax(logits / temperature) at the true class, in nats."""
    log_probabilities = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def expected_calibration_error(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float = 1.0, bins: int = 15
) -> float:
    """Mean distance, 0 to 1, between confidence and accuracy over equally wide bins of confidence (eq. 3)."""
    probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    total = sum(
        abs(float(correct[which == index].sum()) - float(confidence[which == index].sum())) for index in range(bins)
    )
    return total / len(labels)
