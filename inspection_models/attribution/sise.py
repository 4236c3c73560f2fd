"""SISE: attribution-based input sampling with block-wise feature aggregation (arXiv 2010.00672), as published.

And Ada-SISE (arXiv 2102.07799), which differs in how feature maps are selected alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inspection_models.attribution.blocks import ConvolutionalBlock, find_blocks
from inspection_models.attribution.capture import capture
from inspection_models.attribution.confidence import log_odds, precise
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.fusion import Gate
from inspection_models.attribution.masks import attribution_masks
from inspection_models.attribution.request import Attribution, Evidence, Request
from inspection_models.attribution.sampling import explain_by_sampling
from inspection_models.attribution.scoring import ScoringOptions
from inspection_models.attribution.selection import above_otsu, above_share, channel_weights, constant_channels
from inspection_models.attribution.stream import MaskStream, Scores
from inspection_models.attribution.tracing import Trace

_GATES: tuple[Gate, ...] = ("hard", "soft", "none")
_CONSTANT = 1e-12
# Numbers turned to float64 at once where maps are summed: 32 MB.
_SUMMED_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class SiseOptions(ScoringOptions):
    """Settings of SISE.

    `mu` >= 0: a feature map is scored iff its summed gradient exceeds `mu` times the block's largest.
    `gate`: "hard", the paper's binary Otsu mask, "soft", a steep sigmoid about it, or "none".
    """

    mu: float = 0.0
    gate: Gate = "hard"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.mu, bool) or not isinstance(self.mu, int | float) or not 0 <= self.mu < math.inf:
            raise AttributionError(f"mu must be a number of at least 0, not {self.mu!r}")
        _check_gate(self.gate)


@dataclass(frozen=True)
class AdaSiseOptions(ScoringOptions):
    """Settings of Ada-SISE; `gate` as in SISE."""

    gate: Gate = "hard"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_gate(self.gate)


Selection = Callable[[Tensor], Tensor]
"""From the summed gradients alpha [C] of a block's channels to which of them are worth a mask, bool [C]."""


def explain_sise(request: Request, traced: Trace, options: SiseOptions) -> Attribution:
    """SISE of each image for each of its targets."""
    return _explain("sise", request, traced, options, lambda alpha: above_share(alpha, options.mu))


def explain_ada_sise(request: Request, traced: Trace, options: AdaSiseOptions) -> Attribution:
    """Ada-SISE of each image for each of its targets."""
    return _explain("ada-sise", request, traced, options, above_otsu)


@dataclass(frozen=True)
class _Block:
    """A block's maps [K, h, w] that some target selects, and which target wants which: bool [K, T]."""

    maps: Tensor
    wanted: Tensor


class _Sampling:
    """One image on its way: what was selected, what its masks measure, how they scored.

    A mask that several targets want is scored once, for all of them.
    """

    def __init__(self, image: Tensor, targets: tuple[int, ...], blocks: list[_Block]) -> None:
        self._image = image
        self._blocks = blocks
        self._scores = Scores(targets)
        self._areas: list[Tensor] = []
        self._spans: list[Tensor] = []
        self.masks = sum(len(block.maps) for block in blocks)

    @property
    def complete(self) -> bool:
        return self._scores.count == self.masks

    def push_to(self, stream: MaskStream) -> Iterator[int]:
        size = (self._image.shape[1], self._image.shape[2])
        pushed = 0
        for block in self._blocks:
            start = 0
            while start < len(block.maps):
                run = block.maps[start : start + stream.room]
                masks = attribution_masks(run, size)
                stream.push(self._image, masks.values, self._scores)
                self._areas.append(masks.areas)
                self._spans.append(masks.spans)
                start += len(run)
                pushed += len(run)
                yield pushed

    def evidence(self) -> Evidence:
        """Visualization maps before upsampling, float32 [h, w] in [0, 1], for each target one a block.

        Upsampling is linear, so sum_k s_k m_k / |m_k| is the upsampled sum of s_k / (|m_k| span_k) A_k, up to a
        constant that the min-max normalisation removes: the sum is taken here at h x w and upsampled once, when it is
        rendered. Zero where nothing was selected or the sum is constant. Masks that were not scored yet count with the
        mean score of their block's others, and with their size at h x w.
        """
        scores = self._scores.values()
        areas, spans = _joined(self._areas), _joined(self._spans)
        grids: list[list[NDArray[np.float32]]] = [[] for _ in self._scores.targets]
        start = 0
        for block in self._blocks:
            count = len(block.maps)
            known = scores[start : start + count]
            sizes = areas[start : start + count] * spans[start : start + count]
            if len(known) < count:
                known, sizes = self._guessed(block, known, sizes[: len(known)])
            start += count
            weights = torch.where(block.wanted, known / sizes[:, None], 0.0)
            for target, total in enumerate(_weighted_sum(block.maps, weights)):
                grids[target].append(_normalised(total))
        return Evidence(tuple(map(tuple, grids)), self.masks)

    def _guessed(self, block: _Block, known: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        waiting = precise(block.maps[len(known) :]).flatten(1).cpu().double()
        above = waiting - waiting.amin(dim=1, keepdim=True)
        guessed_sizes = above.mean(dim=1) * (self._image.shape[1] * self._image.shape[2])
        mean = known.mean(dim=0) if len(known) else torch.ones(known.shape[1], dtype=torch.float64)
        return torch.cat([known, mean.expand(len(waiting), -1)]), torch.cat([sizes, guessed_sizes])


def _explain(
    method: str, request: Request, traced: Trace, options: SiseOptions | AdaSiseOptions, selection: Selection
) -> Attribution:
    blocks = find_blocks(traced)

    def begin(image: Tensor, targets: tuple[int, ...]) -> _Sampling:
        return _Sampling(image, targets, _selected(request, blocks, image[None], targets, selection))

    return explain_by_sampling(
        request,
        traced,
        options,
        begin,
        method=method,
        blocks=blocks,
        activation=request.activation,
        gate=options.gate,
    )


def _selected(
    request: Request,
    blocks: tuple[ConvolutionalBlock, ...],
    image: Tensor,
    targets: tuple[int, ...],
    selection: Selection,
) -> list[_Block]:
    """The blocks' feature maps that are worth a mask for any of the targets, free of the gradient graph."""
    captured = capture(request.network, image, blocks)
    wanted: list[list[Tensor]] = [[] for _ in blocks]
    for number, target in enumerate(targets, start=1):
        with torch.inference_mode(mode=False), torch.enable_grad():
            score = log_odds(captured.logits, target, request.activation).sum()
            gradients = captured.gradients(score, keep_graph=number < len(targets))
        for block, gradient in zip(wanted, gradients, strict=True):
            block.append(selection(channel_weights(gradient[0])))
    selected = []
    for maps, columns in zip(captured.feature_maps, wanted, strict=True):
        detached = maps.detach()[0]
        # A constant map's mask is zero and adds nothing.
        by_target = torch.stack(columns, dim=1) & ~constant_channels(detached, request.input_size).cpu()[:, None]
        channels = torch.nonzero(by_target.any(dim=1)).flatten()
        selected.append(_Block(detached[channels.to(detached.device)], by_target[channels]))
    return selected


def _check_gate(gate: str) -> None:
    if gate not in _GATES:
        raise AttributionError(f"unknown gate {gate!r}: there are {', '.join(_GATES)}")


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).cpu().double() if parts else torch.zeros(0, dtype=torch.float64)


def _weighted_sum(maps: Tensor, weights: Tensor) -> NDArray[np.float64]:
    """sum_k weights[k, t] maps[k] for maps [K, h, w]: float64 [T, h, w], summed on the maps' device."""
    height, width = maps.shape[1:]
    moved = weights.to(dtype=precise(maps[:0]).dtype).to(maps.device)
    total = moved.new_zeros((weights.shape[1], height * width))
    run = max(1, _SUMMED_AT_ONCE // (height * width))
    for start in range(0, len(maps), run):
        total += moved[start : start + run].T @ precise(maps[start : start + run].flatten(1))
    return total.cpu().double().numpy().reshape(-1, height, width)


def _normalised(total: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = float(total.min()), float(total.max())
    if high - low <= _CONSTANT * max(abs(low), abs(high)):
        return np.zeros(total.shape, dtype=np.float32)
    return ((total - low) / (high - low)).astype(np.float32)
