"""Quorum: the product's own method. A place counts as far as every level of the network finds evidence there.

No masks. For the log-odds L of the class and a tensor A that all of the pass crosses, the channel-wise evidence is
max(dL/dA * A, 0), summed over channels: a first-order estimate of what the class would lose without that part of A, of
which only what speaks for the class is kept, for signs that cancel between neighbouring channels would hide it. It is
taken at the end of every convolutional block, where SISE looks, and at the input, whose details are the difference to
the blurred picture. Layers with a stride read a lattice, which leaves its pattern on every gradient; so the evidence is
averaged over the four mirror images, whose lattices fall differently.

docs/explanations.md tells how each part was chosen and what it is worth.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from inspection_models.attribution.blocks import ConvolutionalBlock, find_blocks
from inspection_models.attribution.blurring import blurred
from inspection_models.attribution.capture import capture
from inspection_models.attribution.confidence import log_odds, precise
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.grids import evidence_grid
from inspection_models.attribution.request import Attribution, Evidence, Request, answer
from inspection_models.attribution.tracing import Trace

# Standard deviation of the blur that takes the details away: a fourteenth of the input's longer side, 16 px of 224.
_BLUR = 14
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


@dataclass(frozen=True, kw_only=True)
class QuorumOptions:
    """Settings of Quorum.

    `mirrored`: average over the four mirror images. Off for parts whose mirror image would be another part.
    """

    mirrored: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.mirrored, bool):
            raise AttributionError(f"mirrored must be True or False, not {self.mirrored!r}")


def explain_quorum(request: Request, traced: Trace, options: QuorumOptions) -> Attribution:
    """Evidence at the input (at half its resolution) and at each block, multiplied; one pass a view and target."""
    blocks = find_blocks(traced)
    height, width = request.input_size
    half = ((height + 1) // 2, (width + 1) // 2)
    levels = (ConvolutionalBlock("input", request.inputs.shape[1], half, traced.nodes[0].site), *blocks)
    settings = {"method": "quorum", **asdict(options)}
    views = _MIRRORS if options.mirrored else _MIRRORS[:1]
    found = []
    for image, targets in zip(request.inputs, request.targets, strict=True):
        totals: list[list[Tensor]] = []
        for number, axes in enumerate(views, start=1):
            seen = _evidence(request, blocks, image[None], targets, axes)
            totals = [_added(*pair) for pair in zip(totals, seen, strict=True)] if totals else seen
            if request.watch is not None and number < len(views):
                request.watch(answer(request, levels, [_stated(totals, levels)], "product", settings))
        found.append(_stated(totals, levels))
    return answer(request, levels, found, "product", settings)


def _evidence(
    request: Request,
    blocks: tuple[ConvolutionalBlock, ...],
    image: Tensor,
    targets: tuple[int, ...],
    axes: tuple[int, ...],
) -> list[list[Tensor]]:
    """Evidence [h, w] of each target at each level in one mirror image, mirrored back."""
    details = (image - blurred(image, max(request.input_size) / _BLUR)).flip(axes)
    captured = capture(request.network, image.flip(axes), blocks)
    factors = (details, *(maps.detach() for maps in captured.feature_maps))
    found = []
    for number, target in enumerate(targets, start=1):
        with torch.inference_mode(mode=False), torch.enable_grad():
            score = log_odds(captured.logits, target, request.activation).sum()
            gradients = captured.gradients_from_input(score, keep_graph=number < len(targets))
        positive = [(g * factor).clamp_min(0)[0] for g, factor in zip(gradients, factors, strict=True)]
        found.append([precise(part).sum(dim=0).flip(axes) for part in positive])
    return found


def _added(total: list[Tensor], more: list[Tensor]) -> list[Tensor]:
    return [one + other for one, other in zip(total, more, strict=True)]


def _stated(totals: list[list[Tensor]], levels: tuple[ConvolutionalBlock, ...]) -> Evidence:
    grids = []
    for at_input, *at_blocks in totals:
        pooled = functional.adaptive_avg_pool2d(at_input[None, None], levels[0].size)[0, 0]
        values = (pooled, *at_blocks)
        grids.append(tuple(evidence_grid(value, level.name) for value, level in zip(values, levels, strict=True)))
    return Evidence(tuple(grids), masks_scored=0)
