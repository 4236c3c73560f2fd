"""How good an epoch was, by the validation part."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import expit, log_softmax  # type: ignore[import-untyped]

from inspection_models.training.evaluation import balanced_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ValidationFigures(NamedTuple):
    """Mean of the classes' mean losses, share of right answers, and the mean of the classes' shares."""

    loss: float
    accuracy: float
    balanced_accuracy: float


def validation_figures(
    logits: NDArray[np.float32], targets: NDArray[np.float32], *, several: bool
) -> ValidationFigures:
    """Figures of logits [N, C] against targets [N, C], 1 for every class that an image shows.

    The loss weighs all classes alike, however many images each has: it is the mean, over the classes, of the mean
    cross-entropy of their images. With several classes an image each class is a question of its own, answered with yes
    at half or more, and a mean over its images is that of those that show it and of those that do not, weighed alike.
    """
    exact = logits.astype(np.float64)
    if not several:
        labels = targets.argmax(axis=1)
        decided = exact.argmax(axis=1)
        losses = -log_softmax(exact, axis=1)[np.arange(len(labels)), labels]
        loss = np.mean([losses[labels == label].mean() for label in np.unique(labels)])
        return ValidationFigures(float(loss), float((decided == labels).mean()), balanced_accuracy(decided, labels))
    shows = targets > 0
    right = (expit(exact) >= 0.5) == shows
    losses = np.where(shows, np.logaddexp(0, -exact), np.logaddexp(0, exact))
    return ValidationFigures(_of_both_answers(losses, shows), float(right.mean()), _of_both_answers(right, shows))


def _of_both_answers(values: NDArray[np.bool_] | NDArray[np.float64], shows: NDArray[np.bool_]) -> float:
    """Mean over classes of values [N, C]: each class's among images that show it and among the others, alike."""
    return float(
        np.mean(
            [
                np.mean([values[asked, place].mean() for asked in (column, ~column) if asked.any()])
                for place, column in enumerate(shows.T)
            ]
        )
    )
