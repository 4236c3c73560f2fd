"""Intervals and spreads for the figures on record."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import recall_score

from inspection_models.metrics.bootstrap import Interval, bootstrap, mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def balanced_accuracy(truth: Sequence[str], decided: Sequence[str]) -> dict[str, Any]:
    """Mean recall over the classes present, with its interval."""
    true, said = np.asarray(truth), np.asarray(decided)

    def statistic(cases: NDArray[np.int64]) -> float:
        return float(recall_score(true[cases], said[cases], average="macro", zero_division=np.nan))

    return rounded(bootstrap(statistic, len(true)))


def mean(values: Sequence[float]) -> dict[str, Any]:
    """A mean with its interval."""
    return rounded(mean_interval(values))


def ratio(slow: Sequence[float], fast: Sequence[float], share: float = 1.0) -> dict[str, float]:
    """How many times longer `slow` took than `fast`, times `share`: the ratio of the medians.

    And, as spread, the lowest and highest ratio of runs that stood next to each other, one a repetition in both lists.
    """
    pairs = [a / b * share for a, b in zip(slow, fast, strict=True)]
    return {
        "median": round(statistics.median(slow) / statistics.median(fast) * share, 2),
        "lowest": round(min(pairs), 2),
        "highest": round(max(pairs), 2),
    }


def rounded(interval: Interval) -> dict[str, Any]:
    """An interval for a report."""
    return {
        "value": round(interval.value, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "of": interval.of,
    }
