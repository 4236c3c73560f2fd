"""What is asked of an attribution method, checked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inspection_models.attribution.blocks import ConvolutionalBlock
from inspection_models.attribution.confidence import Activation
from inspection_models.attribution.errors import AttributionError


@dataclass(frozen=True)
class Request:
    """`inputs` [N, C, H, W] on the network's device and in its precision; `targets`, one class index an image."""

    network: nn.Module
    inputs: Tensor
    targets: tuple[int, ...]
    activation: Activation

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W)."""
        return (self.inputs.shape[2], self.inputs.shape[3])


@dataclass(frozen=True)
class Attribution:
    """Explanations of N images; all tensors are on the CPU.

    `map`: float32 [N, H, W] in [0, 1], divided by its maximum (zero where nothing speaks for the class).
    `block_maps`: the blocks' visualization maps, shallow to deep, float32 [N, H, W] in [0, 1] each.
    `block_grids`: the same before upsampling, float32 [N, h, w] each: the record from which
    `render_map(block_grids, (H, W), gate)` gives `map` and `block_maps` again, to the bit.
    `blocks`: where they come from. `masks_scored`: int64 [N]. `settings`: all that was set, ready for JSON.
    """

    map: Tensor
    block_maps: tuple[Tensor, ...]
    block_grids: tuple[Tensor, ...]
    blocks: tuple[ConvolutionalBlock, ...]
    masks_scored: Tensor
    settings: Mapping[str, Any]


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


def checked_targets(targets: Tensor, images: int, classes: int) -> tuple[int, ...]:
    """`targets` as a tuple. Raises `AttributionError` where they are not one existing class index an image."""
    values = torch.as_tensor(targets)
    if values.shape != (images,) or values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise AttributionError(
            f"targets must be {images} class indices, one an image, not {values.dtype} {list(values.shape)}"
        )
    indices = tuple(int(value) for value in values)
    if outside := [index for index in indices if not 0 <= index < classes]:
        raise AttributionError(f"targets {outside} do not exist: the network has classes 0 to {classes - 1}")
    return indices
