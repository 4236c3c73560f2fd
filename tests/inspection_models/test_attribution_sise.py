"""SISE against an oracle written from the paper, and what must hold of it beyond that."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inspection_models.attribution import (
    METHODS,
    AttributionError,
    NetworkError,
    attribute,
    convolutional_blocks,
    render_map,
)
from inspection_models.attribution.masks import attribution_masks
from tests.inspection_models import sise_oracle
from tests.inspection_models.attribution_networks import (
    FAMILIES,
    INPUT_SIZE,
    BlockNetwork,
    Functional,
    Inverted,
    Plain,
    Residual,
    built,
    images,
)

TOLERANCE = 1e-5


pytestmark = pytest.mark.usefixtures("one_thread")


def assert_agrees(network: BlockNetwork, target: int, seed: int, dtype: torch.dtype, **settings: Any) -> None:
    pictures = images(1, seed)
    expected = sise_oracle.explain(network.double(), pictures[0], target, **settings)
    result = attribute(network.to(dtype), pictures.to(dtype), torch.tensor([target]), **settings)
    assert [result.masks_scored.item()] == [sum(expected.masks)]
    for found, wanted in zip(result.block_maps, expected.visualizations, strict=True):
        np.testing.assert_allclose(found[0], wanted, atol=TOLERANCE)
    np.testing.assert_allclose(result.map[0], expected.attribution, atol=TOLERANCE)
    assert sum(expected.masks) > 0
    assert expected.attribution.max() == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_agrees_with_the_paper(family: type[BlockNetwork], dtype: torch.dtype, activation: str) -> None:
    """The same weights and image, in float32 and in float64, against the oracle's float64."""
    assert_agrees(built(family, seed=1), 1, seed=2, dtype=dtype, activation=activation)


@pytest.mark.parametrize("mu", [0.3, 0.99])
@pytest.mark.parametrize("gate", ["hard", "soft"])
def test_agrees_with_the_paper_for_other_settings(mu: float, gate: str) -> None:
    assert_agrees(built(Residual, seed=3), 2, seed=4, dtype=torch.float32, mu=mu, gate=gate)


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_of_every_family_are_found(family: type[BlockNetwork]) -> None:
    network = built(family, seed=0)
    blocks = convolutional_blocks(network, INPUT_SIZE)
    expected, _ = network.blocks_and_logits(images(1, 0))
    assert tuple(block.name for block in blocks) == family.block_names
    assert [(block.channels, block.size) for block in blocks] == [(e.shape[1], tuple(e.shape[2:])) for e in expected]


def bits(values: torch.Tensor | np.ndarray) -> bytes:
    return np.asarray(values).tobytes()


def test_face() -> None:
    network = built(Inverted, 5, torch.float32)
    result = attribute(network, images(3, 1, torch.float32), torch.tensor([0, 1, 3]))
    assert result.map.dtype == torch.float32 and result.map.shape == (3, *INPUT_SIZE)
    assert result.blocks == convolutional_blocks(network, INPUT_SIZE)
    assert [maps.shape for maps in result.block_maps] == [(3, *INPUT_SIZE)] * 3
    assert [grids.shape for grids in result.block_grids] == [(3, *block.size) for block in result.blocks]
    assert {maps.dtype for maps in (*result.block_maps, *result.block_grids)} == {torch.float32}
    assert result.masks_scored.shape == (3,)
    for maps in (result.map, *result.block_maps, *result.block_grids):
        assert maps.min() >= 0 and maps.max() == 1
    assert json.loads(json.dumps(result.settings)) == {
        "method": "sise",
        "activation": "softmax",
        "mu": 0.0,
        "gate": "hard",
        "batch_size": 104,
        "engine": "torch",
    }


@pytest.mark.parametrize("gate", ["hard", "soft"])
def test_record_renders_to_the_same_bits(gate: str) -> None:
    result = attribute(built(Plain, 5), images(2, 1), torch.tensor([0, 1]), gate=gate)
    again, block_maps = render_map(result.block_grids, INPUT_SIZE, gate)
    assert bits(again) == bits(result.map)
    assert [bits(m) for m in block_maps] == [bits(m) for m in result.block_maps]


def test_an_images_bits_do_not_depend_on_its_neighbours_or_on_the_run() -> None:
    network, pictures = built(Residual, 6, torch.float32), images(3, 9, torch.float32)
    together = attribute(network, pictures, torch.tensor([0, 1, 2]))
    turned = attribute(network, pictures.flip(0), torch.tensor([2, 1, 0]))
    for index in range(3):
        alone = attribute(network, pictures[index : index + 1], torch.tensor([index]))
        for other, place in ((together, index), (turned, 2 - index)):
            assert bits(alone.map[0]) == bits(other.map[place])
            assert [bits(g[0]) for g in alone.block_grids] == [bits(g[place]) for g in other.block_grids]
            assert alone.masks_scored[0] == other.masks_scored[place]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_does_not_change_the_map(batch_size: int) -> None:
    network, pictures = built(Inverted, 7, torch.float32), images(1, 3, torch.float32)
    usual = attribute(network, pictures, torch.tensor([1]))
    other = attribute(network, pictures, torch.tensor([1]), batch_size=batch_size)
    np.testing.assert_allclose(other.map, usual.map, atol=TOLERANCE)
    assert other.settings["batch_size"] == batch_size


class Watched(nn.Module):
    """Passes on, and notes the batches it sees and the images' largest values in them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.batches: list[tuple[int, bool, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        used = int((x.flatten(1).abs().amax(1) > 0).sum())
        self.batches.append((len(x), torch.is_grad_enabled(), used))
        return self.network(x)


def wide_network(channels: int) -> nn.Module:
    torch.manual_seed(channels)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)
    ).eval()


@pytest.mark.parametrize("channels", [7, 48, 200])
def test_masks_are_scored_in_batches_of_one_shape_without_gradients(channels: int) -> None:
    watched = Watched(wide_network(channels)).eval()
    result = attribute(watched, images(1, 1, torch.float32), torch.tensor([0]), batch_size=8, engine="torch")
    traced, captured, *scored = watched.batches
    assert traced[:2] == (1, False) and captured[:2] == (1, True)
    assert {batch[:2] for batch in scored} == {(8, False)}
    assert sum(used for *_, used in scored) == result.masks_scored[0] > 0
    assert len(scored) == -(-result.masks_scored[0] // 8)


def test_memory_for_masks_does_not_grow_with_channels() -> None:
    """Peak of live tensor memory, from torch's own allocator log, for 64 and for 1,024 channels of 6 x 6 maps."""

    def peak(channels: int) -> tuple[int, int]:
        network = nn.Sequential(nn.AvgPool2d(16), *wide_network(channels)).eval()
        pictures = torch.randn(1, 3, 96, 96)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            result = attribute(network, pictures, torch.tensor([0]), batch_size=4, engine="torch")
        live = highest = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                live += event.nbytes()
                highest = max(highest, live)
        return highest, int(result.masks_scored[0])

    (narrow_peak, narrow_masks), (wide_peak, wide_masks) = peak(64), peak(1024)
    more_masks = wide_masks - narrow_masks
    assert more_masks > 300
    assert wide_peak - narrow_peak < more_masks * 96 * 96 * 4 / 5


def test_network_is_left_as_it_was() -> None:
    network = built(Residual, 8, torch.float32)
    parameters = list(network.parameters())
    for index, parameter in enumerate(parameters):
        parameter.requires_grad_(index % 2 == 0)
        if index % 4 == 0:
            parameter.grad = torch.full_like(parameter, 0.25)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before = [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in parameters]
    attribute(network, images(1, 1, torch.float32), torch.tensor([1]))
    for parameter, (requires_grad, grad) in zip(parameters, before, strict=True):
        assert parameter.requires_grad == requires_grad
        assert (parameter.grad is None) == (grad is None)
        assert grad is None or torch.equal(parameter.grad, grad)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert not nn.modules.module._global_forward_hooks and not nn.modules.module._global_forward_pre_hooks


def test_gradients_are_not_needed_from_the_caller() -> None:
    network, pictures = built(Residual, 8, torch.float32), images(1, 1, torch.float32)
    usual = attribute(network, pictures, torch.tensor([1]))
    network.requires_grad_(requires_grad=False)
    with torch.inference_mode():
        inside = attribute(network, pictures.clone(), torch.tensor([1]))
    with torch.no_grad():
        without = attribute(network, pictures, torch.tensor([1]))
    assert bits(usual.map) == bits(inside.map) == bits(without.map)


def test_sure_networks_are_explained_as_well_as_unsure_ones() -> None:
    """Where the probability is 1 to the last digit its gradient is 0; the selection must not notice."""
    network, pictures = built(Plain, 1), images(1, 2)
    unsure = attribute(network, pictures, torch.tensor([1]))
    with torch.no_grad():
        network.classifier.bias[1] += 200.0
        assert torch.softmax(network(pictures), 1)[0, 1] == 1
    sure = attribute(network, pictures, torch.tensor([1]))
    assert sure.masks_scored.tolist() == unsure.masks_scored.tolist() != [0]
    assert sure.map.max() == 1


def test_nothing_speaks_for_the_class() -> None:
    """A class no pixel speaks for: no mask, an empty map, no error."""
    network, pictures = built(Inverted, 1, torch.float32), images(1, 2, torch.float32)
    with torch.no_grad():
        network.classifier.weight.zero_()
    result = attribute(network, pictures, torch.tensor([1]))
    assert result.masks_scored.tolist() == [0]
    assert not result.map.any() and not any(m.any() for m in result.block_maps)


def test_a_block_without_masks_gates_nothing() -> None:
    network, pictures = built(Functional, 1), images(1, 2)
    with torch.no_grad():
        network.weights["c"].zero_()
        network.weights["d"].zero_()  # the last block's maps are constant
        network.weights["e"].abs_()
    result = attribute(network, pictures, torch.tensor([1]))
    assert not result.block_maps[-1].any()
    assert result.masks_scored[0] == 0 or result.map.any()


def test_dead_channels_cost_nothing_and_change_nothing() -> None:
    network, pictures = built(Plain, 1), images(1, 2)
    expected = attribute(network, pictures, torch.tensor([1]))
    wider = Plain().double()
    wider.features[0] = nn.Conv2d(3, 9, 3, padding=1).double()
    wider.features[3] = nn.Conv2d(9, 8, 3, padding=1).double()
    with torch.no_grad():
        wider.features[0].weight.zero_()
        wider.features[0].bias.fill_(0.5)  # three channels that are 0.5 everywhere
        wider.features[0].weight[:6] = network.features[0].weight
        wider.features[0].bias[:6] = network.features[0].bias
        wider.features[3].weight.zero_()
        wider.features[3].weight[:, :6] = network.features[3].weight
        wider.features[3].bias.copy_(network.features[3].bias)
        for name in ("5", "8"):
            wider.features[int(name)].load_state_dict(network.features[int(name)].state_dict())
        wider.classifier.load_state_dict(network.classifier.state_dict())
    result = attribute(wider.eval(), pictures, torch.tensor([1]))
    assert result.masks_scored.tolist() == expected.masks_scored.tolist()
    np.testing.assert_allclose(result.map, expected.map, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "cam"}, f"unknown method 'cam': there are {re.escape(', '.join(METHODS))}"),
        ({"activation": "relu"}, "unknown activation 'relu': there are softmax, sigmoid"),
        ({"nu": 1, "beta": 2}, "sise has no option beta, nu: it has batch_size, engine, mu, gate"),
        ({"engine": "tpu"}, "unknown engine 'tpu': there are torch, onnxruntime"),
        ({"gate": "open"}, "unknown gate 'open': there are hard, soft, none"),
        ({"mu": -0.1}, "mu must be a number of at least 0, not -0.1"),
        ({"mu": float("nan")}, "mu must be"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"targets": torch.tensor([4])}, r"targets \[4\] do not exist: the network has classes 0 to 3"),
        ({"targets": torch.tensor([-1])}, r"targets \[-1\] do not exist"),
        ({"targets": torch.tensor([0, 1])}, "targets must be 1 class indices"),
        ({"targets": torch.tensor([1.0])}, "targets must be 1 class indices"),
        ({"inputs": torch.zeros(3, 40, 48)}, r"inputs must be a tensor \[N, C, H, W\]"),
        ({"inputs": torch.zeros(0, 3, 40, 48)}, "at least one image"),
        ({"inputs": torch.zeros(1, 3, 40, 48, dtype=torch.uint8)}, "inputs must be normalised floats"),
        ({"inputs": torch.full((1, 3, 40, 48), float("nan"))}, "inputs hold values that are not finite"),
        ({"inputs": torch.zeros(1, 5, 40, 48)}, "the network fails on an input of 1 x 5 x 40 x 48"),
    ],
)
def test_wrong_calls_are_told_what_is_wrong(change: dict[str, Any], message: str) -> None:
    call: dict[str, Any] = {"inputs": images(1, 0), "targets": torch.tensor([0]), **change}
    with pytest.raises(AttributionError, match=message):
        attribute(built(Plain, 0), **call)


def test_training_mode_is_refused() -> None:
    network = built(Residual, 0)
    network.layer1[0].norm1.train()
    with pytest.raises(NetworkError, match=r"layer1\.0\.norm1 is in training mode: call network\.eval"):
        attribute(network, images(1, 0), torch.tensor([0]))


def test_softmax_over_one_class_is_refused() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    ).eval()
    with pytest.raises(AttributionError, match="softmax over a single class"):
        attribute(network, images(1, 0, torch.float32), torch.tensor([0]))
    assert attribute(network, images(1, 0, torch.float32), torch.tensor([0]), activation="sigmoid").map.shape == (
        1,
        40,
        48,
    )


def test_broken_weights_are_refused() -> None:
    network = built(Plain, 0)
    with torch.no_grad():
        network.features[3].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(AttributionError, match="not finite"):
        attribute(network, images(1, 0), torch.tensor([0]))


def test_infinite_gradient_is_refused_with_the_blocks_name() -> None:
    class Rooted(Inverted):
        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(torch.sqrt(self.last(self.units(self.stem(x))) * 0).mean([2, 3]))

    with pytest.raises(AttributionError, match="block stem: the gradient is not finite"):
        attribute(built(Rooted, 0), images(1, 0), torch.tensor([0]))


def test_batch_size_adapts_to_large_inputs() -> None:
    network = wide_network(2)
    small = attribute(network, torch.randn(1, 3, 32, 32), torch.tensor([0]))
    large = attribute(network, torch.randn(1, 3, 448, 224), torch.tensor([0]))
    assert (small.settings["batch_size"], large.settings["batch_size"]) == (196, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masks_of_networks_in_half_precision_are_measured_in_full(dtype: torch.dtype) -> None:
    """A mask that shows almost all of a large input is larger than any number of float16."""
    maps = torch.ones(1, 32, 32, dtype=dtype)
    maps[0, 3, 4] = 0
    masks, exact = attribution_masks(maps, (512, 512)), attribution_masks(maps.double(), (512, 512))
    assert masks.areas[0] > torch.finfo(torch.float16).max
    torch.testing.assert_close(masks.areas.double(), exact.areas)
    torch.testing.assert_close(masks.values.double(), exact.values, atol=1e-6, rtol=0)
    network, pictures = built(Residual, 3, dtype), images(1, 1)
    half = attribute(network, pictures.to(dtype), torch.tensor([1]))
    full = attribute(network.double(), pictures.to(dtype).double(), torch.tensor([1]))
    assert np.corrcoef(half.map.flatten(), full.map.flatten())[0, 1] > 0.98


@pytest.mark.parametrize("method", ["sise", "ada-sise", "score-cam"])
def test_what_a_magnifying_network_loses_at_the_inputs_size_is_no_mask(method: str) -> None:
    """A map that lives in its outermost row alone, as padding makes them, is constant where the input is sampled."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Upsample(scale_factor=4), nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()
    )
    edge = network[1]
    with torch.no_grad():
        edge.weight[0], edge.bias[:] = 0, torch.tensor([0.1, 9, 9, 9, 9])
        edge.weight[0, :, 0] = -0.1  # what is above a pixel speaks against it: only the first row has nothing above
    pictures = 2 + torch.rand(1, 3, 12, 14)
    with torch.no_grad():
        [alive] = network[:3](pictures)[0, 0].amax(dim=1).nonzero().T.tolist()
    assert alive == [0]
    result = attribute(network.eval(), pictures, torch.tensor([0]), method)
    assert result.map.isfinite().all()
    if method == "score-cam":
        assert result.masks_scored.tolist() == [4]
    else:
        assert result.masks_scored.tolist() == [0] and not result.map.any()
