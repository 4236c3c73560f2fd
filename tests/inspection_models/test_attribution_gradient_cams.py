"""Grad-CAM, Grad-CAM++ and LayerCAM against literal float64 code and against the libraries people use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection_models._torchvision import models
from inspection_models.attribution import AttributionError, attribute
from inspection_models.attribution.gradient_cams import grad_cam_plus_plus
from inspection_models.attribution.grids import evidence_grid
from tests.inspection_models.attribution_networks import FAMILIES, BlockNetwork, Inverted, Plain, built, images
from tests.inspection_models.sise_oracle import normalised, upsampled

Map = NDArray[np.float64]
TOLERANCE = 1e-5


pytestmark = pytest.mark.usefixtures("one_thread")


def literal_grad_cam(maps: Map, gradients: Map) -> Map:
    total = np.zeros(maps.shape[1:])
    for channel in range(len(maps)):
        total += gradients[channel].mean() * maps[channel]
    return np.maximum(total, 0)


def literal_grad_cam_plus_plus(maps: Map, gradients: Map) -> Map:
    """Term by term as the paper has it: second and third derivatives of exp(y) are powers of g, times exp(y)."""
    total = np.zeros(maps.shape[1:])
    for channel in range(len(maps)):
        weight = 0.0
        for g in gradients[channel].ravel():
            below = 2 * g**2 + sum(a * g**3 for a in maps[channel].ravel())
            weight += (g**2 / below if below != 0 else 0.0) * max(g, 0.0)
        total += weight * maps[channel]
    return np.maximum(total, 0)


def literal_layer_cam(maps: Map, gradients: Map) -> Map:
    total = np.zeros(maps.shape[1:])
    for channel in range(len(maps)):
        for place, g in np.ndenumerate(gradients[channel]):
            total[place] += max(g, 0.0) * maps[channel][place]
    return np.maximum(total, 0)


LITERAL: dict[str, Callable[[Map, Map], Map]] = {
    "grad-cam": literal_grad_cam,
    "grad-cam++": literal_grad_cam_plus_plus,
    "layer-cam": literal_layer_cam,
}


def expected_maps(network: BlockNetwork, image: Tensor, target: int, method: str) -> tuple[Map, list[Map]]:
    """The map and the blocks' maps, from gradients of the class's logit."""
    blocks, logits = network.blocks_and_logits(image[None])
    gradients = torch.autograd.grad(logits[0, target], blocks)
    pairs = [(b[0].detach().numpy(), g[0].numpy()) for b, g in zip(blocks, gradients, strict=True)]
    used = pairs if method == "layer-cam" else pairs[-1:]
    size = tuple(image.shape[1:])
    rendered = [normalised(upsampled(LITERAL[method](*pair), size)) for pair in used]
    mean = np.mean(rendered, axis=0)
    return mean / mean.max() if mean.max() > 0 else mean, rendered


@pytest.mark.slow
@pytest.mark.parametrize("method", LITERAL)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_agrees_with_the_paper(method: str, family: type[BlockNetwork], activation: str) -> None:
    """Whatever the activation: the gradient is that of the logit."""
    network, pictures = built(family, 1), images(2, 2)
    targets = [[0, 1], [2, 3]]
    result = attribute(network, pictures, torch.tensor(targets), method, activation)
    found = 0
    for index, row in enumerate(targets):
        for place, target in enumerate(row):
            attribution, blocks = expected_maps(network, pictures[index], target, method)
            np.testing.assert_allclose(result.map[index, place], attribution, atol=TOLERANCE)
            for maps, expected in zip(result.block_maps, blocks, strict=True):
                np.testing.assert_allclose(maps[index, place], expected, atol=TOLERANCE)
            found += attribution.max() == 1
    assert found >= 1


@pytest.mark.parametrize("method", LITERAL)
def test_float32_agrees_with_the_paper(method: str) -> None:
    network = built(Plain, 1, torch.float32)
    result = attribute(network, images(1, 2, torch.float32), torch.tensor([1]), method)
    expected, _ = expected_maps(built(Plain, 1), images(1, 2)[0], 1, method)
    np.testing.assert_allclose(result.map[0], expected, atol=1e-4)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """A ResNet-18 of random weights, loud enough that the small number a library adds to a denominator is small."""
    torch.manual_seed(3)
    network = models.resnet18(weights=None).eval()
    with torch.no_grad():
        network.fc.weight.mul_(3000)
    return network


def picture(seed: int) -> Tensor:
    return torch.randn((1, 3, 96, 96), generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
@pytest.mark.parametrize("target", [2, 517])
@pytest.mark.parametrize(
    ("method", "library"), [("grad-cam", "GradCAM"), ("grad-cam++", "GradCAMPlusPlus"), ("layer-cam", "LayerCAM")]
)
def test_agrees_with_pytorch_grad_cam(resnet: nn.Module, method: str, library: str, target: int) -> None:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    stages = [resnet.relu, resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]
    result = attribute(resnet, picture(target), torch.tensor([target]), method)
    used = stages if method == "layer-cam" else stages[-1:]
    assert len(result.block_maps) == len(used)

    def by_library(layer: nn.Module) -> Map:
        with getattr(pytorch_grad_cam, library)(model=resnet, target_layers=[layer]) as explainer:
            return np.asarray(explainer(picture(target), targets=[ClassifierOutputTarget(target)])[0])

    each = [by_library(stage) for stage in used]
    for maps, expected in zip(result.block_maps, each, strict=True):
        np.testing.assert_allclose(maps[0], expected, atol=2e-5)
        assert expected.max() > 0.999
    # Not the library's own mean, for which it normalises each map before upsampling.
    mean = np.mean(each, axis=0)
    np.testing.assert_allclose(result.map[0], mean / mean.max(), atol=2e-5)


@pytest.mark.parametrize(("method", "library"), [("grad-cam", "GradCAM"), ("layer-cam", "LayerCAM")])
def test_agrees_with_torchcam(resnet: nn.Module, method: str, library: str) -> None:
    methods = pytest.importorskip("torchcam.methods", reason="it needs Python 3.11")
    result = attribute(resnet, picture(1), torch.tensor([7]), method)
    with getattr(methods, library)(resnet, target_layer="layer4") as explainer:
        (expected,) = explainer(7, resnet(picture(1)))
    np.testing.assert_allclose(
        normalised(result.block_grids[-1][0].double().numpy()), expected[0].detach().numpy(), atol=2e-5
    )


@pytest.mark.parametrize("quieter", [1.0, 1e-4, 1e-8])
@pytest.mark.parametrize("method", LITERAL)
def test_faint_gradients_give_the_same_map(method: str, quieter: float) -> None:
    """With the class's weights as small as they like; alpha of Grad-CAM++ nears its limit of a half."""
    network, pictures = built(Inverted, 1), images(1, 2)
    with torch.no_grad():
        network.classifier.weight.mul_(quieter)
    result = attribute(network, pictures, torch.tensor([1]), method)
    expected, _ = expected_maps(network, pictures[0], 1, method)
    np.testing.assert_allclose(result.map[0], expected, atol=TOLERANCE)
    assert result.map.max() == 1


def test_channels_without_gradient_or_activation_change_nothing() -> None:
    network, pictures = built(Plain, 1), images(1, 2)
    wider = Plain().double()
    wider.features[8] = nn.Conv2d(8, 13, 3, padding=1).double()
    wider.classifier = nn.Linear(13 * 30, 4).double()
    with torch.no_grad():
        for name in ("0", "3", "5"):
            wider.features[int(name)].load_state_dict(network.features[int(name)].state_dict())
        wider.features[8].bias.fill_(-100.0)  # three dead channels
        wider.features[8].weight[:10] = network.features[8].weight
        wider.features[8].bias[:10] = network.features[8].bias
        wider.features[8].bias[12] = 100.0  # and one that no class looks at
        wider.classifier.weight.fill_(0.3)
        wider.classifier.weight[:, :300] = network.classifier.weight
        wider.classifier.weight[:, 360:] = 0
        wider.classifier.bias.copy_(network.classifier.bias)
    wider.eval()
    for method in LITERAL:
        usual, changed = (attribute(n, pictures, torch.tensor([1]), method) for n in (network, wider))
        np.testing.assert_allclose(changed.map, usual.map, atol=TOLERANCE)


def test_a_denominator_of_zero_counts_nothing() -> None:
    """Maps below zero, which the paper rules out: 2 + g sum A = 0 in the first channel alone."""
    maps = torch.tensor([[[-1.0, -1.0]], [[3.0, 1.0]]], dtype=torch.float64)
    gradients = torch.tensor([[[1.0, 1.0]], [[2.0, 0.0]]], dtype=torch.float64)
    expected = 2.0 / (2 + 2 * 4) * maps[1]
    torch.testing.assert_close(grad_cam_plus_plus(maps, gradients), expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1.0, -2.0], [0.5, 0.0]], [[1.0, 0.0], [0.5, 0.0]]),
        ([[-1.0, -2.0]], [[0.0, 0.0]]),
        ([[0.0, 0.0]], [[0.0, 0.0]]),
        ([[3.0, 3.0]], [[0.0, 0.0]]),
        ([[3.0, 3.0 + 1e-7]], [[0.0, 0.0]]),
        ([[1e-300, 5e-301]], [[1.0, 0.5]]),
    ],
)
def test_a_grid_is_the_share_of_the_strongest_evidence(values: list[list[float]], expected: list[list[float]]) -> None:
    grid = evidence_grid(torch.tensor(values, dtype=torch.float64), "b")
    assert grid.dtype == np.float32
    np.testing.assert_array_equal(grid, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_map_that_is_not_finite_is_refused_with_its_place(value: float) -> None:
    with pytest.raises(AttributionError, match=r"block stem\.2: the map is not finite"):
        evidence_grid(torch.tensor([[value, 1.0]]), "stem.2")
