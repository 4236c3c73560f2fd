"""What is known of each place of a photograph: the outputs of the network's blocks, the photograph's contrast, the
attribution map with what snapping makes of it, and the class asked about.

Places lie on a grid of every second network pixel, so that a defect of a few pixels keeps its shape. The last block is
left out: it is coarser than any outline, and holds most of the channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional

from inspection_models.attribution import convolutional_blocks
from inspection_models.attribution.capture import capture
from inspection_models.preprocessing import resample
from inspection_models.snapping import snapped_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from inspection_models.classifier import DefectClassifier
    from inspection_models.preprocessing import Placement

# Network pixels from one place of the grid to the next.
_STRIDE = 2

# Standard deviations of the surroundings that a pixel is compared with, as shares of the input's longer side.
_SURROUNDINGS = (1.5 / 224, 4 / 224, 12 / 224)
_CONTRASTS, _EVIDENCE = 1 + 2 * len(_SURROUNDINGS), 9


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is asked of a photograph: the class `label`, and its attribution map, float [h, w] in the image's pixels."""

    label: str
    attribution_map: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Sight:
    """One photograph as `PixelFeatures` sees it.

    Attributes:
        blocks: outputs of the network's blocks, each [1, C, h, w] over the network's input.
        near: contrast and evidence at the places, [16, rows, columns].
        asked: 1 for the class asked about, else 0, float32 [classes].
        places: where the places lie, as x, y in [-1, 1] over the network's input, float32 [rows, columns, 2].
    """

    blocks: tuple[Tensor, ...]
    near: Tensor
    asked: Tensor
    places: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the places."""
        return (self.places.shape[0], self.places.shape[1])

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return sum(values.nbytes for values in (*self.blocks, self.near, self.asked, self.places))

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Features of single places, float32 [dimensions, places]."""
        places = self.places[rows, columns][None]
        blocks = [_sampled(maps.float(), places)[:, 0] for maps in self.blocks]
        asked = self.asked[:, None].expand(-1, len(rows))
        return torch.cat([*blocks, self.near[:, rows, columns].float(), asked])

    def weighted(self, weight: Tensor, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """`weight` [K, dimensions] times the features of a window: float32 [K, rows, columns].

        Each block's maps are weighted where they lie and their sums brought to the places afterwards, which is the same
        and takes the memory of K maps instead of all.
        """
        places = self.places[rows, columns]
        sizes = [maps.shape[1] for maps in self.blocks]
        *of_blocks, of_near, of_asked = torch.split(weight, [*sizes, len(self.near), len(self.asked)], dim=1)
        found: Tensor = torch.einsum("kc,crs->krs", of_near, self.near[:, rows, columns].float())
        for maps, share in zip(self.blocks, of_blocks, strict=True):
            found = found + _sampled(functional.conv2d(maps.float(), share[:, :, None, None]), places)
        return found + (of_asked @ self.asked)[:, None, None]

    def shortened(self) -> Sight:
        """The same with its maps in float16, half as long, of which the digits suffice to learn from."""
        largest = torch.finfo(torch.float16).max
        blocks = tuple(maps.clamp(-largest, largest).half() for maps in self.blocks)
        return replace(self, blocks=blocks, near=self.near.half())


class PixelFeatures:
    """Features of the photographs of one classifier."""

    def __init__(self, classifier: DefectClassifier) -> None:
        self._classes = classifier.classes
        self._network = classifier.network
        self._preprocessing = classifier.preprocessing
        blocks = convolutional_blocks(classifier.network, classifier.preprocessing.size)
        self._blocks = blocks[:-1] or blocks

    @property
    def dimensions(self) -> int:
        """How many features a place has."""
        return sum(block.channels for block in self._blocks) + _CONTRASTS + _EVIDENCE + len(self._classes)

    def of(self, pixels: NDArray[np.uint8], evidence: Evidence) -> Sight:
        """What is known of an image uint8 [h, w, 3], on the processor."""
        inputs, placement = self._preprocessing.apply(pixels)
        device = next(self._network.parameters()).device
        captured = capture(self._network, inputs.unsqueeze(0).to(device), self._blocks)
        places = self._places(placement)
        canvas, _ = self._preprocessing.fit(pixels)
        near = torch.cat([_contrasts(canvas.mean(axis=2)), self._asked(pixels, evidence, placement)])
        asked = torch.zeros(len(self._classes))
        asked[self._classes.index(evidence.label)] = 1
        return Sight(
            blocks=tuple(maps.detach().float().cpu() for maps in captured.feature_maps),
            near=_sampled(near[None], places),
            asked=asked,
            places=places,
        )

    def _asked(self, pixels: NDArray[np.uint8], evidence: Evidence, placement: Placement) -> Tensor:
        """The map and what snapping makes of it, near and in their surroundings: float32 [9, H, W]."""
        found = snapped_mask(pixels, evidence.attribution_map)
        snapped = np.zeros(placement.image_size, np.float32) if found is None else found.astype(np.float32)
        seen, area = (
            self._on_canvas(values, placement) for values in (np.asarray(evidence.attribution_map, np.float32), snapped)
        )
        logarithm = np.log10(np.maximum(seen, 1e-4)) / 2 + 1
        maps = [
            *(_blurred(logarithm, share) for share in (0, *_SURROUNDINGS[1:])),
            np.sqrt(seen),
            2 * np.sqrt(np.maximum(_blurred(seen, _SURROUNDINGS[1]), 0)),
            *(_blurred(area, share) for share in (0, *_SURROUNDINGS[1:])),
            np.full_like(area, np.log10(area.mean() + 1e-4)),
        ]
        return torch.from_numpy(np.stack(maps))

    def _on_canvas(self, values: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
        canvas = np.zeros(placement.network_size, np.float32)
        (top, left), (height, width) = placement.offset, placement.content_size
        canvas[top : top + height, left : left + width] = resample(values, placement.content_size)
        return canvas

    def _places(self, placement: Placement) -> Tensor:
        """Centres of the places as x, y in [-1, 1] over the network's input: float32 [rows, columns, 2]."""
        (top, left), (height, width) = placement.offset, placement.content_size
        rows, columns = -(-height // _STRIDE), -(-width // _STRIDE)
        y = (top + (torch.arange(rows) + 0.5) * height / rows) * 2 / placement.network_size[0] - 1
        x = (left + (torch.arange(columns) + 0.5) * width / columns) * 2 / placement.network_size[1] - 1
        down, across = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([across, down], dim=-1).float()


def _sampled(maps: Tensor, places: Tensor) -> Tensor:
    """Bilinear values of maps [1, C, h, w] at places [rows, columns, 2]: [C, rows, columns]."""
    return functional.grid_sample(maps, places[None], padding_mode="border", align_corners=False)[0]


def _blurred(values: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    if share == 0:
        return values
    return np.asarray(cv2.GaussianBlur(values, (0, 0), share * max(values.shape)), np.float32)


def _contrasts(grey: NDArray[np.float32]) -> Tensor:
    """Brightness, and difference and spread against each of the surroundings: float32 [7, H, W], about 1 in size."""
    grey = grey.astype(np.float32)
    found = [grey / 64 - 2]
    for share in _SURROUNDINGS:
        sigma = share * max(grey.shape)
        mean = cv2.GaussianBlur(grey, (0, 0), sigma)
        variance = cv2.GaussianBlur(grey * grey, (0, 0), sigma) - mean * mean
        found += [(grey - mean) / 16, np.sqrt(np.maximum(variance, 0)) / 16]
    return torch.from_numpy(np.stack(found).astype(np.float32))
