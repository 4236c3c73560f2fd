"""Paired bootstrap over groups: both models' figures on the same resamples, so that what they share cancels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.gate.bounds import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    Figure: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]

RESAMPLES = 2000
FEWEST_GROUPS = 20
"""Percentile intervals of fewer groups are too narrow to decide anything."""

_WEIGHTS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class PairedFigure:
    """One figure of both models on the same images.

    Attributes:
        candidate: of the model that would be released.
        service: of the model in service.
        difference: candidate less service.
        images: how many it is of.
        groups: in how many groups of alike images.
    """

    candidate: Bounds
    service: Bounds
    difference: Bounds
    images: int
    groups: int


class GroupResamples:
    """Resamples of images by whole groups.

    The draw depends on the groups' names alone, not on the images' order.

    Attributes:
        groups: their number.
    """

    def __init__(self, groups: Sequence[str], seed: int) -> None:
        names, self._member_of = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
        self.groups = len(names)
        shares = np.full(self.groups, 1 / self.groups)
        self._draws = np.random.default_rng(seed).multinomial(self.groups, shares, RESAMPLES)

    def _of_all(self, figure: Figure) -> NDArray[np.float64]:
        # In pieces, for all weights of many images at once would fill the memory.
        step = max(1, _WEIGHTS_AT_ONCE // len(self._member_of))
        pieces = [self._draws[start : start + step] for start in range(0, RESAMPLES, step)]
        return np.concatenate([figure(piece[:, self._member_of].astype(np.float64)) for piece in pieces])

    def paired(
        self,
        candidate: Figure,
        service: Figure,
        confidence: float,
    ) -> PairedFigure:
        """Both figures and their difference, each with percentile bounds that hold with `confidence` by themselves.

        Args:
            candidate: from weights [R, N] of the images to the figure of each row [R].
            service: the same of the other model.
            confidence: of each bound.
        """
        images = len(self._member_of)
        whole = np.ones((1, images))
        values = float(candidate(whole)[0]), float(service(whole)[0])
        resampled = self._of_all(candidate), self._of_all(service)
        return PairedFigure(
            candidate=_bounds(values[0], resampled[0], confidence),
            service=_bounds(values[1], resampled[1], confidence),
            difference=_bounds(values[0] - values[1], resampled[0] - resampled[1], confidence),
            images=images,
            groups=self.groups,
        )


def weighted_mean(values: NDArray[np.float64]) -> Figure:
    """The mean of values [N] under weights [R, N]."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def _bounds(value: float, resampled: NDArray[np.float64], confidence: float) -> Bounds:
    low, high = np.quantile(resampled, (1 - confidence, confidence))
    return Bounds(value, float(low), float(high))
