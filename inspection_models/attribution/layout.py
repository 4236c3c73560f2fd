"""Which axes of a tensor run over channels, rows and columns, followed through reshapes and permutations.

A network may split, merge and move axes between its convolutions: to shuffle channels, to cut windows, to make tokens.
Whether what comes out is again a stack of maps [1, C, h, w] cannot be read from its shape; the way there says it. One
image is followed, so axes of a single element mean nothing and carry nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

CHANNEL, ROW, COLUMN = 1, 2, 3


class Part(NamedTuple):
    """A run through one dimension of the maps: `size` steps of `stride` through its `total` elements."""

    dimension: int
    total: int
    stride: int
    size: int


Axis = tuple[Part, ...] | None
"""What an axis runs over, slowest first; empty for a single element, None where it is not known."""
Layout = tuple[Axis, ...]


def whole(dimension: int, size: int) -> Axis:
    """An axis over all of one dimension."""
    return (Part(dimension, size, 1, size),) if size > 1 else ()


def layout_of_maps(shape: Sequence[int]) -> Layout:
    """Layout of a stack of maps of one image, [1, C, h, w]."""
    return tuple(whole(dimension, size) for dimension, size in enumerate(shape))


def is_stack_of_maps(layout: Layout, shape: Sequence[int]) -> bool:
    """Whether a tensor of this layout and shape is [1, C, h, w] with its channels in any order."""
    if len(shape) != 4 or shape[0] != 1 or layout[1] is None:
        return False
    channels_only = all(part.dimension == CHANNEL for part in layout[1])
    return channels_only and all(layout[d] == whole(d, shape[d]) for d in (ROW, COLUMN))


def is_stack_with_channels_last(layout: Layout, shape: Sequence[int]) -> bool:
    """The same for [1, h, w, C]."""
    if len(shape) != 4:
        return False
    return is_stack_of_maps(tuple(layout[axis] for axis in (0, 3, 1, 2)), [shape[axis] for axis in (0, 3, 1, 2)])


def after_reshape(layout: Layout, before: Sequence[int], after: Sequence[int]) -> Layout:
    """Layout after a change of shape that leaves the elements in their order."""
    result: list[Axis] = [()] * len(after)
    for old, new in _groups(before, after):
        split = _split([layout[axis] for axis in old], [after[axis] for axis in new])
        for axis, parts in zip(new, split, strict=True):
            result[axis] = parts
    return tuple(result)


def after_rank_change(layout: Layout, before: Sequence[int], after: Sequence[int]) -> Layout:
    """Layout after axes were dropped or added (a sum, a stack, an index); unknown where sizes do not say which."""
    old, new = ([axis for axis, size in enumerate(shape) if size > 1] for shape in (before, after))
    result: list[Axis] = [None if size > 1 else () for size in after]
    few, many = ([before[a] for a in old], [after[a] for a in new])
    if len(few) > len(many):
        few, many = many, few
    first, last = _embedding(few, many), _embedding(few[::-1], many[::-1])
    if first is None or last is None or first != [len(many) - 1 - place for place in reversed(last)]:
        return tuple(result)
    for position, place in enumerate(first):
        source, target = (position, place) if len(old) <= len(new) else (place, position)
        result[new[target]] = layout[old[source]]
    return tuple(result)


def after_operation(sources: Sequence[tuple[Layout, tuple[int, ...]]], shape: Sequence[int]) -> Layout:
    """Layout of what an operation makes of tensors of its own rank; every axis stays where it is."""
    return tuple(
        _resized([(layout[axis], taken[axis]) for layout, taken in sources], axis, size) if size > 1 else ()
        for axis, size in enumerate(shape)
    )


def _resized(sources: Sequence[tuple[Axis, int]], axis: int, size: int) -> Axis:
    known = [(parts, taken) for parts, taken in sources if parts is not None]
    for parts, taken in known:
        if taken == size:
            return parts
    for parts, taken in known:
        if not parts and axis in (CHANNEL, ROW, COLUMN):
            return whole(axis, size)
        dimensions = {part.dimension for part in parts}
        if dimensions == {CHANNEL} or (len(dimensions) == 1 and parts == whole(parts[0].dimension, taken)):
            return whole(parts[0].dimension, size)
    return None


def _groups(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Smallest runs of axes, single elements left out, that hold the same elements before and after."""
    old, new = ([axis for axis, size in enumerate(shape) if size > 1] for shape in (before, after))
    while old or new:
        taken, made = [old.pop(0)], [new.pop(0)]
        count, wanted = before[taken[0]], after[made[0]]
        while count != wanted:
            if count < wanted:
                taken.append(old.pop(0))
                count *= before[taken[-1]]
            else:
                made.append(new.pop(0))
                wanted *= after[made[-1]]
        yield taken, made


def _split(axes: Sequence[Axis], sizes: Sequence[int]) -> list[Axis]:
    parts: list[Part] = []
    for axis in axes:
        if axis is None:
            return [None] * len(sizes)
        parts.extend(axis)
    result: list[Axis] = []
    for size in sizes:
        taken, left = [], size
        while left > 1:
            part = parts.pop(0)
            if left % part.size == 0:
                taken.append(part)
                left //= part.size
            elif part.size % left == 0:
                rest = part.size // left
                taken.append(part._replace(stride=part.stride * rest, size=left))
                parts.insert(0, part._replace(size=rest))
                left = 1
            else:
                return [None] * len(sizes)
        result.append(_joined(taken))
    return result


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Parts with neighbours that run on into one another made one."""
    if not parts:
        return ()
    result = [parts[0]]
    for left, right in pairwise(parts):
        if left[:2] == right[:2] and left.stride == right.stride * right.size:
            result[-1] = right._replace(size=result[-1].size * right.size)
        else:
            result.append(right)
    return tuple(result)


def _embedding(few: Sequence[int], many: Sequence[int]) -> list[int] | None:
    """The earliest places of `few` in `many`, in order; None where they are not all there."""
    places: list[int] = []
    for size in few:
        start = places[-1] + 1 if places else 0
        place = next((p for p in range(start, len(many)) if many[p] == size), None)
        if place is None:
            return None
        places.append(place)
    return places
