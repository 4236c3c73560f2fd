"""Layouts are followed rightly where every element still knows the channel, row and column it came from."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inspection_models.attribution.layout import (
    Layout,
    after_operation,
    after_rank_change,
    after_reshape,
    is_stack_of_maps,
    is_stack_with_channels_last,
    layout_of_maps,
)

SHAPE = (1, 6, 4, 8)
NUMBERED = torch.arange(math.prod(SHAPE)).reshape(SHAPE)


def is_maps(elements: Tensor) -> bool:
    """Whether [1, C, h, w] holds every element of `NUMBERED` in its row and column, channels in any order."""
    if elements.shape != NUMBERED.shape:
        return False
    _, _, height, width = SHAPE
    within = elements % (height * width)
    return bool((within == torch.arange(height * width).reshape(1, 1, height, width)).all())


def factorised(number: int, draw: st.DrawFn) -> list[int]:
    sizes = []
    while number > 1:
        size = draw(st.sampled_from([d for d in range(2, number + 1) if number % d == 0]))
        sizes.append(size)
        number //= size
    return sizes


@st.composite
def ways(draw: st.DrawFn) -> tuple[Tensor, Layout]:
    """Some reshapes and permutations, then back to the shape of the maps."""
    elements, layout = NUMBERED, layout_of_maps(SHAPE)
    for _ in range(draw(st.integers(0, 3))):
        shape = factorised(elements.numel(), draw)
        shape.insert(draw(st.integers(0, len(shape))), 1)
        layout = after_reshape(layout, elements.shape, shape)
        elements = elements.reshape(shape)
        order = draw(st.permutations(range(len(shape))))
        elements, layout = elements.permute(order), tuple(layout[axis] for axis in order)
    return elements.reshape(SHAPE), after_reshape(layout, elements.shape, SHAPE)


@given(ways())
def test_what_is_called_maps_is_maps(way: tuple[Tensor, Layout]) -> None:
    elements, layout = way
    assert is_maps(elements) or not is_stack_of_maps(layout, SHAPE)


SHUFFLE = [((1, 2, 3, 4, 8), (0, 2, 1, 3, 4))]
TOKENS = [((1, 6, 32), (0, 2, 1)), ((1, 4, 8, 6), (0, 3, 1, 2))]
WINDOWS = [((6, 2, 2, 4, 2), (0, 1, 3, 2, 4))]
BACK = [((6, 2, 4, 2, 2), (0, 1, 3, 2, 4))]


@pytest.mark.parametrize(
    ("way", "maps"),
    [([], True), (SHUFFLE, True), (TOKENS, True), (TOKENS[:1], False), (WINDOWS, False), (WINDOWS + BACK, True)],
)
def test_ways_that_networks_take(way: list[tuple[tuple[int, ...], tuple[int, ...]]], maps: bool) -> None:
    elements, layout = NUMBERED, layout_of_maps(SHAPE)
    for shape, order in way:
        layout = after_reshape(layout, elements.shape, shape)
        elements, layout = elements.reshape(shape).permute(order), tuple(layout[axis] for axis in order)
    layout = after_reshape(layout, elements.shape, SHAPE)
    assert is_maps(elements.reshape(SHAPE)) == maps
    assert is_stack_of_maps(layout, SHAPE) == maps


def test_dropped_and_added_axes() -> None:
    layout = layout_of_maps(SHAPE)
    tokens = after_reshape(layout, SHAPE, (1, 2, 3, 4, 8))
    summed = after_rank_change(tokens, (1, 2, 3, 4, 8), (1, 3, 4, 8))
    assert is_stack_of_maps(summed, (1, 3, 4, 8))
    assert after_rank_change(layout, SHAPE, (5, 1, 6, 4, 8)) == (None, (), *layout[1:])
    # Which of two equal axes went cannot be told.
    square = (1, 6, 4, 4)
    assert after_rank_change(layout_of_maps(square), square, (1, 6, 4))[2] is None
    assert after_rank_change(layout, SHAPE, (7, 9)) == (None, None)


def test_operations_leave_axes_where_they_are() -> None:
    maps, last = layout_of_maps(SHAPE), (1, 4, 8, 6)
    channels_last = tuple(maps[axis] for axis in (0, 2, 3, 1))
    assert after_operation([(maps, SHAPE)], (1, 9, 2, 4)) == layout_of_maps((1, 9, 2, 4))
    assert after_operation([(channels_last, last)], (1, 4, 8, 12))[3] == layout_of_maps((1, 12, 4, 8))[1]
    assert not is_stack_of_maps(channels_last, last)
    gate = (layout_of_maps((1, 6, 1, 1)), (1, 6, 1, 1))
    assert after_operation([gate, (maps, SHAPE)], SHAPE) == maps
    assert after_operation([gate], SHAPE) == maps
    # A class token joined to the places: nobody knows any more which is which.
    tokens = after_reshape(maps, SHAPE, (1, 6, 32))
    assert after_operation([(tokens, (1, 6, 32))], (1, 6, 33))[2] is None


def test_channels_last_is_told_from_tokens() -> None:
    _, channels, rows, columns = layout_of_maps(SHAPE)
    assert is_stack_with_channels_last(((), rows, columns, channels), (1, 4, 8, 6))
    assert not is_stack_with_channels_last(((), columns, rows, channels), (1, 8, 4, 6))
    assert not is_stack_with_channels_last(((), rows, columns, None), (1, 4, 8, 6))
    assert not is_stack_with_channels_last(layout_of_maps(SHAPE), SHAPE)
    assert not is_stack_with_channels_last(after_reshape(layout_of_maps(SHAPE), SHAPE, (1, 6, 32)), (1, 6, 32))
