"""What a training does differently where images are looked at in tiles."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import expit, log_expit  # type: ignore[import-untyped]

from inspection_models.images import read_image
from inspection_models.tile_decisions import merge_logits, tile_engine, tile_logits
from inspection_models.training.tiles import TileCutter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from inspection_models.data import Dataset, Sample, Split
    from inspection_models.preprocessing import Preprocessing
    from inspection_models.tiling import Tiling

# Tiles of the validation part, as a share of those of the training part: enough to stop by.
_VALIDATION_SHARE = 0.3
_GOOD = "good"


@dataclass(frozen=True)
class LearningParts:
    """What to learn from and what to stop by."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]


@dataclass(frozen=True)
class MergedLogits:
    """What a network says of whole images through their tiles.

    Attributes:
        logits: float32 [N, C], merged under `growth`.
        growth: see `Tiling.growth`, fitted to these images.
        tiles: int64 [N], how many each has.
    """

    logits: NDArray[np.float32]
    growth: float
    tiles: NDArray[np.int64]


def with_good_class(dataset: Dataset) -> Dataset:
    """The data set, with a good class for the tiles without marks where all of its own classes are defects."""
    if dataset.good_class is not None:
        return dataset
    name = _GOOD
    while name in dataset.classes:
        name = f"{name}_"
    return replace(dataset, classes=tuple(sorted((*dataset.classes, name))), good_class=name)


@contextmanager
def learning_parts(
    split: Split,
    tiling: Tiling | None,
    preprocessing: Preprocessing,
    good: str | None,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[LearningParts]:
    """The images to learn from and to stop by, or their tiles, as files that are gone afterwards.

    Raises:
        TrainingError: a part gives no good tile or none with a defect.
        ImageError: an image is damaged.
        DatasetError: a mask is missing or does not fit.
    """
    if tiling is None or good is None:
        yield LearningParts(split.train, split.validation)
        return
    total = len(split.train) + len(split.validation)
    with tempfile.TemporaryDirectory(prefix="inspection-tiles-") as folder:
        cut = []
        before = 0
        for number, (samples, share) in enumerate(((split.train, 1.0), (split.validation, _VALIDATION_SHARE))):

            def told(done: int, of: int, before: int = before, count: int = len(samples)) -> None:
                # Images that give no tiles are passed over at once.
                progress(before + (count if done == of else done), total)

            cutter = TileCutter(tiling, preprocessing, good, Path(folder) / str(number))
            cut.append(cutter.cut(samples, seed + number, share, told))
            before += len(samples)
        yield LearningParts(*cut)


def merged_logits(
    network: nn.Module,
    samples: Sequence[Sample],
    targets: NDArray[np.bool_],
    tiling: Tiling,
    preprocessing: Preprocessing,
    good: int,
    activation: str,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> MergedLogits:
    """Look at whole images through tiles as in service, and fit what many tiles add by chance.

    Args:
        network: in eval mode, on the processor.
        samples: N images, not trained on.
        targets: [N, C], which classes each is of.
        tiling: its `growth` is not used.
        preprocessing: of the network.
        good: index of the good class.
        activation: "softmax" or "sigmoid".
        progress: told how many images are done of how many.

    Raises:
        ImageError: a file is damaged, or an image takes too many tiles.
    """
    engine = tile_engine(network, preprocessing)
    seen = []
    for number, sample in enumerate(samples, start=1):
        pixels = read_image(sample.path).pixels
        views = tiling.views((pixels.shape[0], pixels.shape[1]))
        seen.append(tile_logits(engine, preprocessing, pixels, views))
        progress(number, len(samples))
    growth = fit_growth(seen, ~targets[:, good], good, activation)
    merged = np.stack([merge_logits(logits, good, activation, growth) for logits in seen])
    return MergedLogits(merged, growth, np.array([len(logits) for logits in seen]))


def fit_growth(seen: Sequence[NDArray[np.float32]], defective: NDArray[np.bool_], good: int, activation: str) -> float:
    """`Tiling.growth` for images with tile logits [T, C] each, of which some are defective: bool [N].

    The worst margin u of an image is fitted by p(defective) = sigmoid(a u + b), with the smoothed targets of Platt
    (1999), so that few or separable images give no infinite slope; the growth puts u where p is a half at zero. The
    slope is left to the calibration. 0 where images have one tile, where all or none are defective, and where larger
    margins do not mean defects.
    """
    counts = np.array([len(logits) for logits in seen])
    if (counts < 2).all() or defective.all() or not defective.any():
        return 0.0
    worst = np.array([_worst(logits, good, activation) for logits in seen])
    bad, sound = int(defective.sum()), int((~defective).sum())
    wanted = np.where(defective, (bad + 1) / (bad + 2), 1 / (sound + 2))
    centre, spread = worst.mean(), max(float(worst.std()), 1e-6)
    scaled = (worst - centre) / spread

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        score = parameters[0] * scaled + parameters[1]
        error = expit(score) - wanted
        value = -(wanted * log_expit(score) + (1 - wanted) * log_expit(-score)).sum()
        return float(value), np.array([(error * scaled).sum(), error.sum()])

    slope, offset = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    if slope <= 0:
        return 0.0
    boundary = centre - spread * offset / slope
    # Not beyond what was seen: where hardly any image is good, the line would lie where none is.
    boundary = float(np.clip(boundary, worst.min(), worst.max()))
    return boundary / float(np.log(counts).mean())


def _worst(logits: NDArray[np.float32], good: int, activation: str) -> float:
    exact = logits.astype(np.float64)
    if activation == "sigmoid":
        return float(-exact[:, good].min())
    return float((np.delete(exact, good, axis=1) - exact[:, [good]]).max())
