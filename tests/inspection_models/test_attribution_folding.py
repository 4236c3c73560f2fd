"""Folded networks answer as before, share what they do not change, and leave alone what must not be folded."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from inspection_models._torchvision import models
from inspection_models.attribution.folding import fold_batch_norms
from inspection_models.attribution.tracing import trace
from inspection_models.networks import build_network


def trained(network: nn.Module) -> nn.Module:
    """The network with the statistics and scales of one that has seen data."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def norms_left(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet18", "mobilenet_v3_small", "vgg11_bn", "densenet121"])
def test_networks_in_use_answer_as_before(name: str) -> None:
    network = trained(build_network(name, 4, pretrained=False))
    inputs = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = network(inputs)
        folded = fold_batch_norms(network, trace(network, inputs[:1]), inputs[:1])
        torch.testing.assert_close(folded(inputs), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(inputs), expected, rtol=0, atol=0)
    assert norms_left(network) > 0
    # DenseNet normalises before it convolves; only pairs in the other order can be folded.
    assert (norms_left(folded) == 0) == (name != "densenet121")
    assert norms_left(folded) < norms_left(network)
    assert folded is not network and not folded.training


class Standardised(nn.Conv2d):
    """Scales its weights in every pass, so that scaling them beforehand changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


class Shapes(nn.Module):
    """Convolution and normalisation, in one of the constellations that must not be folded."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3, track_running_stats=kind != "no statistics")
        self.head = nn.Linear(3, 2)
        if kind == "hooked":
            self.convolution.register_forward_hook(lambda _m, _i, output: output * 2)
        if kind == "parametrised":
            nn.utils.parametrizations.weight_norm(self.convolution)
        if kind == "standardised":
            self.convolution = Standardised(3, 3, 3, padding=1)
        if kind == "alias":
            self.again = self.convolution

    def forward(self, x: Tensor) -> Tensor:
        maps = self.convolution(x)
        if self.kind == "twice":
            maps = self.convolution(maps)
        normed = self.norm(maps)
        if self.kind == "read twice":
            normed = normed + maps
        if self.kind == "norm twice":
            normed = self.norm(normed)
        return self.head(torch.relu(normed).mean([2, 3]))


@pytest.mark.parametrize(
    "kind",
    ["hooked", "parametrised", "alias", "twice", "read twice", "norm twice", "no statistics", "standardised", "plain"],
)
def test_only_pairs_that_stand_alone_are_folded(kind: str) -> None:
    torch.manual_seed(1)
    network = Shapes(kind).eval() if kind == "no statistics" else trained(Shapes(kind))
    inputs = torch.randn(1, 3, 12, 12)
    folded = fold_batch_norms(network, trace(network, inputs), inputs)
    assert (folded is not network) == (kind == "plain")
    with torch.inference_mode():
        torch.testing.assert_close(folded(inputs), network(inputs), rtol=1e-5, atol=1e-6)


def test_tensors_are_shared_and_the_network_is_left_as_it_was() -> None:
    network = trained(models.resnet18(weights=None))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    inputs = torch.randn(1, 3, 64, 64)
    folded = fold_batch_norms(network, trace(network, inputs), inputs)
    assert folded.fc.weight is network.fc.weight
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


class Reader(nn.Module):
    """Reads its normalisation's own number, which is gone where the normalisation is."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.convolution(x)).mean([2, 3]) + self.norm.eps)


class Locked(Reader):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize("kind", [Reader, Locked])
def test_networks_that_cannot_be_folded_are_taken_as_they_are(kind: type[Reader]) -> None:
    network = trained(kind())
    inputs = torch.randn(1, 3, 12, 12)
    assert fold_batch_norms(network, trace(network, inputs), inputs) is network
