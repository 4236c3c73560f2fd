"""From a stated risk to a line: how often parts may be decided wrongly, and which line the data show to keep to it.

A part is wrongly passed at a line if its score lies below it; the share of such parts only grows with the line. Lines
are tested from the safest on, each by whether its count of failures refutes that their share is above the stated rate
(exact binomial tail, Clopper and Pearson 1934), up to the first that does not: fixed-sequence testing as in
Angelopoulos et al., "Learn then test", 2021 (arXiv 2110.01052). As the safer lines were shown before, the choice among
them needs no correction: the promise holds with the stated confidence over the drawing of the data, for any
distribution of the scores, be they continuous or not. What comes out is Wilks' tolerance limit (Annals of Mathematical
Statistics 12, 1941).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.intervals import tail, upper_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RiskError(ValueError):
    """The data cannot show what was asked for; the message says why, what they can show and what would be needed."""


@dataclass(frozen=True)
class Risk:
    """A share of independent parts that may at most be decided wrongly.

    Attributes:
        rate: the share, above 0 and below 1.
        confidence: with which it is to be shown, above 0 and below 1; None asks that it holds on average over draws of
            the data, as in conformal prediction, or the lowest rate that the data allow where they are too few.

    Raises:
        RiskError: rate or confidence are out of range.
    """

    rate: float
    confidence: float | None = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise RiskError(f"the stated rate is {self.rate:.6g}; it must lie above 0 and below 1 (100 %)")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise RiskError(f"the confidence is {self.confidence:.6g}; it must lie above 0 and below 1 (100 %)")


@dataclass(frozen=True)
class Line:
    """A line and what it was shown on.

    Attributes:
        value: parts with a score below it are decided.
        failures: parts of the data with a score below it.
        parts: all parts of the data that could be decided wrongly.
        rate: that holds: the stated one or, on average and with few parts, the lowest that they allow.
        bound: upper end of the share of failures at the stated confidence; None where that is None.
    """

    value: float
    failures: int
    parts: int
    rate: float
    bound: float | None


def allowed_failures(parts: int, risk: Risk) -> int:
    """The largest number of failures among so many parts that still shows the risk to be kept; -1 where none does."""
    if risk.confidence is None:
        return math.floor(risk.rate * (parts + 1)) - 1
    beyond = 1 - risk.confidence
    low, high = -1, parts  # the tail rises with the count and is 1 at the number of parts
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tail(middle, parts, risk.rate) <= beyond else (low, middle)
    return low


def parts_needed(risk: Risk) -> int:
    """The smallest number of independent parts of which none fails that shows a risk to be kept."""
    if risk.confidence is None:
        needed = math.ceil(1 / risk.rate) - 1
    else:
        needed = math.ceil(math.log(1 - risk.confidence) / math.log1p(-risk.rate) - 1e-9)
    # Where the last digit of a quotient decides, the rule that is applied to the parts has the last word.
    return needed if allowed_failures(needed, risk) >= 0 else needed + 1


def lowest_rate(parts: int, confidence: float | None) -> float:
    """The lowest rate, 0 to 1, that so many independent parts can show if none of them fails."""
    return 1 / (parts + 1) if confidence is None else upper_bound(0, parts, confidence)


def highest_line(scores: NDArray[np.float32], risk: Risk, limit: float, failures: str, kind: str) -> Line:
    """The highest line, at most `limit`, below which parts may be decided at a risk.

    Args:
        scores: [N], one of each independent part that could be decided wrongly: it is below any line above its score.
        risk: what may happen at most.
        limit: no line above it, whatever the data allow.
        failures: what happens, in words, such as "escapes"; for messages.
        kind: of the parts, in words, such as "defective"; empty for all; for messages.

    Raises:
        RiskError: so few parts cannot show the rate with the confidence, or there are none.
    """
    parts, allowed, rate = len(scores), allowed_failures(len(scores), risk), risk.rate
    check_parts(parts, risk, failures, kind)
    if allowed < 0:
        allowed, rate = 0, lowest_rate(parts, None)
    value = limit if allowed >= parts else min(limit, float(np.sort(scores)[allowed]))
    failed = int((scores < value).sum())
    return Line(
        value=value,
        failures=failed,
        parts=parts,
        rate=rate,
        bound=None if risk.confidence is None else upper_bound(failed, parts, risk.confidence),
    )


def check_parts(parts: int, risk: Risk, failures: str, kind: str) -> None:
    """Make sure that so many parts can show a risk to be kept.

    Raises:
        RiskError: they cannot; says how many can, and what these show.
    """
    needed, kind = parts_needed(risk), f"{kind} " if kind else ""
    if parts == 0:
        raise RiskError(f"there are no {kind}parts to draw a line from; {needed} or more independent ones are needed")
    if risk.confidence is not None and allowed_failures(parts, risk) < 0:
        raise RiskError(
            f"at most {percent(risk.rate)} {failures} with {percent(risk.confidence)} confidence cannot be shown on "
            f"{parts} independent {kind}parts, even if not one fails: {needed} are needed, and these show "
            f"{percent(lowest_rate(parts, risk.confidence))} at best; add photographs of other {kind}parts, or state a "
            "higher rate or a lower confidence"
        )


def percent(share: float) -> str:
    """A share as a person writes it: 0.5 %, 95 %."""
    return f"{100 * share:.3g} %"
