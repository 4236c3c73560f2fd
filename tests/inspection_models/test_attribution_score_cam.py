"""Score-CAM against literal float64 code and against pytorch-grad-cam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection_models._torchvision import models
from inspection_models.attribution import attribute
from tests.inspection_models.attribution_networks import (
    FAMILIES,
    BlockNetwork,
    Functional,
    Inverted,
    Plain,
    Residual,
    built,
    images,
)
from tests.inspection_models.sise_oracle import normalised, upsampled

TOLERANCE = 1e-5


pytestmark = pytest.mark.usefixtures("one_thread")


def literal(network: BlockNetwork, image: Tensor, target: int) -> tuple[NDArray[np.float64], int]:
    """Algorithm 1 of the paper, one mask at a time, baseline and all; the map and how many maps tell anything."""
    with torch.no_grad():
        blocks, _ = network.blocks_and_logits(image[None])
        maps = blocks[-1][0].numpy()
        baseline = float(network.blocks_and_logits(torch.zeros_like(image)[None])[1][0, target])
        size = tuple(image.shape[1:])
        increases, kept = [], []
        for channel in maps:
            if np.ptp(channel) <= 1e-12 * np.abs(channel).max():
                continue
            mask = normalised(upsampled(channel, size))
            masked = image * torch.from_numpy(mask)
            increases.append(float(network.blocks_and_logits(masked[None])[1][0, target]) - baseline)
            kept.append(channel)
    weights = np.exp(increases) / np.exp(increases).sum()
    total = sum(weight * channel for weight, channel in zip(weights, kept, strict=True))
    rendered = normalised(upsampled(np.maximum(total, 0), size))
    return rendered, len(kept)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_agrees_with_the_paper(family: type[BlockNetwork], dtype: torch.dtype, activation: str) -> None:
    pictures, targets = images(2, 2), [[0, 1], [3, 2]]
    result = attribute(
        built(family, 1, dtype), pictures.to(dtype), torch.tensor(targets), "score-cam", activation, engine="torch"
    )
    for index, row in enumerate(targets):
        for place, target in enumerate(row):
            expected, masks = literal(built(family, 1), pictures[index], target)
            np.testing.assert_allclose(result.map[index, place], expected, atol=2e-5)
            assert expected.max() == 1
            assert result.masks_scored[index] == masks


@pytest.mark.parametrize("network", ["small", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_agrees_with_pytorch_grad_cam(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library upsamples masks corner to corner; the paper's own code, like ours, has half-pixel centres."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    if network == "small":
        explained, picture = built(Residual, 1, torch.float32), images(1, 5, torch.float32)
        last = explained.layer2
    else:
        torch.manual_seed(3)
        explained, picture = models.resnet18(weights=None).eval(), torch.randn(1, 3, 64, 96)
        explained.fc.weight.data.mul_(30)
        last = explained.layer4
    result = attribute(explained, picture, torch.tensor([3]), "score-cam", engine="torch")

    def half_pixel_centres(size: tuple[int, int]) -> nn.Module:
        return nn.Upsample(size=size, mode="bilinear", align_corners=False)

    monkeypatch.setattr(nn, "UpsamplingBilinear2d", half_pixel_centres)
    with pytorch_grad_cam.ScoreCAM(model=explained, target_layers=[last]) as explainer:
        expected = explainer(picture, targets=[ClassifierOutputTarget(3)])[0]
    assert expected.max() > 0.999
    np.testing.assert_allclose(result.map[0], expected, atol=1e-4)


def test_dead_channels_cost_nothing_and_change_nothing() -> None:
    network, pictures = built(Plain, 1), images(1, 2)
    wider = Plain().double()
    wider.features[8] = nn.Conv2d(8, 13, 3, padding=1).double()
    wider.classifier = nn.Linear(13 * 30, 4).double()
    with torch.no_grad():
        for name in ("0", "3", "5"):
            wider.features[int(name)].load_state_dict(network.features[int(name)].state_dict())
        wider.features[8].weight.zero_()
        wider.features[8].bias.fill_(-1.0)
        wider.features[8].weight[:10] = network.features[8].weight
        wider.features[8].bias[:10] = network.features[8].bias
        wider.classifier.weight.fill_(0.3)
        wider.classifier.weight[:, :300] = network.classifier.weight
        wider.classifier.bias.copy_(network.classifier.bias)
    usual, changed = (attribute(n.eval(), pictures, torch.tensor([1]), "score-cam") for n in (network, wider))
    assert usual.masks_scored.tolist() == changed.masks_scored.tolist()
    np.testing.assert_allclose(changed.map, usual.map, atol=TOLERANCE)


def test_no_map_that_varies_is_an_empty_map() -> None:
    network, pictures = built(Functional, 1), images(1, 2)
    with torch.no_grad():
        network.weights["c"].zero_()
        network.weights["d"].zero_()
    result = attribute(network, pictures, torch.tensor([1]), "score-cam")
    assert result.masks_scored.tolist() == [0]
    assert not result.map.any()


def test_far_logits_do_not_overflow() -> None:
    network, pictures = built(Inverted, 1), images(1, 2)
    usual = attribute(network, pictures, torch.tensor([1]), "score-cam")
    with torch.no_grad():
        network.classifier.bias.add_(5000.0)
    shifted = attribute(network, pictures, torch.tensor([1]), "score-cam")
    np.testing.assert_allclose(shifted.map, usual.map, atol=TOLERANCE)
    with torch.no_grad():
        network.classifier.weight.mul_(1e6)
    assert attribute(network, pictures, torch.tensor([1]), "score-cam").map.max() == 1
