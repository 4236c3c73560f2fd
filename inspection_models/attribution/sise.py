"""SISE: attribution-based input sampling with block-wise feature aggregation (arXiv 2010.00672), as published."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inspection_models.attribution.blocks import ConvolutionalBlock, find_blocks
from inspection_models.attribution.capture import capture
from inspection_models.attribution.confidence import log_odds
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.fusion import GATES, Gate, render_map
from inspection_models.attribution.request import Attribution, Request
from inspection_models.attribution.scoring import torch_scorer, visualization_grids
from inspection_models.attribution.selection import select_channels
from inspection_models.attribution.tracing import Trace

_ENGINES = ("torch",)
# Pixels scored at once. On a processor a batch whose feature maps pass some 30 MB is slower: the C library then returns
# and asks anew for memory at every layer. A graphics card wants to be filled.
_BATCH_PIXELS = {"cpu": 4 * 224 * 224}
_LARGEST_BATCH = 256
_BATCH_PIXELS_ACCELERATED = 128 * 224 * 224


@dataclass(frozen=True)
class SiseOptions:
    """Settings of SISE.

    `mu` >= 0: a feature map is scored iff its summed gradient exceeds `mu` times the block's largest.
    `gate`: "hard", the paper's binary Otsu mask, or "soft", a steep sigmoid about it.
    `batch_size`: masks scored at once; chosen by input size and device where None.
    `engine`: what runs the scoring forwards.
    """

    mu: float = 0.0
    gate: Gate = "hard"
    batch_size: int | None = None
    engine: Literal["torch"] = "torch"

    def __post_init__(self) -> None:
        if isinstance(self.mu, bool) or not isinstance(self.mu, int | float) or not 0 <= self.mu < math.inf:
            raise AttributionError(f"mu must be a number of at least 0, not {self.mu!r}")
        if self.gate not in GATES:
            raise AttributionError(f"unknown gate {self.gate!r}: there are {', '.join(GATES)}")
        if self.batch_size is not None and (type(self.batch_size) is not int or self.batch_size < 1):
            raise AttributionError(f"batch_size must be a whole number of at least 1, not {self.batch_size!r}")
        if self.engine not in _ENGINES:
            raise AttributionError(f"unknown engine {self.engine!r}: there is {', '.join(_ENGINES)}")


def explain(request: Request, traced: Trace, options: SiseOptions) -> Attribution:
    """Explain each image of `request` by itself: its bits do not depend on the others."""
    blocks = find_blocks(traced)
    batch_size = options.batch_size or default_batch_size(request.input_size, request.inputs.device)
    grids: list[tuple[NDArray[np.float32], ...]] = []
    masks_scored = []
    for image, target in zip(request.inputs, request.targets, strict=True):
        selected = _selected_maps(request, blocks, image[None], target, options.mu)
        scorer = torch_scorer(request.network, image[None], target, request.activation)
        grids.append(visualization_grids(selected, scorer, request.input_size, batch_size))
        masks_scored.append(sum(len(maps) for maps in selected))
    block_grids = tuple(np.stack(block) for block in zip(*grids, strict=True))
    attribution_map, block_maps = render_map(block_grids, request.input_size, options.gate)
    settings = {"method": "sise", "activation": request.activation, **asdict(options), "batch_size": batch_size}
    return Attribution(
        map=torch.from_numpy(attribution_map),
        block_maps=tuple(map(torch.from_numpy, block_maps)),
        block_grids=tuple(map(torch.from_numpy, block_grids)),
        blocks=blocks,
        masks_scored=torch.tensor(masks_scored, dtype=torch.int64),
        settings=settings,
    )


def default_batch_size(input_size: tuple[int, int], device: torch.device) -> int:
    """Masks to score at once, so that the memory for them does not grow with the input: 4 at 224 x 224 on a CPU."""
    pixels = _BATCH_PIXELS.get(device.type, _BATCH_PIXELS_ACCELERATED)
    return max(1, min(pixels // (input_size[0] * input_size[1]), _LARGEST_BATCH))


def _selected_maps(
    request: Request, blocks: tuple[ConvolutionalBlock, ...], image: Tensor, target: int, mu: float
) -> list[Tensor]:
    """The blocks' feature maps that are worth a mask, [K, h, w] each, free of the gradient graph."""
    captured = capture(request.network, image, blocks)
    with torch.inference_mode(mode=False), torch.enable_grad():
        score = log_odds(captured.logits, target, request.activation).sum()
        gradients = captured.gradients(score)
    selected = []
    for maps, gradient in zip(captured.feature_maps, gradients, strict=True):
        detached = maps.detach()[0]
        channels = select_channels(detached, gradient[0], mu)
        selected.append(detached[channels.to(detached.device)])
    return selected
