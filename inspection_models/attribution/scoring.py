"""Scores masks and sums them, weighted, into visualization maps (SISE, equations 11 and 12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection_models.attribution.confidence import Activation, probability
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.masks import attribution_masks

MaskScorer = Callable[[Tensor], Tensor]
"""From masks [B, H, W] in [0, 1] to confidences [B], float64 on the CPU."""

_CONSTANT = 1e-12


def torch_scorer(network: nn.Module, image: Tensor, target: int, activation: Activation) -> MaskScorer:
    """Scores s_k = Psi(I * m_k) of masks laid over `image` [1, C, H, W]: where a mask is 0, the network sees 0."""

    def score(masks: Tensor) -> Tensor:
        with torch.inference_mode():
            # Channels last is the layout that convolutions compute in; handing it over saves turning each layer's maps.
            masked = (image * masks[:, None]).contiguous(memory_format=torch.channels_last)
            return probability(network(masked), target, activation)

    return score


def visualization_grids(
    selected: Sequence[Tensor], score: MaskScorer, size: tuple[int, int], batch_size: int
) -> tuple[NDArray[np.float32], ...]:
    """Visualization maps of one image, one a block, before upsampling: float32 [h, w] in [0, 1].

    `selected` holds the blocks' chosen feature maps [K, h, w]; `size` is the input's (H, W). Upsampling is linear, so
    sum_k s_k m_k / |m_k| is the upsampled sum of s_k / (|m_k| span_k) A_k, up to a constant that the min-max
    normalisation removes: the sum is taken here at h x w, in float64, and is upsampled once, when it is rendered. Zero
    where nothing was selected or the sum is constant.

    Masks are made, scored and dropped `batch_size` at a time; the network always sees exactly that many.
    Raises `AttributionError` where a score is not finite.
    """
    totals = [torch.zeros(maps.shape[1:], dtype=torch.float64) for maps in selected]
    for runs in _chunks([len(maps) for maps in selected], batch_size):
        masks = [attribution_masks(selected[block][run], size) for block, run in runs]
        values = torch.cat([mask.values for mask in masks])
        padding = values.new_zeros((batch_size - len(values), *size))
        scores = score(torch.cat([values, padding]))[: len(values)]
        if not bool(torch.isfinite(scores).all()):
            raise AttributionError("the network's output is not finite for a masked input; check the weights")
        parts = torch.split(scores, [len(mask.values) for mask in masks])
        for (block, run), mask, part in zip(runs, masks, parts, strict=True):
            weights = part / (mask.areas * mask.spans)
            totals[block] += (weights[:, None, None] * selected[block][run].cpu().double()).sum(dim=0)
    return tuple(_normalised(total.numpy()) for total in totals)


def _chunks(counts: Sequence[int], batch_size: int) -> Iterator[list[tuple[int, slice]]]:
    """Cuts all blocks' masks, one block after the other, into chunks: lists of (block, run of its masks)."""
    chunk: list[tuple[int, slice]] = []
    room = batch_size
    for block, count in enumerate(counts):
        start = 0
        while start < count:
            stop = min(count, start + room)
            chunk.append((block, slice(start, stop)))
            room -= stop - start
            start = stop
            if not room:
                yield chunk
                chunk, room = [], batch_size
    if chunk:
        yield chunk


def _normalised(total: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = float(total.min()), float(total.max())
    if high - low <= _CONSTANT * max(abs(low), abs(high)):
        return np.zeros(total.shape, dtype=np.float32)
    return ((total - low) / (high - low)).astype(np.float32)
