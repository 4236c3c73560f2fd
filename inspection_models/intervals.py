"""Exact binomial bounds (Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934)."""

from __future__ import annotations

from scipy.special import bdtr, betaincinv  # type: ignore[import-untyped]


def clopper_pearson(count: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the two-sided interval, 0 to 1, of a share seen `count` times in `of`; 0 and 1 where nothing was seen."""
    beyond = (1 - confidence) / 2
    return 1 - upper_bound(of - count, of, 1 - beyond), upper_bound(count, of, 1 - beyond)


def upper_bound(count: int, of: int, confidence: float) -> float:
    """The largest share, 0 to 1, that `count` in `of` does not refute with this confidence; 1 where all were hits."""
    return 1.0 if count == of else float(betaincinv(count + 1, of - count, confidence))


def tail(count: int, of: int, share: float) -> float:
    """P(Bin(of, share) <= count): of at most `count` hits in `of` independent trials, each a hit with `share`."""
    return 1.0 if count >= of else float(bdtr(count, of, share))
