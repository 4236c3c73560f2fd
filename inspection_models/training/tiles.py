"""Tiles to train on, cut from images whose defects are marked, and from good ones.

A tile shows a defect where it holds at least half of a marked area, or as much of it as a network is sure to see. One
that holds less of it is neither good nor defective and is left out. Defects are cut out several times, each time
elsewhere in the tile, since they may lie anywhere in it in service. Half of the good tiles lie anywhere; the other half
where the picture is least even, for that is where false alarms come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from inspection_models.data.dataset import RunLengths, Sample, file_sha256
from inspection_models.data.markings import is_marked, mask_runs, truth_of
from inspection_models.images import read_image
from inspection_models.metrics.cases import truth_on_grid
from inspection_models.tiling import Tile
from inspection_models.training.request import TrainingError
from inspection_models.training.tile_choice import SEEN, marked_areas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection_models.preprocessing import Preprocessing
    from inspection_models.tiling import Tiling
    from inspection_models.training.tile_choice import MarkedAreas

DEFECT_TILES = 600
"""Tiles with defects that a training part is cut into, about; at least two of each defect."""
GOOD_TILES = 1200
"""Good tiles of a training part, about; at least two of each image."""

_MOST_VIEWS = 16
_MOST_DEFECTS = 8
_TRIES = 20
_HALF = 0.5
# An area smaller than this share of the image's largest is a speck: not a defect by itself, but not good either.
_SPECK = 0.1


class TileCutter:
    """Cuts tiles of the samples of one part and writes them as images of the network's size.

    Args:
        tiling: their size.
        preprocessing: of the network.
        good: the class of tiles without a defect.
        directory: where they are written; `images` in it is made.
    """

    def __init__(self, tiling: Tiling, preprocessing: Preprocessing, good: str, directory: Path) -> None:
        self._tiling, self._preprocessing, self._good = tiling, preprocessing, good
        self._directory = directory / "images"
        self._directory.mkdir(parents=True)
        down, right = preprocessing.placement(tiling.size).scale
        self._enough = SEEN**2 / (down * right)

    def cut(
        self,
        samples: Sequence[Sample],
        seed: int,
        share: float = 1.0,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> tuple[Sample, ...]:
        """The tiles of samples, each a sample with its marks, in the order of the samples.

        Args:
            samples: defective ones without marks give no tiles.
            seed: of where tiles lie; the same gives the same files.
            share: of `DEFECT_TILES` and `GOOD_TILES` to cut.
            progress: told how many samples are done of how many.

        Raises:
            TrainingError: no tile shows a defect, or none is good.
            ImageError: an image is damaged.
            DatasetError: a mask is missing or does not fit.
        """
        usable = [sample for sample in samples if sample.labels == (self._good,) or is_marked(sample)]
        marked = sum(sample.labels != (self._good,) for sample in usable)
        views = int(np.clip(round(share * DEFECT_TILES / max(1, marked)), 2, _MOST_VIEWS))
        good = max(2, round(share * GOOD_TILES / max(1, len(usable))))
        tiles: list[Sample] = []
        for number, sample in enumerate(usable):
            tiles += self._cut_one(sample, views, good, np.random.default_rng([seed, number]), len(tiles))
            progress(number + 1, len(usable))
        labels = {label for tile in tiles for label in tile.labels}
        if self._good not in labels or len(labels) < 2:
            raise TrainingError(
                f"the tiles of {len(samples)} images show only {', '.join(sorted(labels)) or 'nothing'}; good tiles "
                "and tiles with marked defects are needed; mark more defects or train with --tiling off"
            )
        return tuple(tiles)

    def _cut_one(self, sample: Sample, views: int, good: int, rng: np.random.Generator, first: int) -> list[Sample]:
        pixels = read_image(sample.path).pixels
        size = (pixels.shape[0], pixels.shape[1])
        areas = {
            label: marked_areas(truth_of(sample, size, label), self._preprocessing)
            for label in sample.labels
            if label != self._good
        }
        places = dict.fromkeys(self._around_defects(areas, size, views, rng))
        places |= dict.fromkeys(self._anywhere(pixels, areas, good, rng))
        if self._tiling.overview:
            places[Tile(0, 0, *size)] = None
        found: list[Sample] = []
        for tile in places:
            labels = self._labels(areas, tile)
            if labels is not None:
                found.append(self._written(sample, pixels, areas, tile, labels, first + len(found)))
        return found

    def _labels(self, areas: Mapping[str, MarkedAreas], tile: Tile) -> tuple[str, ...] | None:
        """What a tile shows; None where it cannot be said."""
        shown: list[str] = []
        for label, one in areas.items():
            visible = np.bincount(tile.cut(one.numbers).ravel(), minlength=len(one.boxes) + 1)[1:]
            if not visible.any():
                continue
            whole = (visible >= _HALF * one.pixels) & (one.pixels >= _SPECK * one.pixels.max())
            if tile.height > self._tiling.size[0] or tile.width > self._tiling.size[1]:
                enough = visible.sum() >= self._enough_of(tile)
            else:
                enough = bool(whole.any()) or visible.sum() >= self._enough
            if not enough:
                return None
            shown.append(label)
        return tuple(shown) or (self._good,)

    def _enough_of(self, tile: Tile) -> float:
        """Image pixels of a defect that come to `SEEN` network pixels in the overview."""
        down, right = self._preprocessing.placement((tile.height, tile.width)).scale
        return SEEN**2 / (down * right)

    def _around_defects(
        self, areas: Mapping[str, MarkedAreas], size: tuple[int, int], views: int, rng: np.random.Generator
    ) -> Iterator[Tile]:
        for one in areas.values():
            largest = np.argsort(-one.pixels, kind="stable")[:_MOST_DEFECTS]
            for x, y, width, height in one.boxes[largest]:
                for _ in range(views):
                    top = _start(rng, int(y), int(height), self._tiling.size[0], size[0])
                    left = _start(rng, int(x), int(width), self._tiling.size[1], size[1])
                    yield self._tile(top, left, size)

    def _anywhere(
        self, pixels: NDArray[np.uint8], areas: Mapping[str, MarkedAreas], count: int, rng: np.random.Generator
    ) -> Iterator[Tile]:
        """Good tiles: half at random, half around the least even places."""
        size = (pixels.shape[0], pixels.shape[1])
        height, width = self._tiling.size
        uneven = list(self._uneven(pixels, areas, count - count // 2))
        for y, x in uneven:
            top, left = _start(rng, y, 1, height, size[0]), _start(rng, x, 1, width, size[1])
            tile = self._tile(top, left, size)
            if self._labels(areas, tile) == (self._good,):
                yield tile
        found = 0
        for _ in range(_TRIES * count):
            if found == count - len(uneven):
                break
            top = int(rng.integers(0, max(0, size[0] - height) + 1))
            left = int(rng.integers(0, max(0, size[1] - width) + 1))
            tile = self._tile(top, left, size)
            if self._labels(areas, tile) == (self._good,):
                found += 1
                yield tile

    def _uneven(
        self, pixels: NDArray[np.uint8], areas: Mapping[str, MarkedAreas], count: int
    ) -> Iterator[tuple[int, int]]:
        """(row, column) of the places that stand out most from their surroundings at the network's scale."""
        scale = self._preprocessing.placement(self._tiling.size).scale
        size = (max(1, round(pixels.shape[0] * scale[0])), max(1, round(pixels.shape[1] * scale[1])))
        grey = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32).mean(axis=2)
        contrast = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), SEEN / 2))
        for one in areas.values():
            marked = cv2.resize((one.numbers > 0).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
            contrast[marked > 0] = 0
        reach = max(4, min(self._preprocessing.size) // 4)
        for _ in range(count):
            row, column = (int(place) for place in np.unravel_index(int(contrast.argmax()), size))
            if contrast[row, column] <= 0:
                return
            yield int((row + 0.5) / scale[0]), int((column + 0.5) / scale[1])
            contrast[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach] = 0

    def _tile(self, top: int, left: int, size: tuple[int, int]) -> Tile:
        return Tile(top, left, min(self._tiling.size[0], size[0]), min(self._tiling.size[1], size[1]))

    def _written(
        self,
        sample: Sample,
        pixels: NDArray[np.uint8],
        areas: Mapping[str, MarkedAreas],
        tile: Tile,
        labels: tuple[str, ...],
        number: int,
    ) -> Sample:
        canvas, _ = self._preprocessing.fit(tile.cut(pixels))
        path = self._directory / f"{number:06d}.png"
        Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8)).save(path, compress_level=1)
        runs = tuple(
            RunLengths(
                label,
                self._preprocessing.size,
                mask_runs(truth_on_grid(tile.cut(one.numbers) > 0, self._preprocessing)),
            )
            for label, one in areas.items()
            if label in labels
        )
        ordered = sorted(labels)
        return Sample(
            path=path,
            label=ordered[0],
            group=sample.group,
            sha256=file_sha256(path),
            also=tuple(ordered[1:]),
            runs=runs,
        )


def tile_counts(tiles: Sequence[Sample], classes: Sequence[str]) -> Mapping[str, int]:
    """Number of tiles that show each class."""
    return {label: sum(label in tile.labels for tile in tiles) for label in classes}


def _start(rng: np.random.Generator, start: int, extent: int, side: int, length: int) -> int:
    """Where a tile may begin that shows an interval of an axis: whole if it fits, else a part of it, anywhere in it."""
    if extent > side:
        start, extent = int(rng.integers(start, start + extent - side // 2 + 1)), side // 2
    lowest, highest = max(0, start + extent - side), min(start, max(0, length - side))
    return int(rng.integers(lowest, max(lowest, highest) + 1))
