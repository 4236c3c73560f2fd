"""JSON from outside as the standard has it: finite numbers only, and no deeper than anything that is really sent."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

DEEPEST = 64
"""Levels of objects and lists; an annotation with all its regions has eight."""


def read(body: bytes) -> Any:
    """The value that a request's body holds.

    Python's own reader also takes NaN and Infinity, and whatever can just be read may be too deep to be written again.

    Raises:
        ValueError: it is no JSON, has a number that is not finite, or is deeper than `DEEPEST` levels.
    """
    try:
        value = json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    _require_shallow(value)
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _require_shallow(value: Any) -> None:
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise _too_deep()
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]


def _too_deep() -> ValueError:
    return ValueError(f"it has more than {DEEPEST} levels of objects and lists")
