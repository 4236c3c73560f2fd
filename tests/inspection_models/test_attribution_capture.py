"""The blocks' tensors and their gradients are caught in a real pass, whatever happens to them afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from inspection_models._torchvision import models
from inspection_models.attribution.blocks import convolutional_blocks, find_blocks
from inspection_models.attribution.capture import Capture, capture
from inspection_models.attribution.errors import AttributionError, NetworkError
from inspection_models.attribution.tracing import trace
from tests.inspection_models.attribution_networks import FAMILIES, INPUT_SIZE, BlockNetwork, built, images


def captured(network: nn.Module, inputs: Tensor) -> Capture:
    return capture(network, inputs, find_blocks(trace(network, inputs[:1])))


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_and_gradients_are_those_of_the_network_written_out(family: type[BlockNetwork]) -> None:
    network, inputs = built(family, 3), images(2, 4)
    blocks, logits = network.blocks_and_logits(inputs)
    expected = torch.autograd.grad(logits[:, 1].sum(), blocks)
    result = captured(network, inputs)
    torch.testing.assert_close(result.logits, logits)
    for found, wanted in zip(result.feature_maps, blocks, strict=True):
        torch.testing.assert_close(found, wanted)
    for found, wanted in zip(result.gradients(result.logits[:, 1].sum()), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "densenet121",
        "efficientnet_b0",
        "googlenet",
        "mobilenet_v3_small",
        "resnet18",
        "shufflenet_v2_x1_0",
        "squeezenet1_1",
    ],
)
def test_torchvision_networks_against_hooks_on_the_named_modules(name: str) -> None:
    torch.manual_seed(0)
    extra = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    network = models.get_model(name, weights=None, **extra).eval()
    inputs = torch.randn(1, 3, 96, 96)
    result = captured(network, inputs)
    gradients = dict(zip([b.name for b in result.blocks], result.gradients(result.logits[0, 7]), strict=True))
    kept: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            kept[path] = output.clone()
            return kept[path].clone()

        return hook

    # DenseNet's last block is made by a function and has no module to hook.
    hooked = {path: module for path, module in network.named_modules() if path in gradients}
    for path, module in hooked.items():
        module.register_forward_hook(keep(path))
    expected = torch.autograd.grad(network(inputs)[0, 7], [kept[path] for path in hooked])
    assert len(hooked) >= len(gradients) - 1
    for path, wanted in zip(hooked, expected, strict=True):
        assert wanted.abs().max() > 0
        torch.testing.assert_close(gradients[path], wanted)


class Ending(nn.Module):
    """One convolution, then what the case does to its maps before the head."""

    def __init__(self, treat: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, padding=1)
        self.linear = nn.Linear(5, 2)
        self.treat = treat

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(
            functional.relu(self.second(functional.max_pool2d(self.treat(self.conv(x)), 2))).mean((2, 3))
        )


def discarded_result(x: Tensor) -> Tensor:
    x.relu_()
    return x


def keyword_input(x: Tensor) -> Tensor:
    return functional.relu(input=x, inplace=True)


def assigned_slice(x: Tensor) -> Tensor:
    x = x * 1
    x[:, :2] = 0.5
    return x


def augmented(x: Tensor) -> Tensor:
    y = x.sigmoid()
    y += x
    return y


def tuple_result(x: Tensor) -> Tensor:
    return torch.max(torch.stack([x, -x]), dim=0)[0]


@pytest.mark.parametrize(
    ("treat", "same"),
    [
        (discarded_result, torch.relu),
        (keyword_input, torch.relu),
        (assigned_slice, lambda x: torch.cat([torch.full_like(x[:, :2], 0.5), x[:, 2:]], 1)),
        (augmented, lambda x: torch.sigmoid(x) + x),
        (tuple_result, torch.abs),
    ],
)
def test_every_way_to_make_the_last_tensor(treat: Callable[[Tensor], Tensor], same: Callable[[Tensor], Tensor]) -> None:
    network, inputs = Ending(treat).eval(), torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    result = captured(network, inputs)
    first = same(network.conv(inputs)).detach().requires_grad_()
    second = functional.relu(network.second(functional.max_pool2d(first, 2)))
    expected = torch.autograd.grad(network.linear(second.mean((2, 3)))[0, 0], [first, second])
    torch.testing.assert_close(result.feature_maps[0], first)
    for found, wanted in zip(result.gradients(result.logits[0, 0]), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_later_work_in_place_does_not_reach_the_kept_tensor() -> None:
    """The block is the concatenation; the activation after it, inside the strided layer, overwrites its own input."""

    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.next = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 5, 3, 2, 1), nn.ReLU(inplace=True))
            self.linear = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.linear(self.next(torch.cat([x, -x], 1)).mean((2, 3)))

    torch.manual_seed(0)
    network, inputs = Overwriting().eval(), torch.randn(1, 3, 12, 12)
    result = captured(network, inputs)
    assert [block.name for block in result.blocks] == ["cat", "next"]
    maps = network.conv(inputs)
    both = torch.cat([maps, -maps], 1).detach().requires_grad_()
    logit = network.linear(functional.relu(network.next[1](functional.relu(both))).mean((2, 3)))[0, 0]
    (expected,) = torch.autograd.grad(logit, [both])
    assert result.feature_maps[0].min() < 0
    torch.testing.assert_close(result.feature_maps[0], both)
    torch.testing.assert_close(result.gradients(result.logits[0, 0])[0], expected)


def test_frozen_networks_and_in_place_work_on_the_input() -> None:
    class Normalising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            )
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x.sub_(0.5).div_(2)
            return self.linear(self.layers(x))

    network = Normalising().eval().requires_grad_(requires_grad=False)
    inputs = torch.rand(1, 3, 8, 8)
    before = inputs.clone()
    blocks = convolutional_blocks(network, (8, 8))
    result = capture(network, inputs, blocks)
    assert torch.equal(inputs, before)
    gradient = result.gradients(result.logits[0, 0])[0]
    torch.testing.assert_close(gradient.mean((0, 2, 3)), network.linear.weight[0] / 36)


def test_another_way_through_the_network_is_noticed() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.conv(x)) if x.sum() > 0 else torch.tanh(self.other(x))
            return self.linear(x.mean((2, 3)))

    network = Branching().eval()
    blocks = find_blocks(trace(network, torch.ones(1, 3, 8, 8)))
    with pytest.raises(NetworkError, match=r"block relu: expected relu to give maps \(4, 8, 8\), but tanh gave"):
        capture(network, -torch.ones(1, 3, 8, 8), blocks)
    with pytest.raises(NetworkError, match=r"block relu: .* but relu gave \(4, 6, 8\)"):
        capture(network, torch.ones(1, 3, 6, 8), blocks)


def test_a_block_that_is_not_reached_is_named() -> None:
    class Leaving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.linear(torch.relu(x).mean((2, 3)) if bool(x.max() > -9) else torch.zeros(1, 4))

    network = Leaving().eval()
    blocks = find_blocks(trace(network, torch.ones(1, 3, 8, 8)))
    with torch.no_grad():
        network.conv.bias.fill_(-100)
    with pytest.raises(NetworkError, match="block relu"):
        capture(network, torch.ones(1, 3, 8, 8), blocks)


@pytest.mark.parametrize(
    ("treat", "message"),
    [
        (lambda x: torch.relu(x.detach()), "without gradients"),
        (lambda x: torch.exp(x * 1e9), "not finite"),
    ],
)
def test_maps_without_gradients_or_sense_are_refused(treat: Callable[[Tensor], Tensor], message: str) -> None:
    network = Ending(treat).eval().requires_grad_(requires_grad=False)
    with pytest.raises(AttributionError, match=message):
        captured(network, torch.randn(1, 3, 12, 12))


def test_a_graph_cut_behind_a_block_is_refused() -> None:
    class CutOff(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.conv(x.detach()))

    layers = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        CutOff(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ]
    result = captured(nn.Sequential(*layers).eval(), torch.randn(1, 3, *INPUT_SIZE))
    with pytest.raises(AttributionError, match="block 1: no gradient reaches it"):
        result.gradients(result.logits[0, 0])
