"""How far probabilities can be believed: calibration errors, proper scores and the bins of a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.intervals import clopper_pearson

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BINS = 10
_LEAST_IN_A_BIN = 10
# Keeps a probability of 0 for what was true from making the mean of all images infinite.
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Bin:
    """Images of about the same probability.

    Attributes:
        count: of the images.
        probability: the mean that was stated.
        frequency: the share in which the statement was true.
        low: lower end of the frequency's 95 % Clopper-Pearson interval.
        high: its upper end.
    """

    count: int
    probability: float
    frequency: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """How far the probabilities of a set of images can be believed.

    Attributes:
        expected_error: mean distance, 0 to 1, between stated probability and frequency over bins of equally many
            images: of the decided class under softmax, of all classes' probabilities together under sigmoid.
        classwise_error: the mean of the same over the classes, of each class's probability by itself.
        defect_error: the same of the probability of any defect; None without a good class.
        brier: mean squared distance from the truth, summed over the classes.
        log_loss: mean of the truth's negative log likelihood in nats, summed over the classes under sigmoid.
        bins: what `expected_error` was counted from, by rising probability.
        defect_bins: what `defect_error` was counted from; empty without a good class.
    """

    expected_error: float
    classwise_error: float
    defect_error: float | None
    brier: float
    log_loss: float
    bins: tuple[Bin, ...]
    defect_bins: tuple[Bin, ...]


def reliability(
    probabilities: NDArray[np.float64], targets: NDArray[np.bool_], *, good: int | None, exclusive: bool
) -> Reliability:
    """Measure probabilities against the truth.

    Args:
        probabilities: [N, C].
        targets: [N, C], which classes each image is of.
        good: index of the good class, if there is one.
        exclusive: whether an image is of exactly one class (softmax).

    Raises:
        ValueError: N is 0.
    """
    if len(targets) == 0:
        raise ValueError("there are no images to measure probabilities on")
    if exclusive:
        first = probabilities.argmax(axis=1)
        rows = np.arange(len(first))
        bins = equal_mass_bins(probabilities[rows, first], targets[rows, first])
    else:
        bins = equal_mass_bins(probabilities.ravel(), targets.ravel())
    columns = [equal_mass_bins(p, y) for p, y in zip(probabilities.T, targets.T, strict=True)]
    defect = () if good is None else equal_mass_bins(1 - probabilities[:, good], ~targets[:, good])
    return Reliability(
        expected_error=expected_error(bins),
        classwise_error=float(np.mean([expected_error(column) for column in columns])),
        defect_error=expected_error(defect) if defect else None,
        brier=float(((probabilities - targets) ** 2).sum(axis=1).mean()),
        log_loss=log_loss(probabilities, targets, exclusive=exclusive),
        bins=bins,
        defect_bins=defect,
    )


def equal_mass_bins(
    probabilities: NDArray[np.float64], true: NDArray[np.bool_], bins: int | None = None
) -> tuple[Bin, ...]:
    """Statements [N] in bins of equally many, but for one, by rising probability.

    Args:
        probabilities: what was stated, 0 to 1.
        true: whether it was so.
        bins: how many; by default 10, or fewer such that each has 10 statements.
    """
    wanted = max(1, min(_BINS, len(true) // _LEAST_IN_A_BIN)) if bins is None else bins
    order = np.argsort(probabilities, kind="stable")
    found = []
    for part in np.array_split(order, wanted):
        if len(part):
            hits = int(true[part].sum())
            low, high = clopper_pearson(hits, len(part))
            found.append(Bin(len(part), float(probabilities[part].mean()), hits / len(part), low, high))
    return tuple(found)


def expected_error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error: the bins' mean distance of probability and frequency, by their counts.

    Guo et al., "On calibration of modern neural networks", 2017, eq. 3, with bins of equal mass, which are less biased
    (Nixon et al., "Measuring calibration in deep learning", 2019).
    """
    return sum(b.count * abs(b.frequency - b.probability) for b in bins) / sum(b.count for b in bins)


def log_loss(probabilities: NDArray[np.float64], targets: NDArray[np.bool_], *, exclusive: bool) -> float:
    """Mean negative log likelihood of the truth in nats: of the one true class, or summed over all classes' answers."""
    likely = np.maximum(np.where(targets, probabilities, 1.0 if exclusive else 1.0 - probabilities), _SMALLEST)
    return float(-np.log(likely).sum(axis=1).mean())
