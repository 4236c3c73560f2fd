"""Percentile bootstrap: how far a figure could have come out differently with other images of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.metrics.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A figure of `of` cases, `value`, with the bounds `low` and `high` of its 95 % percentile interval."""

    value: float
    low: float
    high: float
    of: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside: for a difference, whether it is more than chance."""
        return self.low > 0 or self.high < 0


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], count: int, *, seed: int = 0) -> Interval:
    """A statistic of `count` cases with its interval over 2,000 resamples with replacement.

    Resamples for which the statistic is undefined (not a number) do not count.

    Args:
        statistic: from an array of case indices to a number.
        count: of cases, at least 1.
        seed: of the resampling; cases that are compared pair by pair need the same one.

    Raises:
        MetricError: there are no cases.
    """
    values = np.array([statistic(draw) for draw in _draws(count, seed)])
    return _interval(float(statistic(np.arange(count))), values, count)


def mean_interval(values: Sequence[float] | NDArray[np.floating], *, seed: int = 0) -> Interval:
    """The mean of `values`, one a case, with its interval. Raises `MetricError` where there are none."""
    array = np.asarray(values, dtype=np.float64)
    draws = _draws(len(array), seed)
    return _interval(float(array.mean()), array[draws].mean(axis=1), len(array))


def paired_difference(
    values: Sequence[float] | NDArray[np.floating], others: Sequence[float] | NDArray[np.floating], *, seed: int = 0
) -> Interval:
    """The mean of `values` - `others`, taken case by case, with its interval.

    Raises:
        MetricError: the two are not of the same cases, or there are none.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise MetricError(f"paired figures need one value a case on both sides, not {first.shape} and {second.shape}")
    return mean_interval(first - second, seed=seed)


def _draws(count: int, seed: int) -> NDArray[np.int64]:
    if count < 1:
        raise MetricError("there are no cases to take a figure of")
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _interval(value: float, resampled: NDArray[np.float64], count: int) -> Interval:
    low, high = np.nanpercentile(resampled, _PERCENTILES)
    return Interval(value, float(low), float(high), count)
