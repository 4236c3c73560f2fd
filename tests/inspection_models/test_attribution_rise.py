"""RISE against literal float64 code with the same random numbers, and its masks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection_models.attribution import AttributionError, attribute
from inspection_models.attribution.rise import RandomMasks, RiseOptions
from tests.inspection_models.attribution_networks import FAMILIES, BlockNetwork, Plain, Residual, built, images
from tests.inspection_models.sise_oracle import activated, normalised, upsampled

TOLERANCE = 1e-5


pytestmark = pytest.mark.usefixtures("one_thread")


def literal_mask(masks: RandomMasks, index: int) -> NDArray[np.float64]:
    """Section 3.2 of the paper: upsample to one cell more than the input, cut at the random place."""
    height, width = masks.size
    count = masks.cells.shape[1]
    cell = math.ceil(height / count), math.ceil(width / count)
    grown = upsampled(masks.cells[index].double().numpy(), ((count + 1) * cell[0], (count + 1) * cell[1]))
    top, left = masks.shifts[index].tolist()
    assert 0 <= top < cell[0] and 0 <= left < cell[1]
    return grown[top : top + height, left : left + width]


def literal(
    network: BlockNetwork, image: Tensor, target: int, masks: RandomMasks, keep: float, activation: str
) -> NDArray[np.float64]:
    """Equation 6: the map is the sum of the masks times their confidences, over N E[m]."""
    total = np.zeros(masks.size)
    count = len(masks.cells)
    for index in range(count):
        mask = literal_mask(masks, index)
        with torch.no_grad():
            logits = network.blocks_and_logits((image * torch.from_numpy(mask))[None])[1]
        total += float(activated(logits, activation)[0, target]) * mask / (keep * count)
    return normalised(total)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("activation", "options"),
    [("softmax", {"masks": 21}), ("sigmoid", {"masks": 20, "cells": 3, "keep": 0.3, "seed": 9})],
)
def test_agrees_with_the_paper(
    family: type[BlockNetwork], dtype: torch.dtype, activation: str, options: dict[str, Any]
) -> None:
    pictures, targets = images(2, 2), [[0, 1], [3, 2]]
    masks = RandomMasks.drawn(RiseOptions(**options), (40, 48))
    network = built(family, 1, dtype)
    result = attribute(network, pictures.to(dtype), torch.tensor(targets), "rise", activation, batch_size=8, **options)
    for index, row in enumerate(targets):
        for place, target in enumerate(row):
            expected = literal(built(family, 1), pictures[index], target, masks, options.get("keep", 0.5), activation)
            np.testing.assert_allclose(result.map[index, place], expected, atol=2e-5)
            assert expected.max() == 1
    assert result.masks_scored.tolist() == [options["masks"]] * 2


@given(height=st.integers(1, 40), width=st.integers(1, 40), cells=st.integers(1, 9), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_masks_are_the_papers_for_every_size(height: int, width: int, cells: int, seed: int) -> None:
    drawn = RandomMasks.drawn(RiseOptions(masks=3, cells=cells, seed=seed), (height, width))
    made = drawn.made(0, 3, torch.zeros((), dtype=torch.float64))
    assert made.shape == (3, height, width)
    for index in range(3):
        np.testing.assert_allclose(made[index], literal_mask(drawn, index), atol=1e-12)


def test_masks_depend_on_the_seed_alone() -> None:
    drawn = RandomMasks.drawn(RiseOptions(masks=9), (40, 48))
    like = torch.zeros(())
    whole = drawn.made(0, 9, like)
    torch.manual_seed(1)
    parts = [RandomMasks.drawn(RiseOptions(masks=9), (40, 48)).made(i, i + 3, like) for i in (0, 3, 6)]
    assert torch.equal(whole, torch.cat(parts))
    other = RandomMasks.drawn(RiseOptions(masks=9, seed=1), (40, 48))
    assert not torch.equal(drawn.cells, other.cells)


def test_masks_show_the_stated_share_everywhere() -> None:
    made = RandomMasks.drawn(RiseOptions(masks=4000, keep=0.3), (40, 48)).made(0, 4000, torch.zeros(()))
    assert made.min() >= 0 and made.max() <= 1
    # A cell's mean over 4,000 masks has a standard deviation of 0.0072.
    np.testing.assert_allclose(made.mean(dim=0), 0.3, atol=5 * 0.0072)


def test_drawing_leaves_the_callers_random_numbers_alone() -> None:
    network, pictures = built(Plain, 1), images(1, 2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    attribute(network, pictures, torch.tensor([1]), "rise", masks=5)
    assert torch.equal(torch.rand(3), expected)


def test_all_images_see_the_same_masks() -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.seen = built(Plain, 1), []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(x.clone())
            return self.network(x)

    watched, ones = Watched().eval(), torch.ones(2, 3, 40, 48, dtype=torch.float64)
    ones[1] *= 2
    attribute(watched, ones, torch.tensor([0, 1]), "rise", masks=12, batch_size=5)
    shown = torch.cat(watched.seen[1:])[:24, 0]
    assert torch.equal(shown[:12] * 2, shown[12:])


@pytest.mark.slow
def test_more_masks_bring_two_seeds_together() -> None:
    network, pictures = built(Residual, 6, torch.float32), images(1, 3, torch.float32)

    def distance(masks: int) -> float:
        left, right = (
            attribute(network, pictures, torch.tensor([1]), "rise", masks=masks, seed=seed).map for seed in (0, 1)
        )
        return float((left - right).abs().mean())

    assert distance(3000) < distance(30) / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": 0}, "masks must be a whole number of at least 1, not 0"),
        ({"masks": 10.0}, "masks must be a whole number"),
        ({"cells": 0}, "cells must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": True}, "seed must be a whole number"),
        ({"keep": 0.0}, r"keep must be a probability above 0 and below 1, not 0\.0"),
        ({"keep": 1}, "keep must be a probability"),
        ({"keep": float("nan")}, "keep must be a probability"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_wrong_options_are_told_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AttributionError, match=message):
        attribute(built(Plain, 0), images(1, 0), torch.tensor([0]), "rise", **options)
