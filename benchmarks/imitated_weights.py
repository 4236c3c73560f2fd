"""Weights for ResNet-18 to begin with in place of ImageNet's: it imitates the feature maps of EfficientNet-Lite0.

No package brings ImageNet's weights for ResNet-18, and a few hundred photographs with labels teach a random network
next to nothing. But Lite0's come with a package, and what Lite0 sees in a photograph, at every resolution and every
place, says far more of it than a label does. So ResNet-18 looks at crops of photographs, without any label, and learns
feature maps from which Lite0's follow by a 1 x 1 convolution (the hints of FitNets, Romero et al., ICLR 2015, at four
resolutions at once).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from inspection_models.networks import build_network
from inspection_models.networks.efficientnet_lite import PIXEL_MEAN, PIXEL_STD, imagenet_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    Photograph = NDArray[np.uint8]
    Progress = Callable[[int, int, tuple[float, ...]], None]

NETWORK = "resnet18"
# Both have an output at strides 4, 8, 16 and 32.
_LAYERS = {"layer1": "stages.1", "layer2": "stages.2", "layer3": "stages.4", "layer4": "head"}
# Its last layer learns nothing here, but takes its random numbers before others do.
_CLASSES = 6
# What the trainer gives networks of torchvision, on the 0..255 scale.
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# Crops show a photograph as it is at 224 pixels, or at so many times that; narrow ones as large as fills a crop.
_FITTED, _SMALLEST, _LARGEST = 224, 0.7, 1.9
_CONTRAST, _BRIGHTNESS = (0.7, 1.4), (-30, 30)
_WEIGHT_DECAY, _RISE = 2e-2, 200
_SAMPLED, _UTMOST = 8, 6.0


@dataclass(frozen=True)
class Imitation:
    """How it is learnt.

    `sources`: names of the data sets whose training parts are looked at, and how often each. `views`: crops in all,
    whole batches of them. `side`: of a crop in pixels. `seed`: of weights and crops. `revision`: to be raised with any
    other change of this module that changes the weights, which are kept by recipe.
    """

    sources: tuple[tuple[str, float], ...]
    views: int
    side: int = 128
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    revision: int = 1


def imitate(
    recipe: Imitation, photographs: Sequence[Sequence[Photograph]], path: Path, progress: Progress = lambda *_: None
) -> None:
    """Learn from the photographs, uint8 [h, w, 3], of each of the recipe's sources, and write the weights to `path`.

    The same recipe and photographs give the same .safetensors on one machine with as many threads.

    `progress` is told of steps done, of steps in all, and of the mean squared error at each resolution, a little under
    1 for who knows no more than the mean of Lite0's feature maps.

    Raises `ValueError` where photographs and sources differ in number, or there are fewer views than a batch has.
    """
    if len(photographs) != len(recipe.sources):
        raise ValueError(f"there are photographs of {len(photographs)} sources, not of {len(recipe.sources)}")
    if recipe.views < recipe.batch_size:
        raise ValueError(f"views is {recipe.views}; a batch alone has {recipe.batch_size}")
    rng = np.random.default_rng(recipe.seed)
    shares = [share for _, share in recipe.sources]

    def draw() -> Tensor:
        crops = []
        for _ in range(recipe.batch_size):
            source = photographs[int(rng.choice(len(shares), p=shares))]
            crops.append(crop_of(source[int(rng.integers(len(source)))], recipe.side, rng))
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)

    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        teacher = imagenet_network().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network = build_network(NETWORK, _CLASSES, pretrained=False)
        _fit(network.to(memory_format=torch.channels_last), teacher, recipe, draw, progress)  # type: ignore[call-overload]
    state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    unfinished = path.with_suffix(".part")
    safetensors.torch.save_file(state, unfinished)
    unfinished.replace(path)


def crop_of(photograph: Photograph, side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A square part of a photograph at `side` pixels, turned over, darker or brighter: float32 [side, side, 3]."""
    height, width = photograph.shape[:2]
    low, high = np.log(_SMALLEST), np.log(_LARGEST)
    scale = max(np.exp(rng.uniform(low, high)) * _FITTED / max(height, width), side / min(height, width))
    taken = side / scale
    top = rng.uniform(0, height - taken) if height > taken else 0.0
    left = rng.uniform(0, width - taken) if width > taken else 0.0
    part = photograph[int(top) : int(np.ceil(top + taken)), int(left) : int(np.ceil(left + taken))]
    fine = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for axes in ((slice(None, None, -1),), (slice(None), slice(None, None, -1))):
        fine = fine[axes] if rng.random() < 0.5 else fine
    fine = fine.transpose(1, 0, 2) if rng.random() < 0.5 else fine
    values = fine.astype(np.float32)
    mean = values.mean()
    crop: NDArray[np.float32] = np.clip(
        (values - mean) * rng.uniform(*_CONTRAST) + mean + rng.uniform(*_BRIGHTNESS), 0, 255
    )
    return crop


def _fit(
    network: nn.Module, teacher: nn.Module, recipe: Imitation, draw: Callable[[], Tensor], progress: Progress
) -> None:
    given, made = _watched(teacher, _LAYERS.values()), _watched(network, _LAYERS)
    with torch.no_grad():
        network(torch.rand(2, 3, recipe.side, recipe.side))
    scales = _scales(teacher, given, draw)
    readers = nn.ModuleList(nn.Conv2d(made[own].shape[1], given[other].shape[1], 1) for own, other in _LAYERS.items())
    optimiser = torch.optim.AdamW(
        [*network.parameters(), *readers.parameters()], lr=recipe.learning_rate, weight_decay=_WEIGHT_DECAY
    )
    steps = recipe.views // recipe.batch_size
    rise = min(_RISE, max(1, steps // 4))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / rise, 0.5 * (1 + math.cos(math.pi * step / steps)))
    )
    network.train()
    for step in range(1, steps + 1):
        crops = draw()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            teacher(_normalised(crops, PIXEL_MEAN, PIXEL_STD))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            network(_normalised(crops, _MEAN, _DEVIATION))
        errors = []
        for reader, (own, other), (mean, deviation) in zip(readers, _LAYERS.items(), scales, strict=True):
            wanted = ((given[other].float() - mean) / deviation).clamp(-_UTMOST, _UTMOST)
            errors.append(functional.mse_loss(reader(made[own].float()), wanted))
        optimiser.zero_grad()
        torch.stack(errors).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        progress(step, steps, tuple(float(error.detach()) for error in errors))


def _watched(network: nn.Module, layers: Iterable[str]) -> dict[str, Tensor]:
    """The layers' outputs in the latest pass, by name."""
    outputs: dict[str, Tensor] = {}

    def watch(name: str) -> None:
        def keep(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
            outputs[name] = output

        network.get_submodule(name).register_forward_hook(keep)

    for layer in layers:
        watch(layer)
    return outputs


def _scales(teacher: nn.Module, given: dict[str, Tensor], draw: Callable[[], Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Mean and deviation [1, C, 1, 1] of the channels of each of the teacher's layers, over some batches.

    A channel that hardly changes is not blown up: a share of the whole layer's deviation is added to each.
    """
    values: dict[str, list[Tensor]] = {name: [] for name in _LAYERS.values()}
    with torch.no_grad():
        for _ in range(_SAMPLED):
            teacher(_normalised(draw(), PIXEL_MEAN, PIXEL_STD))
            for name, seen in values.items():
                seen.append(given[name].transpose(0, 1).flatten(1))
    scales = []
    for seen in values.values():
        together = torch.cat(seen, dim=1)
        mean, deviation = together.mean(dim=1), together.std(dim=1) + 0.05 * together.std() + 1e-6
        scales.append((mean[None, :, None, None], deviation[None, :, None, None]))
    return scales


def _normalised(crops: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    scaled = (crops - _channels(mean)) / _channels(deviation)
    return scaled.contiguous(memory_format=torch.channels_last)


def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[None, :, None, None]
