"""Where both models' maps point, on the same images: those with a marked defect that both decide rightly."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from inspection_models.data.markings import is_marked, truth_of
from inspection_models.gate.resampling import GroupResamples, PairedFigure, weighted_mean
from inspection_models.metrics.localisation import (
    energy_based_pointing_game,
    pixel_average_precision,
    pointing_game,
)
from inspection_models.preprocessing import resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection_models.data import Sample
    from inspection_models.gate.answers import ComparedModel
    from inspection_models.gate.golden import GoldenSet

FIGURES = {
    "ap": "average precision",
    "ebpg": "EBPG",
    "pointing": "pointing game",
    "region_iou": "IoU of the regions",
}
"""What is measured, by its key; more is better."""
DIFFERENT, OVER_LIMIT, UNMARKED = "not decided rightly by both models", "over the limit", "nothing marked"
# A map is made on a grid of some hundred pixels: more of them only repeat it.
_LONGEST_SIDE = 512


@dataclass(frozen=True, eq=False)
class Evidence:
    """Why a model calls an image a class, in the image's pixels.

    Attributes:
        attribution_map: float32 [h, w], not negative.
        inside: bool [h, w], true within the regions that an inspector would be shown.
    """

    attribution_map: NDArray[np.float32]
    inside: NDArray[np.bool_]


Explainer = Callable[["Sample", str], Evidence]
"""Explains a sample's image for a class."""


@dataclass(frozen=True)
class ExplainedImage:
    """One image: its place among those compared, the class explained, and the figures of both models' maps."""

    place: int
    label: str
    candidate: Mapping[str, float]
    service: Mapping[str, float]


@dataclass(frozen=True)
class ExplanationComparison:
    """Both models' maps of the same images.

    Attributes:
        marked: images with a marked defect.
        left_out: numbers of these by the reason why they were not measured.
        images: what was measured.
        figures: by the keys of `FIGURES`; empty where nothing was measured.
    """

    marked: int
    left_out: Mapping[str, int]
    images: tuple[ExplainedImage, ...]
    figures: Mapping[str, PairedFigure]


def compare_explanations(
    golden: GoldenSet,
    candidate: tuple[ComparedModel, Explainer],
    service: tuple[ComparedModel, Explainer],
    *,
    limit: int,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ExplanationComparison:
    """Explain the true class of marked defects with both models and measure the maps on the picture's own pixels.

    Pictures over 512 pixels are brought to that first, map and truth alike. Of several classes the first in
    alphabetical order is explained.

    Args:
        golden: the images.
        candidate: its answers, and what explains its decisions.
        service: the same of the model in service.
        limit: at most so many images, as evenly over the classes as they allow, drawn at random.
        confidence: of every bound by itself.
        seed: of the drawing and the resampling.
        progress: called with (images explained, images there are to explain).

    Raises:
        DatasetError: a mask is missing, cannot be read or has another size than its image.
        ImageError: a file is damaged.
    """
    left_out: Counter[str] = Counter()
    marked = 0
    candidates: dict[str, list[int]] = {}
    for place, (sample, image) in enumerate(zip(golden.samples, golden.images, strict=True)):
        if not image.defective or not is_marked(sample, min(image.labels)):
            continue
        marked += 1
        if any(side.answers[place].labels != image.labels for side, _ in (candidate, service)):
            left_out[DIFFERENT] += 1
        else:
            candidates.setdefault(min(image.labels), []).append(place)
    chosen = _spread(candidates, limit, seed)
    if over := sum(map(len, candidates.values())) - len(chosen):
        left_out[OVER_LIMIT] = over
    measured = []
    for number, (place, label) in enumerate(sorted(chosen.items()), start=1):
        found = _measure(golden.samples[place], label, candidate[1], service[1])
        if found is None:
            left_out[UNMARKED] += 1
        else:
            measured.append(ExplainedImage(place, label, *found))
        progress(number, len(chosen))
    return ExplanationComparison(
        marked, dict(left_out), tuple(measured), _figures(golden, measured, confidence, seed) if measured else {}
    )


def _spread(candidates: Mapping[str, Sequence[int]], limit: int, seed: int) -> dict[int, str]:
    """Places with their class: one of each class in turn, until the limit is reached."""
    rng = np.random.default_rng(seed)
    queues = {
        label: deque(places[i] for i in rng.permutation(len(places))) for label, places in sorted(candidates.items())
    }
    chosen: dict[int, str] = {}
    while len(chosen) < limit and any(queues.values()):
        for label, queue in queues.items():
            if queue and len(chosen) < limit:
                chosen[queue.popleft()] = label
    return chosen


def _measure(
    sample: Sample, label: str, candidate: Explainer, service: Explainer
) -> tuple[Mapping[str, float], Mapping[str, float]] | None:
    sides = [explain(sample, label) for explain in (candidate, service)]
    size = sides[0].attribution_map.shape
    truth = truth_of(sample, (size[0], size[1]), label)
    if not truth.any():
        return None
    return figures_of(sides[0], truth), figures_of(sides[1], truth)


def figures_of(evidence: Evidence, truth: NDArray[np.bool_]) -> dict[str, float]:
    """The figures of one map by the keys of `FIGURES`; `truth` is bool [h, w] with at least one pixel."""
    factor = min(1.0, _LONGEST_SIDE / max(truth.shape))
    size = (math.ceil(truth.shape[0] * factor), math.ceil(truth.shape[1] * factor))
    values = torch.from_numpy(np.ascontiguousarray(resample(evidence.attribution_map, size)))[None]
    covered = resample(truth.astype(np.float32), size)
    # Of a defect too small for half a pixel, the pixels that it covers most remain.
    small = torch.from_numpy(covered >= min(0.5, float(covered.max())))[None]
    union = float((evidence.inside | truth).sum())
    return {
        "ap": float(pixel_average_precision(values, small)),
        "ebpg": float(energy_based_pointing_game(values, small)),
        "pointing": float(pointing_game(values, small)),
        "region_iou": float((evidence.inside & truth).sum()) / union,
    }


def _figures(
    golden: GoldenSet, measured: Sequence[ExplainedImage], confidence: float, seed: int
) -> dict[str, PairedFigure]:
    resamples = GroupResamples([golden.images[one.place].group for one in measured], seed)
    return {
        key: resamples.paired(
            weighted_mean(np.array([one.candidate[key] for one in measured])),
            weighted_mean(np.array([one.service[key] for one in measured])),
            confidence,
        )
        for key in FIGURES
    }
