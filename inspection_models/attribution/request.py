"""What is asked of an attribution method, checked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection_models.attribution.blocks import ConvolutionalBlock
from inspection_models.attribution.confidence import Activation
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.fusion import Gate, render_map


@dataclass(frozen=True)
class Request:
    """`inputs` [N, C, H, W] on the network's device and in its precision; `targets`, T class indices an image.

    `several`: whether the caller gave a list of targets for each image, and gets a map for each.
    `watch`: is told of the best map so far while one image is worked on.
    """

    network: nn.Module
    inputs: Tensor
    targets: tuple[tuple[int, ...], ...]
    several: bool
    activation: Activation
    watch: Callable[[Attribution], None] | None = None

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W)."""
        return (self.inputs.shape[2], self.inputs.shape[3])


@dataclass(frozen=True)
class Evidence:
    """What a method found in one image: for each target, one grid [h, w] a block; and how many masks it scored."""

    grids: tuple[tuple[NDArray[np.float32], ...], ...]
    masks_scored: int


@dataclass(frozen=True)
class Attribution:
    """Explanations of N images; all tensors are on the CPU. With T targets an image, [N, T, …] stands for [N, …].

    `map`: float32 [N, H, W] in [0, 1], divided by its maximum (zero where nothing speaks for the class).
    `block_maps`: the blocks' visualization maps, shallow to deep, float32 [N, H, W] in [0, 1] each.
    `block_grids`: the same before upsampling, float32 [N, h, w] each: the record from which
    `render_map(block_grids, (H, W), gate)` gives `map` and `block_maps` again, to the bit.
    `blocks`: where they come from. `gate`: how they were fused. `masks_scored`: int64 [N], each mask counted once,
    however many targets share it. `settings`: all that was set, ready for JSON.
    """

    map: Tensor
    block_maps: tuple[Tensor, ...]
    block_grids: tuple[Tensor, ...]
    blocks: tuple[ConvolutionalBlock, ...]
    gate: Gate
    masks_scored: Tensor
    settings: Mapping[str, Any]

    def of_target(self, place: int) -> Attribution:
        """Of explanations for T targets an image, those for the targets at one place of their lists: [N, …]."""
        return replace(
            self,
            map=self.map[:, place],
            block_maps=tuple(maps[:, place] for maps in self.block_maps),
            block_grids=tuple(grids[:, place] for grids in self.block_grids),
        )


def answer(
    request: Request,
    blocks: tuple[ConvolutionalBlock, ...],
    found: Sequence[Evidence],
    gate: Gate,
    settings: Mapping[str, Any],
) -> Attribution:
    """Render the evidence of each image, in order, and put it together with what was set."""
    stacked = [
        np.stack([np.stack([grids[block] for grids in one.grids]) for one in found]) for block in range(len(blocks))
    ]
    block_grids = tuple(grids if request.several else grids[:, 0] for grids in stacked)
    attribution_map, block_maps = render_map(block_grids, request.input_size, gate)
    return Attribution(
        map=torch.from_numpy(attribution_map),
        block_maps=tuple(map(torch.from_numpy, block_maps)),
        block_grids=tuple(map(torch.from_numpy, block_grids)),
        blocks=blocks,
        gate=gate,
        masks_scored=torch.tensor([one.masks_scored for one in found], dtype=torch.int64),
        settings={**settings, "activation": request.activation},
    )


def checked_inputs(network: nn.Module, inputs: Tensor) -> Tensor:
    """`inputs` as the network wants them: its device, its precision. Raises `AttributionError` for unusable ones."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or not len(inputs):
        got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise AttributionError(f"inputs must be a tensor [N, C, H, W] with at least one image, not {got}")
    if not inputs.is_floating_point():
        raise AttributionError(f"inputs must be normalised floats, not {inputs.dtype}: apply the model's preprocessing")
    if not bool(torch.isfinite(inputs).all()):
        raise AttributionError("inputs hold values that are not finite")
    weight = next((p for p in network.parameters() if p.is_floating_point()), inputs)
    return inputs.detach().to(device=weight.device, dtype=weight.dtype)


def checked_targets(targets: Tensor, images: int, classes: int) -> tuple[tuple[int, ...], ...]:
    """The targets of each image. Raises `AttributionError` where they are not class indices that exist."""
    values = torch.as_tensor(targets)
    shaped = values.ndim in (1, 2) and len(values) == images and values.numel() > 0
    if not shaped or values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise AttributionError(
            f"targets must be {images} class indices, one an image, or as many rows of them, "
            f"not {values.dtype} {list(values.shape)}"
        )
    rows = tuple(tuple(int(value) for value in row) for row in values.reshape(images, -1))
    if outside := sorted({index for row in rows for index in row if not 0 <= index < classes}):
        raise AttributionError(f"targets {outside} do not exist: the network has classes 0 to {classes - 1}")
    return rows
