"""Quorum: the product's own method. A place counts as far as every level of the network finds evidence there.

No masks. For the log-odds L of the class and a tensor A that all of the pass crosses, dL/dA * A is a first-order
estimate of what the class would lose without that part of A. Its positive part, channel by channel, summed over
channels, is a level's evidence: summed with their signs, neighbouring channels would cancel. It is taken at the end of
every convolutional block, where SISE looks, and at the input, whose details are the difference to the blurred picture.
Layers with a stride read a lattice, which leaves its pattern on every gradient; so the evidence is averaged over the
four mirror images, whose lattices fall differently.

Positive parts say where the network looks and hardly for which class, since another class's gradient is much the same
with the sign turned. So the last block's level is the balance of positive and negative evidence in the last two blocks,
where the difference is more than noise.

docs/explanations.md tells how each part was chosen and what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from inspection_models.attribution.blocks import ConvolutionalBlock, find_blocks
from inspection_models.attribution.blurring import gaussian_blur
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


@dataclass(frozen=True)
class _Tally:
    """Evidence for the class at each level, and against it in the last two blocks: [h, w] each, summed over views."""

    positive: tuple[Tensor, ...]
    negative: tuple[Tensor, ...]

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(
            tuple(one + more for one, more in zip(self.positive, other.positive, strict=True)),
            tuple(one + more for one, more in zip(self.negative, other.negative, strict=True)),
        )


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
        details = image[None] - gaussian_blur(image[None], max(request.input_size) / _BLUR)
        tallies: list[_Tally] = []
        for number, axes in enumerate(views, start=1):
            seen = _tallies(request, blocks, (image[None], details), targets, axes)
            tallies = [one + more for one, more in zip(tallies, seen, strict=True)] if tallies else seen
            if request.watch is not None and number < len(views):
                request.watch(answer(request, levels, [_evidence(tallies, levels)], "product", settings))
        found.append(_evidence(tallies, levels))
    return answer(request, levels, found, "product", settings)


def _tallies(
    request: Request,
    blocks: tuple[ConvolutionalBlock, ...],
    picture: tuple[Tensor, Tensor],
    targets: tuple[int, ...],
    axes: tuple[int, ...],
) -> list[_Tally]:
    """What one mirror image of a picture, given with its details, says of each target, mirrored back."""
    image, details = picture
    captured = capture(request.network, image.flip(axes), blocks)
    factors = (details.flip(axes), *(maps.detach() for maps in captured.feature_maps))
    found = []
    for number, target in enumerate(targets, start=1):
        with torch.inference_mode(mode=False), torch.enable_grad():
            score = log_odds(captured.logits, target, request.activation).sum()
            gradients = captured.gradients_from_input(score, keep_graph=number < len(targets))
        products = [(gradient * factor)[0] for gradient, factor in zip(gradients, factors, strict=True)]
        found.append(
            _Tally(
                tuple(precise(part.clamp_min(0)).sum(dim=0).flip(axes) for part in products),
                tuple(precise(part.neg().clamp_min(0)).sum(dim=0).flip(axes) for part in products[1:][-2:]),
            )
        )
    return found


def _evidence(tallies: list[_Tally], levels: tuple[ConvolutionalBlock, ...]) -> Evidence:
    grids = []
    for tally in tallies:
        # On the processor, for Apple's devices refuse to pool to sizes that do not divide.
        at_input, *at_blocks = (part.cpu().double() for part in tally.positive)
        negative = [part.cpu().double() for part in tally.negative]
        values = (_pooled(at_input, levels[0].size), *at_blocks[:-1], _balance(at_blocks[-2:], negative))
        grids.append(tuple(evidence_grid(value, level.name) for value, level in zip(values, levels, strict=True)))
    return Evidence(tuple(grids), masks_scored=0)


def _balance(positive: Sequence[Tensor], negative: Sequence[Tensor]) -> Tensor:
    """sum_b (P_b - N_b) / mean(P_b + N_b) over the last two blocks, at the last one's size; nothing where that is 0."""
    total = torch.zeros_like(positive[-1])
    size = (total.shape[0], total.shape[1])
    for speaking, against in zip(positive, negative, strict=True):
        mean = (speaking + against).mean()
        balance = torch.where(mean > 0, (speaking - against) / mean, 0.0)
        total = total + _pooled(balance, size)
    return total


def _pooled(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Each cell of the result, `size` (h, w), is the mean of the cells of `values` [H, W] that it covers or cuts."""
    return functional.adaptive_avg_pool2d(values[None, None], size)[0, 0]
