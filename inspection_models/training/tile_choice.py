"""Whether a model should look at tiles, and at which: from how large the defects are against their images.

The rule. An image is found by its largest marked defect, whose size is the root of its area. Where a quarter of the
defective images or more have defects below `SEEN` network pixels once the image is resized whole, tiles are taken: so
large that all but the smallest tenth of the defects come to `SEEN` network pixels in them, though never finer than the
photograph itself. They are not worth their time where that would show the defects less than twice as large.

`SEEN` is a choice so far; `python -m benchmarks defect-size` makes the figures to check it by.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from inspection_models.data.markings import is_marked, truth_of
from inspection_models.images import ImageError
from inspection_models.tiling import MAX_TILES, Tiling
from inspection_models.training.request import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from inspection_models.data import Sample
    from inspection_models.preprocessing import Preprocessing

SEEN = 12.0
"""Side in network pixels from which a defect is taken to be seen."""

_LOST_SHARE = 0.25
_MISSED_SHARE = 0.10
_LEAST_GAIN = 2.0
# A tenth of what is refused: a large image should take seconds.
_USUAL_TILES = MAX_TILES // 10
_LARGE_SHARE = 0.05
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class MarkedAreas:
    """The N marked areas of an image: `numbers` by pixel, int32 [H, W] from 1, 0 where nothing is marked; `boxes`,
    int64 [N, 4] as x, y, width, height; and how many `pixels` of each are marked, int64 [N]."""

    numbers: NDArray[np.int32]
    boxes: NDArray[np.int64]
    pixels: NDArray[np.int64]


@dataclass(frozen=True)
class DefectSizes:
    """The largest marked defect of each of N images, in image pixels.

    Attributes:
        sides: float64 [N], roots of their areas.
        extents: float64 [N], longer sides of their bounding boxes.
        image_sizes: int64 [N, 2], (height, width) of the images.
        unmarked: defective images without marks.
        unmarked_classes: classes of which no image is marked.
    """

    sides: NDArray[np.float64]
    extents: NDArray[np.float64]
    image_sizes: NDArray[np.int64]
    unmarked: int
    unmarked_classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TilingChoice:
    """What was chosen and what it came from.

    Attributes:
        tiling: None where images are looked at whole.
        reason: why, in a sentence.
        figures: the numbers behind it, as JSON.
    """

    tiling: Tiling | None
    reason: str
    figures: dict[str, Any]

    def with_growth(self, growth: float, tiles: Mapping[str, int]) -> TilingChoice:
        """The same with what a training found: `Tiling.growth`, and how many tiles of each class it learned from."""
        if self.tiling is None:
            return self
        figures = {**self.figures, "tiles_learned_from": dict(tiles)}
        return replace(self, tiling=replace(self.tiling, growth=growth), figures=figures)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for a model's card."""
        return {
            "tiling": None if self.tiling is None else asdict(self.tiling),
            "reason": self.reason,
            "figures": self.figures,
        }


NO_TILING = TilingChoice(None, "images are looked at whole, as asked", {})


def defect_sizes(
    samples: Sequence[Sample],
    good: str | None,
    preprocessing: Preprocessing,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> DefectSizes:
    """Measure the marked defects of samples; `good` is the class without any. See `marked_areas` for what is one.

    Raises:
        DatasetError: a mask is missing or does not fit its image.
        ImageError: an image is damaged.
    """
    sides, extents, image_sizes = [], [], []
    seen: set[str] = set()
    defective = [sample for sample in samples if sample.labels != (good,)]
    marked = [sample for sample in defective if is_marked(sample)]
    unmarked = len(defective) - len(marked)
    for number, sample in enumerate(marked, start=1):
        size = image_size(sample)
        largest = _largest(marked_areas(truth_of(sample, size), preprocessing))
        if largest is None:
            unmarked += 1
        else:
            sides.append(largest[0])
            extents.append(largest[1])
            image_sizes.append(size)
            seen |= set(sample.labels)
        progress(number, len(marked))
    return DefectSizes(
        np.array(sides, np.float64),
        np.array(extents, np.float64),
        np.array(image_sizes, np.int64).reshape(-1, 2),
        unmarked,
        tuple(sorted({label for sample in defective for label in sample.labels} - seen - {str(good)})),
    )


def marked_areas(truth: NDArray[np.bool_], preprocessing: Preprocessing) -> MarkedAreas:
    """The areas of a truth [H, W]: marks less than a network pixel apart, when the image is resized whole, are one.

    A cluster of pits is a defect, where its pits alone would each be a speck.
    """
    gap = max(1, round(1 / _scale(preprocessing, (truth.shape[0], truth.shape[1]))))
    grown = cv2.dilate(truth.astype(np.uint8), np.ones((gap, gap), np.uint8))
    count, found = cv2.connectedComponents(grown, connectivity=8)
    numbers = np.where(truth, found, 0).astype(np.int32)
    rows, columns = np.nonzero(numbers)
    which = numbers[rows, columns] - 1
    low = np.full((count - 1, 2), np.iinfo(np.int64).max)
    high = np.zeros((count - 1, 2), np.int64)
    for axis, places in enumerate((columns, rows)):
        np.minimum.at(low[:, axis], which, places)
        np.maximum.at(high[:, axis], which, places + 1)
    return MarkedAreas(numbers, np.hstack([low, high - low]), np.bincount(which, minlength=count - 1))


def choose_tiling(sizes: DefectSizes, preprocessing: Preprocessing, asked: str | int = "auto") -> TilingChoice:
    """The tiling for images whose defects are so large.

    Args:
        sizes: of the training part.
        preprocessing: of the network.
        asked: "auto" for the rule above, "off" for none, or a tile's longer side in image pixels.

    Raises:
        TrainingError: tiles are asked for, and of some class no defect is marked, so that no tile could be of it.
    """
    if asked == "off":
        return NO_TILING
    if missing := _missing(sizes):
        if asked != "auto":
            raise TrainingError(
                f"tiles are asked for, but {missing}, so they cannot be told good or defective; mark defects with "
                "masks, boxes or outlines, or train with --tiling off"
            )
        return TilingChoice(None, f"images are looked at whole: {missing}", {})
    scales = np.array([_scale(preprocessing, (int(h), int(w))) for h, w in sizes.image_sizes])
    seen_whole = sizes.sides * scales
    lost = float((seen_whole < SEEN).mean())
    figures: dict[str, Any] = {
        "marked_images": len(sizes.sides),
        "unmarked_images": sizes.unmarked,
        "defect_pixels": _quantiles(sizes.sides),
        "defect_extent": _quantiles(sizes.extents),
        "network_pixels_whole": _quantiles(seen_whole),
        "image_longer_side": _quantiles(sizes.image_sizes.max(axis=1)),
        "seen": SEEN,
        "share_below_seen_whole": round(lost, 4),
    }
    if asked == "auto" and lost < _LOST_SHARE:
        told = f"images are looked at whole: {lost:.0%} of the defects come to less than {SEEN:g} network pixels"
        return TilingChoice(None, told, figures)
    tiling = _tiling(sizes, preprocessing, asked)
    in_tiles = sizes.sides * _scale(preprocessing, tiling.size)
    gain = float(np.median(in_tiles / seen_whole))
    figures |= {"network_pixels_in_tiles": _quantiles(in_tiles), "gain": round(gain, 2)}
    if asked == "auto" and gain < _LEAST_GAIN:
        told = f"images are looked at whole: tiles would show defects only {gain:.1f} times larger; a larger --size may"
        return TilingChoice(None, f"{told} help more", figures)
    median = tuple(int(side) for side in np.median(sizes.image_sizes, axis=0))
    figures["tiles_of_a_median_image"] = len(tiling.views((median[0], median[1])))
    told = (
        f"images are looked at in tiles of {tiling.size[1]} x {tiling.size[0]} pixels that share {tiling.overlap}: "
        f"resized whole, {lost:.0%} of the defects come to less than {SEEN:g} network pixels"
    )
    return TilingChoice(tiling, told, figures)


def image_size(sample: Sample) -> tuple[int, int]:
    """(height, width) of a sample's image as a viewer shows it, from its header.

    Raises:
        ImageError: it is damaged.
    """
    try:
        with Image.open(sample.path) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) in range(5, 9)
    except Exception as error:  # a damaged file makes a decoder raise anything at all
        raise ImageError(f"{sample.path}: the image is damaged ({error}); export it again") from error
    return (width, height) if turned else (height, width)


def _missing(sizes: DefectSizes) -> str:
    if not len(sizes.sides):
        return "no defect is marked"
    if sizes.unmarked_classes:
        return f"no defect of the class {sizes.unmarked_classes[0]!r} is marked"
    return ""


def _tiling(sizes: DefectSizes, preprocessing: Preprocessing, asked: str | int) -> Tiling:
    rows, columns = preprocessing.size
    if isinstance(asked, int):
        longer = float(asked)
    else:
        smallest = float(np.quantile(sizes.sides, _MISSED_SHARE))
        # Never finer than the photograph: enlarging shows nothing new.
        longer = max(rows, columns) * max(1.0, smallest / SEEN)
        largest = tuple(int(side) for side in sizes.image_sizes[sizes.image_sizes.prod(axis=1).argmax()])
        while len(_made(longer, sizes, preprocessing).views((largest[0], largest[1]))) > _USUAL_TILES:
            longer *= 1.1
    return _made(longer, sizes, preprocessing)


def _made(longer: float, sizes: DefectSizes, preprocessing: Preprocessing) -> Tiling:
    """Tiles of the network's proportions, whose overlap leaves a defect as much room around it as it takes itself."""
    rows, columns = preprocessing.size
    size = (round(longer * rows / max(rows, columns)), round(longer * columns / max(rows, columns)))
    shorter = min(size)
    wanted = 2 * float(np.quantile(sizes.extents, 1 - _MISSED_SHARE))
    overlap = int(np.clip(np.ceil(wanted), -(-shorter // 8), shorter // 2))
    overview = bool((sizes.extents > max(size)).mean() >= _LARGE_SHARE)
    return Tiling(size, overlap, overview)


def _scale(preprocessing: Preprocessing, size: tuple[int, int]) -> float:
    """Network pixels an image pixel, the geometric mean of both axes."""
    down, right = preprocessing.placement(size).scale
    return float(np.sqrt(down * right))


def _largest(areas: MarkedAreas) -> tuple[float, float] | None:
    """Side and extent of the largest marked area; None where there is none."""
    if not len(areas.pixels):
        return None
    largest = int(areas.pixels.argmax())
    return float(np.sqrt(areas.pixels[largest])), float(areas.boxes[largest, 2:].max())


def _quantiles(values: NDArray[np.generic]) -> dict[str, float]:
    levels = (0.1, 0.25, 0.5, 0.9)
    found = np.quantile(values.astype(np.float64), levels)
    return {f"q{round(100 * level)}": round(float(value), 2) for level, value in zip(levels, found, strict=True)}
