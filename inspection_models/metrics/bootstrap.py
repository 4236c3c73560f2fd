"""Percentile bootstrap: how far a figure could have come out differently with other images of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.metrics.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A figure of `of` cases in `groups` groups, `value`, with the bounds of its 95 % percentile interval.

    A single group says nothing of how others would come out: its bounds are equal.
    """

    value: float
    low: float
    high: float
    of: int
    groups: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside, of an interval over several groups: whether a difference is more than chance."""
        return self.groups > 1 and (self.low > 0 or self.high < 0)


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
    return _interval(float(statistic(np.arange(count))), values, count, count)


def mean_interval(
    values: Sequence[float] | NDArray[np.floating], *, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> Interval:
    """The mean of `values`, one a case, with its interval.

    Args:
        values: of the cases.
        groups: of the cases: those of one group are alike (photographs of one part, say), so groups are resampled
            whole. Where resamples took such cases for independent, the interval would be too narrow. None: each case is
            its own group.
        seed: of the resampling.

    Raises:
        MetricError: there are no cases, or not one group a case.
    """
    array = np.asarray(values, dtype=np.float64)
    members = range(len(array)) if groups is None else groups
    if len(members) != len(array):
        raise MetricError(f"{len(array)} cases need as many groups, not {len(members)}")
    places: dict[Hashable, int] = {}
    member_of = np.array([places.setdefault(group, len(places)) for group in members], dtype=np.int64)
    draws = _draws(len(places), seed)
    sums, counts = np.bincount(member_of, weights=array), np.bincount(member_of)
    return _interval(float(array.mean()), sums[draws].sum(axis=1) / counts[draws].sum(axis=1), len(array), len(places))


def paired_difference(
    values: Sequence[float] | NDArray[np.floating],
    others: Sequence[float] | NDArray[np.floating],
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """The mean of `values` - `others`, taken case by case, with its interval; `groups` as in `mean_interval`.

    Raises:
        MetricError: the two are not of the same cases, there are none, or not one group a case.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise MetricError(f"paired figures need one value a case on both sides, not {first.shape} and {second.shape}")
    return mean_interval(first - second, groups=groups, seed=seed)


def _draws(count: int, seed: int) -> NDArray[np.int64]:
    if count < 1:
        raise MetricError("there are no cases to take a figure of")
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _interval(value: float, resampled: NDArray[np.float64], count: int, groups: int) -> Interval:
    low, high = np.nanpercentile(resampled, _PERCENTILES)
    return Interval(value, float(low), float(high), count, groups)
