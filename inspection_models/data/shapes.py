"""Boxes and run lengths from the numbers that annotations write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inspection_models.data.dataset import Box

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Programs that scale or round put an edge up to a pixel beside the image.
_TOLERANCE = 1.0


def box_between(label: str, left: float, top: float, right: float, bottom: float, size: tuple[int, int]) -> Box:
    """The box between four edges in continuous pixels, rounded to whole pixels and at least one of them.

    Args:
        label: its class.
        left: x of its left edge.
        top: y of its upper edge.
        right: x of its right edge.
        bottom: y of its lower edge.
        size: height and width of the image.

    Raises:
        ValueError: an edge is no number, the box is turned inside out or lies more than a pixel outside the image.
    """
    height, width = size
    near = -_TOLERANCE <= left <= right <= width + _TOLERANCE and -_TOLERANCE <= top <= bottom <= height + _TOLERANCE
    if not near:
        corners = ", ".join(f"{edge:g}" for edge in (left, top, right, bottom))
        raise ValueError(f"the box ({corners}) does not lie in the image of {width} x {height} pixels")
    x, y = min(max(round(left), 0), width - 1), min(max(round(top), 0), height - 1)
    return Box(label, x, y, max(min(round(right), width) - x, 1), max(min(round(bottom), height) - y, 1))


def points_within(numbers: Sequence[float], size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """The corners x1, y1, x2, y2, ... of a polygon, in pixels, moved onto the image where they lie just beside it.

    Raises:
        ValueError: fewer than three corners, an odd number of numbers, or a corner more than a pixel outside.
    """
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"a polygon of {len(numbers)} numbers; it needs x and y of three corners or more")
    points = np.asarray(numbers, np.float64).reshape(-1, 2)
    limits = (size[1], size[0])
    if not ((points >= -_TOLERANCE) & (points <= np.add(limits, _TOLERANCE))).all():
        raise ValueError(f"a corner of the polygon does not lie in the image of {size[1]} x {size[0]} pixels")
    return tuple((float(x), float(y)) for x, y in np.clip(points, 0, limits))


def counts_of_starts(text: str, size: tuple[int, int]) -> tuple[int, ...]:
    """Run lengths in column order from Kaggle's "start length start length ...", which counts pixels from 1.

    Raises:
        ValueError: no pairs of whole numbers, runs that overlap or go back, or that leave the image.
    """
    numbers = np.array([int(word) for word in text.split()], np.int64)
    if len(numbers) % 2:
        raise ValueError("run lengths come in pairs of a start and a length; one number is missing")
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    ends = starts + lengths
    if (lengths < 1).any() or (starts < 0).any() or (starts[1:] < ends[:-1]).any():
        raise ValueError("run lengths must start at 1 or later, be longer than 0 and follow each other")
    total = size[0] * size[1]
    if len(ends) and ends[-1] > total:
        raise ValueError(f"run lengths reach pixel {ends[-1]}, the image of {size[1]} x {size[0]} has {total}")
    bounds = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [total]])
    return _joined(np.diff(bounds).tolist())


def counts_of_coco(counts: Iterable[int] | str, size: tuple[int, int]) -> tuple[int, ...]:
    """Run lengths in column order as COCO writes them: a list of them, or its text of six bits a character.

    In the text a number is cut into groups of five bits, lowest first, each in a character above "0" whose sixth bit
    says that more follow; from the fourth number on, it is the difference to the one before the last.

    Raises:
        ValueError: characters that are none of the code, a text that ends too early, or another number of pixels.
    """
    numbers = _unpacked(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if any(number < 0 for number in numbers) or sum(numbers) != size[0] * size[1]:
        raise ValueError(
            f"run lengths of {sum(numbers)} pixels for an image of {size[1]} x {size[0]} = {size[0] * size[1]}"
        )
    return tuple(numbers)


def _unpacked(text: str) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError(f"{character!r} is no character of COCO's run lengths")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("COCO's run lengths are cut off")
    return numbers


def _joined(counts: list[int]) -> tuple[int, ...]:
    """Run lengths without empty ones between two of a kind: runs that touch become one."""
    joined = [counts[0]]
    for outside, inside in zip(counts[2::2], counts[1::2], strict=True):
        if len(joined) > 1 and joined[-1] == 0:
            joined.pop()
            joined[-1] += inside
        else:
            joined.append(inside)
        joined.append(outside)
    if len(joined) > 1 and joined[-1] == 0:
        joined.pop()
    return tuple(joined)
