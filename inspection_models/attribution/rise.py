"""RISE: the mean of random masks, weighted by how the class fares under each (Petsiuk et al., arXiv 1806.07421)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from inspection_models.attribution.blocks import ConvolutionalBlock
from inspection_models.attribution.confidence import precise
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.grids import evidence_grid, input_block
from inspection_models.attribution.request import Attribution, Evidence, Request
from inspection_models.attribution.sampling import explain_by_sampling
from inspection_models.attribution.scoring import ScoringOptions
from inspection_models.attribution.stream import MaskStream, Scores, check_scored
from inspection_models.attribution.tracing import Trace

# Confidences that differ by less do so by the rounding of the network's float32.
_SAME = 8 * torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class RiseOptions(ScoringOptions):
    """Settings of RISE.

    `masks`: how many random masks. `cells`: a mask is random on `cells` x `cells` places before it is upsampled.
    `keep`: the probability, above 0 and below 1, that a cell is seen. `seed`: of the masks, which are the same for all
    images of a call and do not depend on the batch size.
    """

    masks: int = 2000
    cells: int = 7
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("masks", 1), ("cells", 1), ("seed", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise AttributionError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if isinstance(self.keep, bool) or not isinstance(self.keep, int | float) or not 0 < self.keep < 1:
            raise AttributionError(f"keep must be a probability above 0 and below 1, not {self.keep!r}")


@dataclass(frozen=True)
class RandomMasks:
    """Masks before they are made: `cells` [N, s, s], 0 or 1, and how far each is shifted, `shifts` [N, 2] in pixels."""

    cells: Tensor
    shifts: Tensor
    size: tuple[int, int]

    @classmethod
    def drawn(cls, options: RiseOptions, size: tuple[int, int]) -> RandomMasks:
        """Those of the options' seed for inputs of `size` (H, W), the same on every device."""
        generator = torch.Generator().manual_seed(options.seed)
        shape = (options.masks, options.cells, options.cells)
        cells = torch.rand(shape, generator=generator) < options.keep
        places = [torch.randint(math.ceil(s / options.cells), (options.masks,), generator=generator) for s in size]
        return cls(cells, torch.stack(places, dim=1), size)

    def made(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks `start` to `stop`, [k, H, W] in [0, 1], in the precision of `like`.

        They are made on the device of `cells`, which must already be that of `like`: nothing is moved here, for a move
        would wait for what the device has still to do.

        Upsampled bilinearly so that a cell covers ceil(H / s) x ceil(W / s) pixels, one cell more than the input on
        either axis, and cut to the input at the random shift, which is less than a cell.
        """
        cells = self.cells[start:stop].to(dtype=like.dtype)
        count = cells.shape[1]
        grown = [(count + 1) * math.ceil(side / count) for side in self.size]
        height, width = self.size
        with torch.inference_mode():
            upsampled = functional.interpolate(cells[:, None], size=grown, mode="bilinear", align_corners=False)[:, 0]
            cut = [
                mask[top : top + height, left : left + width]
                for mask, (top, left) in zip(upsampled, self.shifts[start:stop].tolist(), strict=True)
            ]
            return torch.stack(cut)


def explain_rise(request: Request, traced: Trace, options: RiseOptions) -> Attribution:
    """RISE of each image for each of its targets; all targets share all passes.

    The map is sum_i s_i m_i with s_i = Psi(I * m_i), the class's confidence. The paper divides it by N E[m], which is
    the same at every pixel and drops out of the normalised map. Its grid has the input's own resolution.
    """
    drawn = RandomMasks.drawn(options, request.input_size)
    # Moved once: moving a run of them for each batch would wait for the batches before it.
    masks = replace(drawn, cells=drawn.cells.to(request.inputs.device))
    block = input_block(request, traced)

    def begin(image: Tensor, targets: tuple[int, ...]) -> _Sum:
        return _Sum(image, masks, block, targets)

    return explain_by_sampling(
        request, traced, options, begin, method="rise", blocks=(block,), activation=request.activation
    )


class _Sum:
    """One image [C, H, W] on its way: the sum of its masks that are scored, weighted, [T, H, W]."""

    def __init__(self, image: Tensor, masks: RandomMasks, block: ConvolutionalBlock, targets: tuple[int, ...]) -> None:
        self._image = image
        self._masks = masks
        self._block = block
        self._targets = targets
        self._total = precise(image[:0]).new_zeros((len(targets), *masks.size))
        self._lowest = self._total.new_full((len(targets),), math.inf)
        self._highest = self._total.new_zeros(len(targets))
        self._waiting: deque[tuple[Tensor, Scores]] = deque()
        self._pushed = 0

    @property
    def masks(self) -> int:
        return len(self._masks.cells)

    @property
    def complete(self) -> bool:
        return self._pushed == self.masks and all(scores.count for _, scores in self._waiting)

    def push_to(self, stream: MaskStream) -> Iterator[int]:
        while self._pushed < self.masks:
            stop = min(self._pushed + stream.room, self.masks)
            made = self._masks.made(self._pushed, stop, self._image)
            scores = Scores(self._targets)
            stream.push(self._image, made, scores)
            self._waiting.append((made, scores))
            self._pushed = stop
            self._add_scored()
            yield stop

    def evidence(self) -> Evidence:
        """The sums above their lowest value; zero where all masks score the same and would show themselves alone."""
        self._add_scored()
        check_scored(self._total)
        differ = self._highest - self._lowest > _SAME * self._highest
        grids = tuple(
            (evidence_grid((total - total.min()) * bool(tells), self._block.name),)
            for total, tells in zip(self._total, differ, strict=True)
        )
        return Evidence(grids, self.masks)

    def _add_scored(self) -> None:
        """Add the masks whose scores are known, and let go of them."""
        while self._waiting and self._waiting[0][1].count:
            made, scores = self._waiting.popleft()
            known = scores.unchecked()
            self._lowest = torch.minimum(self._lowest, known.amin(dim=0))
            self._highest = torch.maximum(self._highest, known.amax(dim=0))
            # Mask by mask: a sum of many at once would round by how many they are, and so by the batch size.
            for mask, weight in zip(made, known, strict=True):
                self._total += weight[:, None, None] * precise(mask)
