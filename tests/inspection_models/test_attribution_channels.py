"""Inputs of other than three channels: grey pictures, and pictures with one channel more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from inspection_models.attribution import (
    METHODS,
    NetworkError,
    attribute,
    convolutional_blocks,
    settled_options,
)

SIZE = (24, 32)
FEW = {"rise": {"masks": 8}, "integrated-gradients": {"steps": 3}}

pytestmark = pytest.mark.usefixtures("one_thread")


def network_for(channels: int) -> nn.Module:
    torch.manual_seed(channels)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 4])
def test_every_method_settles_and_explains(method: str, channels: int) -> None:
    network = network_for(channels)
    settled = settled_options(network, SIZE, method, FEW.get(method, {}), channels=channels)
    result = attribute(network, torch.randn(1, channels, *SIZE), torch.tensor([1]), method, **settled)
    assert result.map.shape == (1, *SIZE) and result.map.max() == 1
    assert {**result.settings, **settled} == result.settings


def test_an_engine_is_exported_for_as_many_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTION_ENGINE_CACHE", str(tmp_path))
    settled = settled_options(network_for(1), SIZE, "sise", {"engine": "onnxruntime"}, channels=1)
    assert settled["engine"] == "onnxruntime" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("channels", [1, 4])
def test_blocks_are_found(channels: int) -> None:
    blocks = convolutional_blocks(network_for(channels), SIZE, channels=channels)
    assert [(block.channels, block.size) for block in blocks] == [(6, (24, 32)), (8, (12, 16))]


def test_a_number_of_channels_that_does_not_fit_is_refused() -> None:
    network = network_for(1)
    for call in (
        lambda channels: settled_options(network, SIZE, "sise", {}, channels=channels),
        lambda channels: convolutional_blocks(network, SIZE, channels=channels),
    ):
        with pytest.raises(NetworkError, match="check the size and the number of channels, here 3, that it is made"):
            call(3)
        with pytest.raises(NetworkError, match="an input has at least 1 channel, not 0"):
            call(0)
