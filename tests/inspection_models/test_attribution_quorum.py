"""Quorum against a literal float64 version of its definition, and what must hold of it beyond that."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from inspection_models.attribution import Attribution, AttributionError, attribute, render_map
from inspection_models.networks import build_network
from tests.inspection_models import sise_oracle
from tests.inspection_models.attribution_networks import FAMILIES, INPUT_SIZE, BlockNetwork, Inverted, built, images

Map = NDArray[np.float64]
MIRRORS = [(), (1,), (2,), (1, 2)]


def explained(network: nn.Module, pictures: Tensor, targets: list[int], **options: object) -> Attribution:
    return attribute(network, pictures, torch.tensor(targets), "quorum", **options)


def literal(network: BlockNetwork, image: Tensor, target: int, activation: str, mirrors: list[tuple[int, ...]]) -> Map:
    """The definition, one channel and one view at a time; logarithms for the product."""
    size = tuple(image.shape[1:])
    blur = [gaussian_filter(plane, max(size) / 14, mode="mirror", radius=radius_of(size)) for plane in image.numpy()]
    total: list[Map] = []
    against: list[Map] = []
    for axes in mirrors:
        seen = image.flip(axes)[None].requires_grad_()
        blocks, logits = network.blocks_and_logits(seen)
        score = logits[0, target]
        if activation == "softmax":
            score = torch.log(logits.softmax(1)[0, target] / (1 - logits.softmax(1)[0, target]))
        gradients = torch.autograd.grad(score, (seen, *blocks))
        details = (image - torch.from_numpy(np.stack(blur))).flip(axes)
        levels, opposed = [], []
        for tensor, gradient in zip((details, *(b[0] for b in blocks)), gradients, strict=True):
            level, other = np.zeros(tuple(tensor.shape[1:])), np.zeros(tuple(tensor.shape[1:]))
            for channel in range(len(tensor)):
                product = (tensor[channel] * gradient[0, channel]).detach().numpy()
                level += np.maximum(product, 0)
                other += np.maximum(-product, 0)
            levels.append(np.flip(level, [axis - 1 for axis in axes]))
            opposed.append(np.flip(other, [axis - 1 for axis in axes]))
        total = [a + b for a, b in zip(total, levels, strict=True)] if total else levels
        against = [a + b for a, b in zip(against, opposed, strict=True)] if against else opposed
    height, width = size
    balances = [(p - n) / (p + n).mean() for p, n in zip(total[-2:], against[-2:], strict=True)]
    total[-1] = np.maximum(averaged(balances[0], balances[1].shape) + balances[1], 0)
    total[0] = averaged(total[0], ((height + 1) // 2, (width + 1) // 2))
    logarithms, lowest = np.zeros(size), 0.0
    for floor, level in zip([0.01] * (len(total) - 1) + [0.0001], total, strict=True):
        if np.ptp(level) > 1e-9 * level.max():
            upsampled = sise_oracle.upsampled(level, size)
            normal = (upsampled - upsampled.min()) / np.ptp(upsampled)
            logarithms += np.log(np.maximum(normal, floor))
            lowest += np.log(floor)
    fused = np.exp(logarithms / 2) - np.exp(lowest / 2)
    return fused / fused.max()


def averaged(values: Map, size: tuple[int, ...]) -> Map:
    """Each cell of the smaller grid is the mean of the cells that it covers, whole or in part."""
    out = np.empty(size)
    for row in range(size[0]):
        top, bottom = row * values.shape[0] // size[0], -(-(row + 1) * values.shape[0] // size[0])
        for column in range(size[1]):
            left, right = column * values.shape[1] // size[1], -(-(column + 1) * values.shape[1] // size[1])
            out[row, column] = values[top:bottom, left:right].mean()
    return out


def radius_of(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(int(np.ceil(3 * max(size) / 14)), side - 1) for side in size)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_agrees_with_its_definition(family: type[BlockNetwork], activation: str) -> None:
    network, pictures = built(family, seed=1), images(1, 2)
    for mirrored, mirrors in ((True, MIRRORS), (False, MIRRORS[:1])):
        result = explained(network, pictures, [1], activation=activation, mirrored=mirrored)
        expected = literal(network, pictures[0], 1, activation, mirrors)
        np.testing.assert_allclose(result.map[0], expected, atol=1e-5)
        assert result.map.max() == 1


@pytest.mark.parametrize("size", [(39, 45), (33, 48)])
def test_agrees_with_its_definition_where_sizes_do_not_divide(size: tuple[int, int]) -> None:
    network, pictures = built(Inverted, seed=1), images(1, 2)[..., : size[0], : size[1]]
    result = explained(network, pictures, [1])
    assert any(side % cells for side, cells in zip(size, result.blocks[0].size, strict=True))
    np.testing.assert_allclose(result.map[0], literal(network, pictures[0], 1, "softmax", MIRRORS), atol=1e-5)


def test_face() -> None:
    network = built(Inverted, 5, torch.float32)
    result = explained(network, images(3, 1, torch.float32), [0, 1, 3])
    assert result.map.dtype == torch.float32 and result.map.shape == (3, *INPUT_SIZE)
    assert (result.blocks[0].name, result.blocks[0].size) == ("input", (20, 24))
    assert [grids.shape for grids in result.block_grids] == [(3, *block.size) for block in result.blocks]
    assert result.masks_scored.tolist() == [0, 0, 0]
    assert json.loads(json.dumps(result.settings)) == {
        "method": "quorum",
        "activation": "softmax",
        "mirrored": True,
    }
    again, _ = render_map(result.block_grids, INPUT_SIZE, result.gate)
    assert again.tobytes() == result.map.numpy().tobytes()


def test_a_mirrored_picture_has_the_mirrored_map() -> None:
    """The four views are the same four for each of them, so nothing of the strided layers' lattice is left."""
    network, pictures = built(Inverted, 2), images(1, 3)
    upright = explained(network, pictures, [1]).map
    for axes in ((-1,), (-2,), (-2, -1)):
        turned = explained(network, pictures.flip(axes), [1]).map
        np.testing.assert_allclose(turned.flip(axes), upright, atol=1e-5)
    alone = explained(network, pictures, [1], mirrored=False).map
    turned = explained(network, pictures.flip((-1,)), [1], mirrored=False).map
    assert float((turned.flip((-1,)) - alone).abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet18"])
def test_networks_in_use(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, 3, pretrained=False).eval()
    pictures = torch.randn(1, 3, 65, 96)
    result = explained(network, pictures, [1])
    assert result.block_grids[0].shape == (1, 33, 48) and len(result.blocks) == 6
    assert result.map.max() == 1 and torch.equal(result.map, explained(network, pictures, [1]).map)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_speaks_for_a_class_is_not_what_speaks_against_it(family: type[BlockNetwork]) -> None:
    """Of two classes that exclude each other the last level of one is where the other's is not."""
    network, pictures = built(family, 3), images(1, 4)

    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return network(x)[:, :2]

    both = attribute(Two().eval(), pictures, torch.tensor([[0, 1]]), "quorum").block_grids[-1][0]
    assert both.any()
    assert float(torch.minimum(both[0], both[1]).max()) < 1e-6


def test_one_block_is_enough() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    ).eval()
    result = explained(network, torch.randn(1, 3, 20, 24), [2])
    assert [block.size for block in result.blocks] == [(10, 12), (20, 24)]
    assert result.map.max() == 1


def test_several_targets_share_the_forward_passes() -> None:
    network, pictures = built(FAMILIES[0], 3), images(2, 4)
    together = attribute(network, pictures, torch.tensor([[0, 2], [3, 1]]), "quorum")
    for place, targets in enumerate(([0, 3], [2, 1])):
        np.testing.assert_allclose(together.of_target(place).map, explained(network, pictures, targets).map, atol=1e-6)


def test_an_images_bits_do_not_depend_on_its_neighbours() -> None:
    network, pictures = built(Inverted, 6, torch.float32), images(3, 9, torch.float32)
    together = explained(network, pictures, [0, 1, 2])
    for place in range(3):
        assert torch.equal(explained(network, pictures[place : place + 1], [place]).map[0], together.map[place])


def test_a_growing_map_can_be_watched() -> None:
    network, pictures = built(Inverted, 6), images(1, 9)
    seen: list[Attribution] = []
    final = explained(network, pictures, [1], watch=seen.append)
    assert len(seen) == 3 and torch.equal(seen[0].map, explained(network, pictures, [1], mirrored=False).map)
    errors = [float((one.map - final.map).abs().mean()) for one in seen]
    assert errors[0] > errors[-1] > 0
    assert torch.equal(final.map, explained(network, pictures, [1]).map)


def test_nothing_speaks_for_the_class() -> None:
    network, pictures = built(Inverted, 1), images(1, 2)
    with torch.no_grad():
        network.classifier.weight.zero_()
    result = explained(network, pictures, [1])
    assert not result.map.any() and not any(grids.any() for grids in result.block_grids)


def test_a_picture_without_details_is_explained_by_the_blocks() -> None:
    network = built(Inverted, 1)
    result = explained(network, torch.full((1, 3, *INPUT_SIZE), 0.7, dtype=torch.float64), [1])
    assert not result.block_grids[0].any()
    assert result.map.isfinite().all()


def test_a_network_that_works_in_place_on_its_input_leaves_the_picture_alone() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = built(Inverted, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x.mul_(2.0))

    pictures = images(1, 2)
    before = pictures.clone()
    result = explained(InPlace().eval(), pictures, [1])
    assert torch.equal(pictures, before) and result.map.max() == 1


@pytest.mark.parametrize("value", [1, "yes", None])
def test_a_setting_of_another_kind_is_refused(value: object) -> None:
    with pytest.raises(AttributionError, match="mirrored must be True or False"):
        explained(built(Inverted, 1), images(1, 2), [1], mirrored=value)


def test_broken_weights_are_refused() -> None:
    network = built(FAMILIES[0], 0)
    with torch.no_grad():
        next(network.parameters()).fill_(float("inf"))
    with pytest.raises(AttributionError, match="not finite"):
        explained(network, images(1, 0), [0])
