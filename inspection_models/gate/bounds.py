"""Bounds of rates and of their paired differences, exact or by score: none of them is zero wide for want of errors.

All bounds are one-sided: `low` and `high` each hold with the stated confidence. Counts may be fractions, for images of
one part are alike: `effective_parts` says how many independent ones they are worth, and counts are scaled to that
(the effective sample size in a Clopper-Pearson interval is Korn and Graubard's, Survey Methodology 24, 1998).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import beta, binomtest, norm  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

# Beyond so many times as many images a wish for more of them is no advice.
_FURTHEST = 1e4


@dataclass(frozen=True)
class Bounds:
    """A figure with its lower and upper bound."""

    value: float
    low: float
    high: float

    def mirrored(self) -> Bounds:
        """Of the same figure with the other sign."""
        return Bounds(-self.value, -self.high, -self.low)


def effective_parts(groups: Iterable[Hashable]) -> float:
    """How many independent parts images in these groups are worth: (sum m)^2 / sum m^2 over the groups' sizes m (Kish).

    The images of one group are taken for exact repetitions, the worst case. It does not depend on what was decided, so
    that one error more never makes a bound better. Equal groups: their number; none: 0.
    """
    sizes = np.array(list(Counter(groups).values()), dtype=np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def clopper_pearson(count: float, of: float, confidence: float) -> Bounds:
    """A rate count / of with exact binomial bounds (Clopper and Pearson, Biometrika 26, 1934).

    Raises:
        ValueError: `of` is not above 0, or `count` does not lie in [0, of].
    """
    if not 0 <= count <= of or of <= 0:
        raise ValueError(f"a rate of {count} in {of} has no interval")
    low = float(beta.ppf(1 - confidence, count, of - count + 1)) if count > 0 else 0.0
    high = float(beta.ppf(confidence, count + 1, of - count)) if count < of else 1.0
    return Bounds(count / of, low, high)


def paired_difference(first_only: float, second_only: float, of: float, confidence: float) -> Bounds:
    """The difference of two rates on the same cases, (first_only - second_only) / of, with Tango's score bounds.

    With no disagreement at all the bounds are z^2 / (n + z^2) on either side, never zero (Tango, Statistics in Medicine
    17, 1998, eq. 8 to 13).

    Args:
        first_only: cases that count for the first rate and not for the second.
        second_only: the other way round.
        of: all cases, also those that agree.
        confidence: of each bound.

    Raises:
        ValueError: `of` is not above 0, or more cases disagree than there are.
    """
    # Scaled counts can exceed their sum by a rounding error.
    if of <= 0 or min(first_only, second_only) < 0 or first_only + second_only > of * (1 + 1e-12):
        raise ValueError(f"{first_only} and {second_only} of {of} cases cannot disagree")
    z = float(norm.ppf(confidence))
    value = (first_only - second_only) / of
    # By symmetry, so that swapped arguments give mirrored bounds to the bit.
    high = _highest_difference(first_only, second_only, of, z)
    low = -_highest_difference(second_only, first_only, of, z)
    return Bounds(value, low, high)


def combined(components: Sequence[Bounds], *, independent: bool) -> Bounds:
    """The mean of several figures, each with its bounds.

    Where they are independent, by the method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27,
    2008): the distances from figure to bound add up by their squares. Otherwise the distances themselves are averaged,
    which no dependence can exceed.

    Raises:
        ValueError: there are none.
    """
    if not components:
        raise ValueError("there is nothing to take a mean of")
    value = float(np.mean([one.value for one in components]))
    below = np.array([one.value - one.low for one in components])
    above = np.array([one.high - one.value for one in components])
    if independent:
        reach = [float(np.sqrt((side**2).sum())) / len(components) for side in (below, above)]
    else:
        reach = [float(side.mean()) for side in (below, above)]
    return Bounds(value, value - reach[0], value + reach[1])


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value of McNemar's test: 0.5 is tested with the disagreements alone; 1 where there are none."""
    if first_only + second_only == 0:
        return 1.0
    return float(binomtest(first_only, first_only + second_only, 0.5).pvalue)


def further_parts(bound_at: Callable[[float], float], limit: float, parts: float) -> int | None:
    """How many parts more would bring an upper bound to `limit`, if they came out as those at hand.

    Args:
        bound_at: the bound if there were so many times as many parts, from 1; falling.
        limit: where it is to lie.
        parts: how many there are.

    Returns:
        Their number, rounded up; 0 where the bound lies there already, None where no number of parts would do.
    """
    if bound_at(1.0) <= limit:
        return 0
    if bound_at(_FURTHEST) > limit:
        return None
    low, high = 0.0, float(np.log(_FURTHEST))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if bound_at(float(np.exp(middle))) <= limit else (middle, high)
    # A rounding error is no further part.
    return max(1, int(np.ceil((np.exp(high) - 1) * parts - 1e-6)))


def _highest_difference(first_only: float, second_only: float, of: float, z: float) -> float:
    """The largest difference whose score, with the other probability at its likeliest, is no more than z below."""
    value = (first_only - second_only) / of
    low, high = value, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(middle, first_only, second_only, of) >= -z else (low, middle)
    return high


def _score(difference: float, first_only: float, second_only: float, of: float) -> float:
    a = 2 * of
    b = -first_only - second_only + (2 * of - first_only + second_only) * difference
    c = -second_only * difference * (1 - difference)
    likeliest = (np.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = of * (2 * likeliest + difference * (1 - difference))
    distance = first_only - second_only - of * difference
    if variance <= 0:
        return 0.0 if distance == 0 else float(np.copysign(np.inf, distance))
    return float(distance / np.sqrt(variance))
