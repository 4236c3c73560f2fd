"""Small networks of several families. Each says, in plain out-of-place code, which tensors its blocks end with.

`forward` is what the product sees, with in-place and functional operations as such networks have them;
`blocks_and_logits` is the same function written again for the oracle.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class BlockNetwork(nn.Module):
    classes = 4

    def blocks_and_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        raise NotImplementedError


class Plain(BlockNetwork):
    """Convolutions and poolings in a row, VGG-like, flattened into the classifier."""

    block_names = ("features.1", "features.6", "features.9")

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 10, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(10 * 5 * 6, self.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))

    def blocks_and_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        f = self.features
        first = functional.relu(f[0](x))
        second = functional.relu(f[5](functional.relu(f[3](functional.max_pool2d(first, 2)))))
        third = functional.relu(f[8](functional.max_pool2d(second, 2)))
        return [first, second, third], self.classifier(functional.max_pool2d(third, 2).flatten(1))


class ResidualUnit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)

    def again(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class Residual(BlockNetwork):
    """A small ResNet: strided stem, pooling, two stages, global pooling."""

    block_names = ("relu", "layer1", "layer2")

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, 2, 2)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(ResidualUnit(6, 6, 1), ResidualUnit(6, 6, 1))
        self.layer2 = nn.Sequential(ResidualUnit(6, 12, 2), ResidualUnit(12, 12, 1))
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(12, self.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.pool(self.relu(self.conv(x)))))
        return self.classifier(self.average(x).flatten(1))

    def blocks_and_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        blocks = [functional.relu(self.conv(x))]
        after = functional.max_pool2d(blocks[0], 3, 2, 1)
        for layer in (self.layer1, self.layer2):
            for unit in layer:
                after = unit.again(after)
            blocks.append(after)
        return blocks, self.classifier(after.mean((2, 3)))


class InvertedUnit(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, linear bottleneck."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, 3 * inputs, 1)
        self.depthwise = nn.Conv2d(3 * inputs, 3 * inputs, 3, stride, 1, groups=3 * inputs)
        self.squeeze = nn.Conv2d(3 * inputs, 4, 1)
        self.excite = nn.Conv2d(4, 3 * inputs, 1)
        self.project = nn.Conv2d(3 * inputs, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.silu(self.depthwise(functional.relu6(self.expand(x))))
        gate = self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(inner, 1))))
        out = self.project(inner * torch.sigmoid(gate))
        return x + out if self.residual else out


class Inverted(BlockNetwork):
    """A small MobileNet: inverted residuals with squeeze-and-excitation, linear bottlenecks, a wide last layer."""

    block_names = ("stem", "units.1", "last")

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU6())
        self.units = nn.Sequential(InvertedUnit(6, 8, 2), InvertedUnit(8, 8, 1), InvertedUnit(8, 10, 2))
        self.last = nn.Sequential(nn.Conv2d(10, 20, 1), nn.ReLU6())
        self.classifier = nn.Linear(20, self.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.last(self.units(self.stem(x))).mean([2, 3]))

    def blocks_and_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        first = self.stem(x)
        second = self.units[1](self.units[0](first))
        third = self.last(self.units[2](second))
        return [first, second, third], self.classifier(third.mean((2, 3)))


class DenseStage(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 4, 3, 1, 1)
        self.conv2 = nn.Conv2d(inputs + 4, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for conv in (self.conv1, self.conv2):
            maps.append(functional.relu(conv(torch.cat(maps, 1))))
        return torch.cat(maps, 1)


class Dense(BlockNetwork):
    """A small DenseNet: dense stages, a transition with convolution and average pooling, normalisation at the end."""

    block_names = ("stem", "stage1", "relu")

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(inplace=True))
        self.stage1 = DenseStage(6)
        self.transition = nn.Sequential(
            nn.BatchNorm2d(14), nn.ReLU(inplace=True), nn.Conv2d(14, 7, 1), nn.AvgPool2d(2, 2)
        )
        self.stage2 = DenseStage(7)
        self.norm = nn.BatchNorm2d(15)
        self.classifier = nn.Linear(15, self.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.stem(x), 2)
        x = self.norm(self.stage2(self.transition(self.stage1(x))))
        x = functional.relu(x, inplace=True)
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(x, (1, 1)), 1))

    def blocks_and_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        first = functional.relu(self.stem[0](x))
        second = self.stage1(functional.max_pool2d(first, 2))
        inner = self.transition[2](functional.relu(self.transition[0](second)))
        third = functional.relu(self.norm(self.stage2(functional.avg_pool2d(inner, 2))))
        return [first, second, third], self.classifier(third.mean((2, 3)))


class Functional(BlockNetwork):
    """No layer modules at all: parameters, functions and tensor methods that work in place, results unused."""

    block_names = ("relu_", "leaky_relu", "cat")

    def __init__(self) -> None:
        super().__init__()
        shapes = {"a": (6, 3, 3, 3), "b": (8, 6, 3, 3), "c": (5, 8, 3, 3), "d": (5, 8, 1, 1), "e": (4, 10)}
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.empty(shape)) for name, shape in shapes.items()})

    def forward(self, x: Tensor) -> Tensor:
        w = self.weights
        x = torch.conv2d(x, w["a"], padding=1)
        x.relu_()
        x = functional.avg_pool2d(x, 2)
        x = functional.leaky_relu(functional.conv2d(functional.pad(x, (1, 1, 1, 1)), w["b"]), 0.2)
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2)
        x = torch.cat([functional.conv2d(x, w["c"], padding=1).tanh_(), functional.conv2d(x, w["d"]).sigmoid()], 1)
        return functional.linear(x.amax((2, 3)), w["e"])

    def blocks_and_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        w = self.weights
        first = functional.relu(functional.conv2d(x, w["a"], padding=1))
        second = functional.leaky_relu(functional.conv2d(functional.avg_pool2d(first, 2), w["b"], padding=1), 0.2)
        half = functional.max_pool2d(functional.pad(second, (0, 1, 0, 1)), 3, 2)
        third = torch.cat(
            (torch.tanh(functional.conv2d(half, w["c"], padding=1)), torch.sigmoid(half_conv(half, w["d"]))), 1
        )
        return [first, second, third], functional.linear(third.amax((2, 3)), w["e"])


def half_conv(x: Tensor, weight: Tensor) -> Tensor:
    """A 1 x 1 convolution as a product of matrices."""
    return torch.einsum("nchw,kc->nkhw", x, weight[:, :, 0, 0])


FAMILIES: tuple[type[BlockNetwork], ...] = (Plain, Residual, Inverted, Dense, Functional)
INPUT_SIZE = (40, 48)


def built(family: type[BlockNetwork], seed: int, dtype: torch.dtype = torch.float64) -> BlockNetwork:
    """The network with random weights, loud enough that masks change its mind, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    network = family().double().eval()
    with torch.no_grad():
        for name, value in (*network.named_parameters(), *network.named_buffers()):
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                value.copy_(1 + 0.3 * noise.abs())
            elif value.ndim > 1:
                value.copy_(noise * (2.0 / value[0].numel()) ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)
            else:
                value.copy_(0.1 * noise)
        for value in (getattr(network, "classifier", None) or nn.Identity()).parameters():
            value.mul_(3)
    return network.to(dtype)


def images(count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise with structure at several scales, [count, 3, 40, 48]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((count, 3, 5, 6), generator=generator, dtype=torch.float64)
    fine = torch.randn((count, 3, *INPUT_SIZE), generator=generator, dtype=torch.float64)
    return (functional.interpolate(coarse, INPUT_SIZE, mode="bicubic") + 0.3 * fine).to(dtype)
