"""The images that explanations are measured on, and where their defects are on the network's grid."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from inspection_models.data.markings import is_marked, truth_of
from inspection_models.images import read_image
from inspection_models.metrics.errors import MetricError
from inspection_models.preprocessing import Placement, resample
from inspection_models.tile_explanations import tile_probabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample
    from inspection_models.preprocessing import Preprocessing
    from inspection_models.tiling import Tile

GOOD, UNMARKED, MISCLASSIFIED, OVER_LIMIT = "good part", "defect not marked", "misclassified", "over the limit"
"""Why an image is left out."""


@dataclass(frozen=True)
class Selection:
    """Samples to measure on, in the order they were given, and how many were left out for which reason."""

    samples: tuple[Sample, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Case:
    """One image as the network sees it, with what is true of it.

    Attributes:
        sample: the file.
        target: index of its true class.
        inputs: float32 [3, H, W].
        truth: bool [H, W], the defect on the network's grid.
        placement: where the picture lies in the input.
        defect_share: share of the picture's, or the tile's, own pixels that are defective, in (0, 1].
    """

    sample: Sample
    target: int
    inputs: Tensor
    truth: Tensor
    placement: Placement
    defect_share: float


def select_samples(
    classifier: DefectClassifier,
    samples: Sequence[Sample],
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Selection:
    """The defect images whose defect is marked and whose class the model decides rightly.

    Args:
        classifier: the model.
        samples: to choose from.
        limit: at most so many images, as evenly over the classes as they allow, drawn at random; None takes all.
        seed: of the drawing.
        progress: called with (images looked at, images there are to look at).

    Raises:
        MetricError: a class that the model does not know, no image whose defect is marked, or none decided rightly.
        DatasetError: a mask is missing, damaged or of another size than its image.
        ImageError: a file is damaged.
    """
    check_classes(classifier.classes, samples)
    if limit is not None and limit < 1:
        raise MetricError(f"the limit must be at least 1 image, not {limit}")
    left_out: Counter[str] = Counter()
    candidates: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.label == classifier.good_class:
            left_out[GOOD] += 1
        elif not is_marked(sample, sample.label):
            left_out[UNMARKED] += 1
        else:
            candidates.setdefault(sample.label, []).append(sample)
    rng = np.random.default_rng(seed)
    queues = {
        label: deque(found if limit is None else [found[i] for i in rng.permutation(len(found))])
        for label, found in sorted(candidates.items())
    }
    total = sum(map(len, queues.values()))
    chosen: set[Path] = set()
    room = math.inf if limit is None else limit
    while len(chosen) < room and any(queues.values()):
        for queue in queues.values():
            while queue and len(chosen) < room:
                sample = queue.popleft()
                reason = _reason_against(classifier, sample)
                progress(total - sum(map(len, queues.values())), total)
                if reason is None:
                    chosen.add(sample.path)
                    break
                left_out[reason] += 1
    if waiting := sum(map(len, queues.values())):
        left_out[OVER_LIMIT] = waiting
    _check_any(chosen, left_out, len(samples))
    return Selection(tuple(sample for sample in samples if sample.path in chosen), dict(left_out))


def check_classes(known: Sequence[str], samples: Sequence[Sample]) -> None:
    """Raise `MetricError` where a sample has another class than a model's `known` ones."""
    if unknown := sorted({label for sample in samples for label in sample.labels} - set(known)):
        raise MetricError(
            f"the data set has the class {unknown[0]!r}, the model knows {', '.join(known)}: "
            "give the data set that the model was made for"
        )


def prepare_case(classifier: DefectClassifier, sample: Sample) -> Case:
    """Read a sample's image and truth.

    Of an image that the model looks at in tiles, the case is one tile: of those that show at least half as much of the
    defect as any does, the one that finds its class most probable. Its maps are what the image's map is stitched from.

    Raises:
        MetricError: nothing is marked.
        DatasetError: its mask is missing, damaged or of another size than its image.
        ImageError: the image is damaged.
    """
    pixels = read_image(sample.path).pixels
    truth = truth_of(sample, (pixels.shape[0], pixels.shape[1]), sample.label)
    if not truth.any():
        raise MetricError(f"{sample.path}: no pixel of its defect is marked; leave the image out")
    if classifier.card.tiling is not None:
        tile = _convinced_tile(classifier, pixels, truth, sample.label)
        pixels, truth = tile.cut(pixels), tile.cut(truth)
    inputs, placement = classifier.preprocessing.apply(pixels)
    return Case(
        sample=sample,
        target=classifier.classes.index(sample.label),
        inputs=inputs,
        truth=torch.from_numpy(truth_on_grid(truth, classifier.preprocessing)),
        placement=placement,
        defect_share=float(truth.mean()),
    )


def _convinced_tile(
    classifier: DefectClassifier, pixels: NDArray[np.uint8], truth: NDArray[np.bool_], label: str
) -> Tile:
    prediction = classifier.predict([pixels])[0]
    tiling, logits = classifier.card.tiling, prediction.tile_logits
    if tiling is None or logits is None:
        raise ValueError("only a model with a tiling has tiles")
    views = tiling.views((pixels.shape[0], pixels.shape[1]))
    shown = np.array([int(tile.cut(truth).sum()) for tile in views])
    probabilities = tile_probabilities(classifier, logits)[:, classifier.classes.index(label)]
    return views[int(np.where(2 * shown >= shown.max(), probabilities, -1.0).argmax())]


def truth_on_grid(truth: NDArray[np.bool_], preprocessing: Preprocessing) -> NDArray[np.bool_]:
    """Bring a truth [h, w] of an image to the network's grid [H, W], through the same resampling and padding.

    A pixel of the grid is true where at least half of it is covered; of a defect too small for that, the pixels that it
    covers most remain, so that none is lost. Padding is never true.
    """
    placement = preprocessing.placement((truth.shape[0], truth.shape[1]))
    covered = resample(truth.astype(np.float32), placement.content_size)
    grid = np.zeros(preprocessing.size, np.bool_)
    (top, left), (height, width) = placement.offset, placement.content_size
    if covered.max() > 0:
        grid[top : top + height, left : left + width] = covered >= min(0.5, float(covered.max()))
    return grid


def _reason_against(classifier: DefectClassifier, sample: Sample) -> str | None:
    pixels = read_image(sample.path).pixels
    if not truth_of(sample, (pixels.shape[0], pixels.shape[1]), sample.label).any():
        return UNMARKED
    return None if classifier.predict([pixels])[0].label == sample.label else MISCLASSIFIED


def _check_any(chosen: set[Path], left_out: Mapping[str, int], samples: int) -> None:
    if chosen:
        return
    if left_out.get(MISCLASSIFIED):
        raise MetricError(
            f"the model decides none of the {left_out[MISCLASSIFIED]} images with a marked defect rightly; there is "
            "nothing whose explanation could be measured"
        )
    raise MetricError(
        f"none of the {samples} images has a mask or a box on a defect, so there is nothing to measure explanations "
        "against: put masks at masks/<class>/<stem>.png, or use a data set with boxes"
    )
