"""How good an epoch was, by the validation part."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import expit, log_softmax  # type: ignore[import-untyped]

from inspection_models.training.evaluation import balanced_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection_models.training.request import EpochFigures


class ValidationFigures(NamedTuple):
    """Mean loss, share of right answers, and the mean of the classes' shares."""

    loss: float
    accuracy: float
    balanced_accuracy: float


def validation_figures(
    logits: NDArray[np.float32], targets: NDArray[np.float32], *, several: bool
) -> ValidationFigures:
    """Figures of logits [N, C] against targets [N, C], 1 for every class that an image shows.

    With several classes an image each class is a question of its own, answered with yes at half or more: the loss is
    the mean binary cross-entropy, and the balanced accuracy the mean, over the classes, of the shares of right answers
    among images that show it and among those that do not.
    """
    exact = logits.astype(np.float64)
    if not several:
        labels = targets.argmax(axis=1)
        decided = exact.argmax(axis=1)
        loss = -log_softmax(exact, axis=1)[np.arange(len(labels)), labels].mean()
        return ValidationFigures(float(loss), float((decided == labels).mean()), balanced_accuracy(decided, labels))
    shows = targets > 0
    right = (expit(exact) >= 0.5) == shows
    loss = np.where(shows, np.logaddexp(0, -exact), np.logaddexp(0, exact)).mean()
    shares = [
        float(np.mean([right[asked, place].mean() for asked in (column, ~column) if asked.any()]))
        for place, column in enumerate(shows.T)
    ]
    return ValidationFigures(float(loss), float(right.mean()), float(np.mean(shares)))


def is_better(figures: EpochFigures, best: EpochFigures) -> bool:
    """By balanced accuracy, and by the loss between equals."""
    return (figures.balanced_accuracy, -figures.validation_loss) > (best.balanced_accuracy, -best.validation_loss)
