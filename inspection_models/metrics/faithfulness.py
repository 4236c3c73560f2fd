"""How far the network agrees with a map: its confidence when only the highest pixels are left, or when they go first.

Psi is the confidence of the class that was explained. A perturbed input takes each pixel, all its channels, either from
the image or from a fill (`fills.py`). Several maps of one image are measured in one go.

**Ties.** As in `localisation.py`, tied pixels come in random order, and at zero, too. Here no closed form exists, so
one order is drawn: a permutation of all pixels, fixed by the seed and the input's size, the same for every map.
A group of ties that fits before the next step enters or leaves together; one that does not is cut at pixels scattered
over the whole picture, never along rows. (Letting such a group fade in as a whole would show the network a weaker copy
of the picture, which it recognises: a uniform map would then pass for a good one.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from inspection_models.metrics.errors import MetricError
from inspection_models.metrics.fills import Fill, fill_image
from inspection_models.metrics.localisation import kept_pixels

Confidence = Callable[[Tensor], Tensor]
"""From inputs [B, C, H, W] to the class's confidences [B]."""

KEPT_SHARE = 0.15
"""Share of the pixels left to the network by Drop and Increase."""


@dataclass(frozen=True)
class KeptConfidence:
    """Confidence in the whole image, `original`, and with the map's highest pixels alone, `kept` float64 [M]."""

    original: float
    kept: Tensor

    @property
    def drop(self) -> Tensor:
        """max(0, original - kept) / original, float64 [M] in [0, 1]; 0 where the original is 0: nothing can be lost.

        Its mean over images, times 100, is the paper's Drop %.
        """
        if self.original == 0:
            return torch.zeros_like(self.kept)
        return (self.original - self.kept).clamp_min(0) / self.original

    @property
    def increase(self) -> Tensor:
        """1 where kept > original, else 0, float64 [M]; its mean over images, times 100, is the paper's Increase %."""
        return (self.kept > self.original).double()


@dataclass(frozen=True)
class ConfidenceCurves:
    """Confidence while pixels enter the fill (`insertion`) or leave the image (`deletion`), highest first.

    Both are float64 [M, steps + 1], at evenly spaced shares of the pixels from 0 to 1.
    """

    insertion: Tensor
    deletion: Tensor

    @property
    def insertion_auc(self) -> Tensor:
        """Area under the insertion curve over the share of pixels, float64 [M]; higher is better."""
        return torch.trapezoid(self.insertion, dim=1) / (self.insertion.shape[1] - 1)

    @property
    def deletion_auc(self) -> Tensor:
        """Area under the deletion curve over the share of pixels, float64 [M]; lower is better."""
        return torch.trapezoid(self.deletion, dim=1) / (self.deletion.shape[1] - 1)


def class_confidence(
    logits_of: Callable[[Tensor], Tensor], target: int, activation: Literal["softmax", "sigmoid"] = "softmax"
) -> Confidence:
    """Psi: the confidence of class `target`, float64 on the CPU, at temperature 1.

    `logits_of` takes inputs [B, C, H, W] to logits [B, classes]: a network, or an engine that runs one.
    """

    def confidence(inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            logits = logits_of(inputs).cpu().double()
        return logits.softmax(dim=1)[:, target] if activation == "softmax" else logits[:, target].sigmoid()

    return confidence


def keep_highest(
    confidence: Confidence,
    image: Tensor,
    maps: Tensor,
    *,
    fill: Fill,
    share: float = KEPT_SHARE,
    batch_size: int = 16,
    seed: int = 0,
) -> KeptConfidence:
    """Drop % and Increase % (SISE, section 4): confidence in the image and in its `share` highest pixels over a fill.

    Args:
        confidence: Psi of the explained class.
        image: one network input, float [C, H, W].
        maps: M maps of it, float [M, H, W]; only their order counts.
        fill: what stands where pixels are taken away.
        share: of the pixels that stay, in (0, 1].
        batch_size: inputs in one call of `confidence`.
        seed: of the order of tied pixels.

    Raises:
        MetricError: shapes that do not fit, values that are not finite, or a confidence outside [0, 1].
    """
    ranks = _ranks(image, maps, seed)
    background = fill_image(image, fill)
    count = kept_pixels(share, image[0].numel())

    def inputs() -> Iterator[Tensor]:
        yield image
        for rank in ranks:
            yield torch.where(rank < count, image, background)

    values = _confidences(confidence, inputs(), batch_size)
    return KeptConfidence(float(values[0]), values[1:])


def insertion_deletion(
    confidence: Confidence,
    image: Tensor,
    maps: Tensor,
    *,
    fill: Fill,
    steps: int = 20,
    batch_size: int = 16,
    seed: int = 0,
) -> ConfidenceCurves:
    """Insertion and deletion (Petsiuk et al. 2018, RISE, section 4.3) in `steps` equal steps: 2 * steps calls a map.

    Arguments and errors are those of `keep_highest`; `steps` is at least 1.
    """
    if steps < 1:
        raise MetricError(f"insertion and deletion need at least one step, not {steps}")
    ranks = _ranks(image, maps, seed)
    background = fill_image(image, fill)
    counts = [round(step * image[0].numel() / steps) for step in range(1, steps)]

    def inputs() -> Iterator[Tensor]:
        yield background
        yield image
        for start, end in ((background, image), (image, background)):
            for rank in ranks:
                for count in counts:
                    yield torch.where(rank < count, end, start)

    values = _confidences(confidence, inputs(), batch_size)
    between = values[2:].reshape(2, len(maps), len(counts))
    empty, full = (value.expand(len(maps), 1) for value in values[:2])
    return ConfidenceCurves(
        insertion=torch.cat((empty, between[0], full), dim=1), deletion=torch.cat((full, between[1], empty), dim=1)
    )


def _ranks(image: Tensor, maps: Tensor, seed: int) -> Tensor:
    """Place of each pixel by falling value, int64 [M, H, W] from 0, on the image's device."""
    if image.ndim != 3 or not image.is_floating_point():
        raise MetricError(f"the image must be one float input [C, H, W], not {image.dtype} {tuple(image.shape)}")
    if maps.ndim != 3 or not len(maps) or maps.shape[1:] != image.shape[1:]:
        raise MetricError(f"maps must be [M, {image.shape[1]}, {image.shape[2]}] as the image, not {tuple(maps.shape)}")
    if not bool(torch.isfinite(maps).all()):
        raise MetricError("the maps hold values that are not finite")
    flat = maps.to(image.device).flatten(1)
    generator = torch.Generator().manual_seed(seed)
    chance = torch.randperm(flat.shape[1], generator=generator).to(image.device)
    order = chance[flat[:, chance].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(flat.shape[1], device=image.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).reshape(maps.shape)


def _confidences(confidence: Confidence, inputs: Iterator[Tensor], batch_size: int) -> Tensor:
    if batch_size < 1:
        raise MetricError(f"batch_size must be at least 1, not {batch_size}")
    parts, batch = [], []
    for one in inputs:
        batch.append(one)
        if len(batch) == batch_size:
            parts.append(confidence(torch.stack(batch)))
            batch = []
    if batch:
        parts.append(confidence(torch.stack(batch)))
    values = torch.cat([part.detach().cpu().double() for part in parts])
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise MetricError("a confidence is not in [0, 1]: give probabilities; check the weights if they are not finite")
    return values
