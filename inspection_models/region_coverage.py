"""From a stated coverage to a threshold: how much of a defect its regions hold at least, on average.

Conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal risk control", 2022, arXiv 2208.02814):
the share of a defect that its regions leave out lies in [0, 1] and may only grow with the threshold; of thresholds at
which n independent groups of images leave out r on average, one with (n r + 1) / (n + 1) at most 1 - coverage keeps a
new group's expected share at most that, for any distribution. Specks and the number of regions bend the rise a little;
so a threshold counts with the most that any lower one left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.risk import RiskError, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def strictest_level(left_out: NDArray[np.floating], groups: Sequence[str], coverage: float) -> int:
    """The row of the highest threshold that keeps to a coverage.

    Args:
        left_out: [thresholds, images], thresholds rising: the share of an image's marked pixels, 0 to 1, that its
            regions leave out.
        groups: of alike images, [images]; each counts once, with its images' mean.
        coverage: the share of a defect that is to lie in its regions on average, above 0 and below 1.

    Raises:
        RiskError: the coverage is out of range, there are too few groups to show it, or even the lowest threshold
            leaves out too much.
    """
    names = sorted(set(groups))
    check_groups(coverage, len(names))
    of_group = np.array([[left_out[:, np.array(groups) == name].mean(axis=1)] for name in names])[:, 0]
    bounds = (np.maximum.accumulate(of_group, axis=1).sum(axis=0) + 1) / (len(names) + 1)
    keeping = np.flatnonzero(bounds <= 1 - coverage + 1e-12)
    if not len(keeping):
        raise RiskError(
            f"a coverage of {percent(coverage)} is not reached: at the lowest threshold the regions show "
            f"{percent(1 - bounds[0])}; state a lower coverage, or mark more defects for the head to learn from"
        )
    return int(keeping[-1])


def check_groups(coverage: float, groups: int) -> None:
    """Refuse a coverage that so many independent groups of images cannot show, whatever their regions.

    Raises:
        RiskError: they cannot, or the coverage is out of range.
    """
    if not 0 < coverage < 1:
        raise RiskError(f"the stated coverage is {coverage:.6g}; it must lie above 0 and below 1 (100 %)")
    needed = max(1, math.ceil(round(1 / (1 - coverage), 9)) - 1)
    if groups < needed:
        raise RiskError(
            f"a coverage of {percent(coverage)} cannot be shown on {groups} independent marked images: {needed} are "
            f"needed, and these show {percent(groups / (groups + 1))} at best; mark defects of other parts, or state a "
            "lower coverage"
        )
