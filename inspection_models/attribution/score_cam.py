"""Score-CAM: class activation maps weighted by how the class fares where only a map's places are seen.

Wang et al., CVPR Workshops 2020 (arXiv 1910.01279).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from inspection_models.attribution.blocks import ConvolutionalBlock, find_blocks
from inspection_models.attribution.capture import capture
from inspection_models.attribution.confidence import precise
from inspection_models.attribution.grids import evidence_grid
from inspection_models.attribution.masks import attribution_masks
from inspection_models.attribution.request import Attribution, Evidence, Request
from inspection_models.attribution.sampling import explain_by_sampling
from inspection_models.attribution.scoring import ScoringOptions
from inspection_models.attribution.selection import constant_channels
from inspection_models.attribution.stream import MaskStream, Scores
from inspection_models.attribution.tracing import Trace


@dataclass(frozen=True)
class ScoreCamOptions(ScoringOptions):
    """Score-CAM has no settings but how its masks are scored."""


def explain_score_cam(request: Request, traced: Trace, options: ScoreCamOptions) -> Attribution:
    """Score-CAM at the last block; every map there that is not constant is a mask, scored once for all targets.

    The score is the class's logit, as in the paper.
    """
    block = find_blocks(traced)[-1]

    def begin(image: Tensor, targets: tuple[int, ...]) -> _Scoring:
        maps = capture(request.network, image[None], (block,)).feature_maps[0].detach()[0]
        # A constant map's mask is zero and shows the network nothing.
        return _Scoring(image, maps[~constant_channels(maps, request.input_size)], block, targets)

    return explain_by_sampling(request, traced, options, begin, method="score-cam", blocks=(block,), activation=None)


class _Scoring:
    """One image [C, H, W] on its way: its maps [K, h, w], and how their masks scored."""

    def __init__(self, image: Tensor, maps: Tensor, block: ConvolutionalBlock, targets: tuple[int, ...]) -> None:
        self._image = image
        self._maps = maps
        self._block = block
        self._scores = Scores(targets)

    @property
    def masks(self) -> int:
        return len(self._maps)

    @property
    def complete(self) -> bool:
        return self._scores.count == len(self._maps)

    def push_to(self, stream: MaskStream) -> Iterator[int]:
        size = (self._image.shape[1], self._image.shape[2])
        pushed = 0
        while pushed < len(self._maps):
            run = self._maps[pushed : pushed + stream.room]
            stream.push(self._image, attribution_masks(run, size).values, self._scores)
            pushed += len(run)
            yield pushed

    def evidence(self) -> Evidence:
        """max(sum_k w_k A_k, 0) with w the softmax over k of y^c(I * m_k) - y^c(I_b), for each target.

        The baseline's logit y^c(I_b) is the same for all k and drops out of the softmax, so it needs no pass.
        """
        logits = self._scores.values()
        with torch.inference_mode():
            known = precise(self._maps[: len(logits)])
            weights = torch.softmax(logits, dim=0).to(device=known.device, dtype=known.dtype)
            totals = torch.einsum("kt,khw->thw", weights, known)
        return Evidence(tuple((evidence_grid(total, self._block.name),) for total in totals), len(self._maps))
