"""What must hold of every baseline method, whatever its equations say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inspection_models.attribution import Attribution, AttributionError, attribute, render_map
from tests.inspection_models.attribution_networks import (
    FAMILIES,
    INPUT_SIZE,
    BlockNetwork,
    Inverted,
    Plain,
    Residual,
    built,
    images,
)

METHODS: dict[str, dict[str, Any]] = {
    "grad-cam": {},
    "grad-cam++": {},
    "layer-cam": {},
    "score-cam": {},
    "rise": {"masks": 60},
    "integrated-gradients": {"steps": 8},
}
STREAMED = ("score-cam", "rise")
TOLERANCE = 1e-5

every_method = pytest.mark.parametrize("method", METHODS)


pytestmark = pytest.mark.usefixtures("one_thread")


def explained(
    network: nn.Module, pictures: Tensor, targets: list[int] | list[list[int]], method: str, **options: Any
) -> Attribution:
    return attribute(network, pictures, torch.tensor(targets), method, **{**METHODS[method], **options})


def bits(values: Tensor) -> bytes:
    return values.numpy().tobytes()


def same_bits(left: Attribution, right: Attribution) -> bool:
    pairs = zip((left.map, *left.block_grids), (right.map, *right.block_grids), strict=True)
    return all(bits(a) == bits(b) for a, b in pairs)


@every_method
@pytest.mark.parametrize("family", FAMILIES)
def test_face(method: str, family: type[BlockNetwork]) -> None:
    network, pictures = built(family, 5, torch.float32), images(3, 1, torch.float32)
    result = explained(network, pictures, [0, 1, 3], method)
    assert result.map.dtype == torch.float32 and result.map.shape == (3, *INPUT_SIZE)
    assert result.gate == "none"
    assert len(result.blocks) == (3 if method == "layer-cam" else 1)
    assert [grids.shape for grids in result.block_grids] == [(3, *block.size) for block in result.blocks]
    assert {maps.dtype for maps in (*result.block_maps, *result.block_grids)} == {torch.float32}
    for maps in (result.map, *result.block_maps, *result.block_grids):
        assert maps.isfinite().all() and maps.min() >= 0 and maps.max() == 1
    again, _ = render_map([grids.numpy() for grids in result.block_grids], INPUT_SIZE, result.gate)
    assert bits(torch.from_numpy(again)) == bits(result.map)
    settings = json.loads(json.dumps(result.settings))
    assert settings["method"] == method and settings["activation"] == "softmax"


@pytest.mark.parametrize("method", ["rise", "integrated-gradients"])
def test_evidence_in_the_input_itself_stands_for_a_block(method: str) -> None:
    result = explained(built(Plain, 0), images(1, 0), [0], method)
    assert [(block.name, block.channels, block.size) for block in result.blocks] == [("input", 3, INPUT_SIZE)]


@every_method
def test_the_same_call_gives_the_same_bits(method: str) -> None:
    network, pictures = built(Inverted, 2, torch.float32), images(2, 9, torch.float32)
    assert same_bits(explained(network, pictures, [0, 1], method), explained(network, pictures, [0, 1], method))


@every_method
def test_an_images_bits_do_not_depend_on_its_neighbours(method: str) -> None:
    network, pictures = built(Residual, 6, torch.float32), images(3, 9, torch.float32)
    together = explained(network, pictures, [0, 1, 2], method)
    turned = explained(network, pictures.flip(0), [2, 1, 0], method)
    for index in range(3):
        alone = explained(network, pictures[index : index + 1], [index], method)
        for other, place in ((together, index), (turned, 2 - index)):
            assert bits(alone.map[0]) == bits(other.map[place])
            assert [bits(g[0]) for g in alone.block_grids] == [bits(g[place]) for g in other.block_grids]
            assert alone.masks_scored[0] == other.masks_scored[place]


class Counting(nn.Module):
    """Passes on, and counts images seen with and without gradients, of a network that nothing is folded in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen = {True: 0, False: 0}

    def forward(self, x: Tensor) -> Tensor:
        self.seen[torch.is_grad_enabled()] += len(x)
        return self.network(x)


@every_method
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_several_targets_equal_separate_calls_at_the_cost_of_one(method: str, activation: str) -> None:
    network, pictures = Counting(built(Inverted, 6, torch.float32)).eval(), images(2, 3, torch.float32)
    rows = [[0, 3, 3], [2, 1, 0]]
    several = explained(network, pictures, rows, method, activation=activation)
    cost = dict(network.seen)
    assert several.map.shape == (2, 3, *INPUT_SIZE)
    for place in range(3):
        network.seen = {True: 0, False: 0}
        single = explained(network, pictures, [row[place] for row in rows], method, activation=activation)
        assert network.seen == cost
        assert torch.equal(several.masks_scored, single.masks_scored)
        np.testing.assert_allclose(several.map[:, place], single.map, atol=TOLERANCE)
        for many, one in zip(several.block_grids, single.block_grids, strict=True):
            np.testing.assert_allclose(many[:, place], one, atol=TOLERANCE)
    assert not torch.allclose(several.map[1, 0], several.map[1, 1], atol=0.01)


@every_method
def test_float32_and_float64_networks_agree(method: str) -> None:
    single, double = built(Inverted, 3, torch.float32), built(Inverted, 3, torch.float32).double()
    pictures = images(1, 4, torch.float32)
    np.testing.assert_allclose(
        explained(single, pictures, [1], method).map, explained(double, pictures.double(), [1], method).map, atol=1e-4
    )


@every_method
def test_network_is_left_as_it_was(method: str) -> None:
    network, pictures = built(Residual, 8, torch.float32), images(1, 1, torch.float32)
    parameters = list(network.parameters())
    for index, parameter in enumerate(parameters):
        parameter.requires_grad_(index % 2 == 0)
        if index % 4 == 0:
            parameter.grad = torch.full_like(parameter, 0.25)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before = [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in parameters]
    given = pictures.clone()
    explained(network, pictures, [1], method)
    for parameter, (requires_grad, grad) in zip(parameters, before, strict=True):
        assert parameter.requires_grad == requires_grad
        assert (parameter.grad is None) == (grad is None)
        assert grad is None or torch.equal(parameter.grad, grad)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert torch.equal(pictures, given) and not pictures.requires_grad


@every_method
def test_gradients_are_not_needed_from_the_caller(method: str) -> None:
    network, pictures = built(Residual, 8, torch.float32), images(1, 1, torch.float32)
    usual = explained(network, pictures, [1], method)
    network.requires_grad_(requires_grad=False)
    with torch.inference_mode():
        inside = explained(network, pictures.clone(), [1], method)
    with torch.no_grad():
        without = explained(network, pictures, [1], method)
    assert same_bits(usual, inside) and same_bits(usual, without)


@every_method
def test_a_network_may_work_in_place_on_its_input(method: str) -> None:
    class Shifting(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.add_(0.5))

    network, pictures = built(Shifting, 1), images(1, 2)
    given = pictures.clone()
    plain = built(Plain, 1)
    plain.features.insert(0, _Shift().eval())
    assert explained(network, pictures, [1], method).map.any()
    assert torch.equal(pictures, given)
    np.testing.assert_allclose(
        explained(network, pictures, [1], method).map, explained(plain, pictures, [1], method).map, atol=TOLERANCE
    )


class _Shift(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5


@every_method
def test_nothing_speaks_for_the_class(method: str) -> None:
    """All classes always score the same: no place matters, and no rounding may say otherwise."""
    network, pictures = built(Inverted, 1, torch.float32), images(1, 2, torch.float32)
    with torch.no_grad():
        network.classifier.weight.zero_()
    result = explained(network, pictures, [1], method)
    if method == "score-cam":  # which weighs all maps alike then
        assert result.masks_scored[0] > 0
    else:
        assert not result.map.any() and not any(maps.any() for maps in result.block_maps)


@every_method
def test_a_constant_image_without_padding_says_nothing_about_places(method: str) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 2),
    ).eval()  # fmt: skip
    result = explained(network, torch.full((1, 3, 40, 48), 0.7), [0], method)
    if method == "rise":  # its masks cut pictures into the grey
        assert result.masks_scored.tolist() == [60]
    else:
        assert result.masks_scored.tolist() == [0]
        # A gradient tells places apart even where the maps do not: the borders have fewer ways to the output.
        assert not result.block_maps[-1].any()


@every_method
def test_sure_networks_are_explained(method: str) -> None:
    """Where the probability is 1 to the last digit, its gradient is 0 and masks hardly change it."""
    network, pictures = built(Plain, 1), images(1, 2)
    with torch.no_grad():
        network.classifier.bias[1] += 200.0
        assert torch.softmax(network(pictures), 1)[0, 1] == 1
    result = explained(network, pictures, [1], method)
    assert bool(result.map.any()) == (method != "rise")


@every_method
def test_broken_weights_are_refused(method: str) -> None:
    network = built(Plain, 0)
    with torch.no_grad():
        network.features[3].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(AttributionError, match="not finite"):
        explained(network, images(1, 0), [0], method)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "layer-cam", "integrated-gradients"])
def test_infinite_gradient_is_refused_with_its_place(method: str) -> None:
    class Rooted(Inverted):
        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(torch.sqrt(self.last(self.units(self.stem(x))).mean([2, 3]) * 0))

    place = {"layer-cam": "block stem: the", "integrated-gradients": "the gradient at the input"}
    with pytest.raises(AttributionError, match=place.get(method, "block last: the gradient is not finite")):
        explained(built(Rooted, 0), images(1, 0), [0], method)


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam", "integrated-gradients"])
def test_a_cut_graph_is_named(method: str) -> None:
    class Cut(Inverted):
        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(self.last(self.units(self.stem(x))).detach().mean([2, 3]))

    with pytest.raises(AttributionError, match=r"no gradient reaches|without gradients"):
        explained(built(Cut, 0), images(1, 0), [0], method)


@pytest.mark.slow
@pytest.mark.parametrize("method", STREAMED)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_does_not_change_the_map(method: str, batch_size: int) -> None:
    network, pictures = built(Inverted, 7, torch.float32), images(2, 3, torch.float32)
    usual = explained(network, pictures, [1, 2], method)
    other = explained(network, pictures, [1, 2], method, batch_size=batch_size)
    np.testing.assert_allclose(other.map, usual.map, atol=TOLERANCE)
    assert other.settings["batch_size"] == batch_size
    assert torch.equal(other.masks_scored, usual.masks_scored)


@pytest.mark.slow
@pytest.mark.parametrize("method", STREAMED)
def test_both_engines_give_the_same_map(method: str) -> None:
    network, pictures = built(Residual, 7, torch.float32), images(1, 3, torch.float32)
    by_torch, by_onnx = (explained(network, pictures, [1], method, engine=e) for e in ("torch", "onnxruntime"))
    assert by_onnx.settings["engine"] == "onnxruntime"
    np.testing.assert_allclose(by_onnx.map, by_torch.map, atol=1e-4)


@pytest.mark.parametrize("method", STREAMED)
def test_masks_are_scored_in_one_stream_without_gradients(method: str) -> None:
    network, pictures = Counting(built(Inverted, 6, torch.float32)).eval(), images(3, 3, torch.float32)
    result = explained(network, pictures, [0, 1, 2], method, batch_size=8, engine="torch")
    masks = int(result.masks_scored.sum())
    traced = 1
    assert network.seen[False] - traced == 8 * -(-masks // 8)


@pytest.mark.parametrize("method", STREAMED)
def test_previews_lead_to_the_map(method: str) -> None:
    network, pictures = built(Residual, 6, torch.float32), images(1, 3, torch.float32)
    seen: list[Attribution] = []
    final = explained(network, pictures, [1], method, batch_size=2, watch=seen.append)
    assert len(seen) >= 4
    distances = [float((preview.map - final.map).abs().mean()) for preview in seen]
    assert 0 < distances[-1] < distances[0]
    assert same_bits(final, explained(network, pictures, [1], method, batch_size=2))


@every_method
def test_unknown_options_are_named(method: str) -> None:
    with pytest.raises(AttributionError, match=r"has no option colour: it has (none|batch_size, engine|steps)"):
        explained(built(Plain, 0), images(1, 0), [0], method, colour="red")


@pytest.mark.parametrize("method", STREAMED)
def test_memory_does_not_grow_with_the_masks(method: str) -> None:
    """Peak of live tensor memory, from torch's own allocator log, for few and for many masks of 128 x 128."""

    def peak(masks: int) -> tuple[int, int]:
        torch.manual_seed(masks)
        width = masks if method == "score-cam" else 8
        network = nn.Sequential(
            nn.AvgPool2d(16), nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, 2),
        ).eval()  # fmt: skip
        options = {"masks": masks} if method == "rise" else {}
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            result = explained(network, torch.randn(1, 3, 128, 128), [0], method, batch_size=4, **options)
        live = highest = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                live += event.nbytes()
                highest = max(highest, live)
        return highest, int(result.masks_scored[0])

    (low_peak, few), (high_peak, many) = peak(64), peak(320)
    assert many - few > 100
    assert high_peak - low_peak < (many - few) * 128 * 128 * 4 / 10
