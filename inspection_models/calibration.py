"""Temperature scaling (Guo et al., "On calibration of modern neural networks", 2017), drawn towards no change.

Fitted as the mode of a posterior, for few images without a mistake among them would ask for boundless confidence.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
from scipy.special import log_softmax  # type: ignore[import-untyped]

from inspection_models.model_card import Calibration

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from numpy.typing import NDArray

_LOWEST, _HIGHEST = 0.05, 20.0
# The logarithm of the temperature is taken to be normal about 0 with this deviation: a factor of 1.6 either way.
_DEVIATION = 0.5
# A class with fewer images of it, or not of it, has too little to say on a temperature of its own.
_LEAST_OF_A_CLASS = 10


def fit_calibration(
    logits: NDArray[np.float32], targets: NDArray[np.bool_], activation: Literal["softmax", "sigmoid"]
) -> Calibration:
    """The temperature of softmax, or under sigmoid that of each class.

    A class that has fewer than ten images, or lacks fewer than ten, gets the temperature of all classes together.

    Args:
        logits: [N, C], of images that were not trained on.
        targets: [N, C], which classes each image is of; one each under softmax.
        activation: see `ModelCard`.

    Raises:
        ValueError: there is nothing to fit on.
    """
    _check(logits, targets)
    if activation == "softmax":
        return Calibration(temperature=fit_temperature(logits, targets.argmax(axis=1)))
    shared = _likeliest(partial(_binary_loss, logits, targets))
    own = []
    for scores, hits in zip(logits.T, targets.T, strict=True):
        enough = min(int(hits.sum()), int((~hits).sum())) >= _LEAST_OF_A_CLASS
        own.append(_likeliest(partial(_binary_loss, scores, hits)) if enough else shared)
    return Calibration(temperature=shared, class_temperatures=tuple(own))


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The most probable temperature T, 0.05 to 20, of softmax(logits / T) (eq. 9), with a prior about 1.

    Args:
        logits: [N, C], of images that were not trained on.
        labels: [N], true class indices.

    Raises:
        ValueError: there is nothing to fit on.
    """
    _check(logits, labels)
    return _likeliest(lambda t: len(labels) * negative_log_likelihood(logits, labels, t))


def negative_log_likelihood(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean of -log softmax(logits / temperature) at the true class, in nats."""
    log_probabilities = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def _likeliest(loss: Callable[[float], float]) -> float:
    """The temperature with the least sum of a summed loss, in nats, and the prior's."""
    result = minimize_scalar(
        lambda log_t: loss(float(np.exp(log_t))) + 0.5 * (log_t / _DEVIATION) ** 2,
        bounds=(np.log(_LOWEST), np.log(_HIGHEST)),
        method="bounded",
    )
    return float(np.exp(result.x))


def _binary_loss(logits: NDArray[np.float32], targets: NDArray[np.bool_], temperature: float) -> float:
    signed = np.where(targets, 1.0, -1.0) * logits.astype(np.float64) / temperature
    return float(np.logaddexp(0.0, -signed).sum())


def _check(logits: NDArray[np.float32], truth: NDArray[np.generic]) -> None:
    if len(logits) == 0 or len(logits) != len(truth):
        raise ValueError(
            f"{len(logits)} rows of logits and {len(truth)} labels; as many of both are needed, at least 1"
        )
