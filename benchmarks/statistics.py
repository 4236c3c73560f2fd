"""Intervals for the figures on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import recall_score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_RESAMPLES = 2000


def bootstrap(statistic: Callable[[np.ndarray], float], count: int, *, seed: int = 0) -> dict[str, Any]:
    """A statistic of `count` cases with its 95 % percentile interval over 2,000 resamples.

    Args:
        statistic: from an array of case indices to a number.
        count: of cases.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, count, count)) for _ in range(_RESAMPLES)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return {
        "value": round(float(statistic(np.arange(count))), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "of": count,
    }


def balanced_accuracy(truth: Sequence[str], decided: Sequence[str]) -> dict[str, Any]:
    """Mean recall over the classes present, with its interval."""
    true, said = np.asarray(truth), np.asarray(decided)

    def statistic(cases: np.ndarray) -> float:
        return float(recall_score(true[cases], said[cases], average="macro", zero_division=np.nan))

    return bootstrap(statistic, len(true))


def mean(values: Sequence[float]) -> dict[str, Any]:
    """A mean with its interval."""
    array = np.asarray(values, dtype=float)
    return bootstrap(lambda cases: float(array[cases].mean()), len(array))
