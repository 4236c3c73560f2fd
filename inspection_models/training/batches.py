"""Images of a part, fitted to the network's input once, and the batches made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from inspection_models.data.markings import is_marked, truth_of
from inspection_models.images import read_image
from inspection_models.preprocessing import resample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from inspection_models.data import Sample
    from inspection_models.preprocessing import Placement, Preprocessing
    from inspection_models.training.augmentation import Augmentation

_MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Batch:
    """What a step learns from.

    Attributes:
        inputs: float32 [n, 3, H, W].
        targets: float32 [n, C], 1 for every class that an image shows.
        marks: float32 [n, C, H, W], 1 where a class is marked; None where marks are not asked for.
        marked: bool [n, C]: whether it is known where the class is: it is marked, or not to be seen in the image.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    marks: torch.Tensor | None = None
    marked: torch.Tensor | None = None


@dataclass(frozen=True)
class _Fitted:
    """An image at the network's size, uint8 [H, W, 3], and the bits of its marks [H, W, D] for D of its classes."""

    pixels: NDArray[np.uint8]
    marks: NDArray[np.uint8] | None
    classes: tuple[int, ...]

    def unpacked(self) -> NDArray[np.uint8] | None:
        if self.marks is None:
            return None
        shape = (*self.pixels.shape[:2], len(self.classes))
        return np.unpackbits(self.marks, count=shape[0] * shape[1] * shape[2]).reshape(shape)


class FittedImages:
    """A part's images as uint8 [H, W, 3] at the network's size, kept in memory as far as 2 GiB go.

    Attributes:
        targets: float32 [N, C], 1 for every class that an image shows.
        labels: int64 [N], the class of each image; of several the one with fewest images in this part, by which such
            an image is drawn.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        good: str | None = None,
    ) -> None:
        """`good`: the class that has no marks."""
        self.targets = np.array([[label in sample.labels for label in classes] for sample in samples], np.float32)
        counts = self.targets.sum(axis=0)
        self.labels = np.where(self.targets > 0, counts, np.inf).argmin(axis=1).astype(np.int64)
        self._samples, self._classes, self._good = samples, tuple(classes), good
        self._preprocessing = preprocessing
        self._kept: dict[int, _Fitted] = {}
        height, width = preprocessing.size
        self._room = _MEMORY_BYTES // (height * width * 3)

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def are_marked(self) -> bool:
        """Whether any of the images says where its defects are."""
        return any(is_marked(sample) for sample in self._samples)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Read and fit an image, or take it from memory.

        Raises:
            ImageError: the file is damaged.
            DatasetError: its mask is.
        """
        return self._fitted(index).pixels

    def batch(
        self, indices: Sequence[int], augment: Augmentation | None = None, rng: np.random.Generator | None = None
    ) -> Batch:
        """The images of `indices`, as they are or changed with the chances of `rng`; marks come with the latter."""
        targets = torch.from_numpy(self.targets[list(indices)])
        fitted = [self._fitted(index) for index in indices]
        if augment is None or rng is None:
            return Batch(self._inputs([one.pixels for one in fitted]), targets)
        height, width = self._preprocessing.size
        marks = torch.zeros(len(fitted), len(self._classes), height, width)
        marked = targets == 0
        pictures = []
        for place, one in enumerate(fitted):
            pixels, areas = augment(one.pixels, one.unpacked(), rng)
            pictures.append(pixels)
            if areas is not None:
                marks[place, list(one.classes)] = torch.from_numpy(areas.transpose(2, 0, 1).astype(np.float32))
                marked[place, list(one.classes)] = True
        return Batch(self._inputs(pictures), targets, marks, marked)

    def batches(
        self, size: int, augment: Augmentation | None = None, rng: np.random.Generator | None = None
    ) -> Iterator[Batch]:
        """All images in order."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))), augment, rng)

    def _inputs(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        inputs = torch.stack([self._preprocessing.normalise(image.astype(np.float32)) for image in images])
        # Convolutions on a processor run about twice as fast with the channels last.
        return inputs.contiguous(memory_format=torch.channels_last)

    def _fitted(self, index: int) -> _Fitted:
        if index in self._kept:
            return self._kept[index]
        sample = self._samples[index]
        pixels = read_image(sample.path).pixels
        canvas, placement = self._preprocessing.fit(pixels)
        classes = tuple(
            place
            for place, label in enumerate(self._classes)
            if label in sample.labels and label != self._good and is_marked(sample, label)
        )
        areas = [
            self._placed(truth_of(sample, (pixels.shape[0], pixels.shape[1]), self._classes[place]), placement)
            for place in classes
        ]
        marks = np.packbits(np.stack(areas, axis=2)) if areas else None
        fitted = _Fitted(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), marks, classes)
        if len(self._kept) < self._room:
            self._kept[index] = fitted
        return fitted

    def _placed(self, truth: NDArray[np.bool_], placement: Placement) -> NDArray[np.bool_]:
        """A mark where its image lies in the network's input; pixels that it covers only in part count as marked."""
        (top, left), (height, width) = placement.offset, placement.content_size
        placed = np.zeros(self._preprocessing.size, np.bool_)
        placed[top : top + height, left : left + width] = resample(truth.astype(np.float32), (height, width)) > 0.25
        return placed


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Weight of each class, proportional to the inverse root of its count and 1 in the mean over the images.

    Used twice, for drawing and in the loss, it makes all classes count alike, while neither is the good class
    mostly left out nor a rare one repeated without end. A class without images weighs as much as one with a single one.
    """
    inverse = 1 / np.sqrt(np.maximum(np.bincount(labels, minlength=classes), 1))
    weights: NDArray[np.float64] = inverse / inverse[labels].mean()
    return weights


def draw_epoch(labels: NDArray[np.int64], classes: int, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices [steps, batch_size] of one pass, drawn by `class_weights`; a class is used up before it repeats."""
    steps = max(1, round(len(labels) / batch_size))
    weights = class_weights(labels, classes)[labels]
    drawn = rng.choice(classes, steps * batch_size, p=np.bincount(labels, weights, classes) / weights.sum())
    order = np.empty(len(drawn), np.int64)
    for label in range(classes):
        places, members = np.flatnonzero(drawn == label), np.flatnonzero(labels == label)
        if len(places):
            rounds = -(-len(places) // len(members))
            order[places] = np.concatenate([rng.permutation(members) for _ in range(rounds)])[: len(places)]
    return order.reshape(steps, batch_size)
