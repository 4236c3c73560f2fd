"""Images of a part, fitted to the network's input once, and the batches made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from inspection_models.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from inspection_models.data import Sample
    from inspection_models.preprocessing import Preprocessing

    Augment = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

_MEMORY_BYTES = 2 * 2**30


class FittedImages:
    """A part's images as uint8 [H, W, 3] at the network's size, kept in memory as far as 2 GiB go.

    Attributes:
        labels: int64 [N], class indices.
    """

    def __init__(self, samples: Sequence[Sample], classes: Sequence[str], preprocessing: Preprocessing) -> None:
        self.labels = np.array([classes.index(sample.label) for sample in samples], np.int64)
        self._samples = samples
        self._preprocessing = preprocessing
        self._kept: dict[int, NDArray[np.uint8]] = {}
        height, width = preprocessing.size
        self._room = _MEMORY_BYTES // (height * width * 3)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Read and fit an image, or take it from memory.

        Raises:
            ImageError: the file is damaged.
        """
        if index in self._kept:
            return self._kept[index]
        canvas, _ = self._preprocessing.fit(read_image(self._samples[index].path).pixels)
        fitted = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
        if len(self._kept) < self._room:
            self._kept[index] = fitted
        return fitted

    def batch(self, indices: Sequence[int], augment: Augment | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs float32 [n, 3, H, W] and labels int64 [n]."""
        images = [self[index] for index in indices]
        if augment is not None:
            images = [augment(image) for image in images]
        inputs = torch.stack([self._preprocessing.normalise(image.astype(np.float32)) for image in images])
        # Convolutions on a processor run about twice as fast with the channels last.
        return inputs.contiguous(memory_format=torch.channels_last), torch.from_numpy(self.labels[list(indices)])

    def batches(self, size: int, augment: Augment | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All images in order."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))), augment)


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Weight of each class, proportional to the inverse root of its count and 1 in the mean over the images.

    Used twice, for drawing and in the loss, it makes all classes count alike, while neither is the good class
    mostly left out nor a rare one repeated without end.
    """
    inverse = 1 / np.sqrt(np.bincount(labels, minlength=classes))
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
        rounds = -(-len(places) // len(members))
        order[places] = np.concatenate([rng.permutation(members) for _ in range(rounds)] or [members])[: len(places)]
    return order.reshape(steps, batch_size)
