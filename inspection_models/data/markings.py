"""Where the defects of a sample are, as pixels: masks, boxes, polygons and run lengths made one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, ImageOps

from inspection_models.data.dataset import Box, DatasetError, Polygon, RunLengths
from inspection_models.outlines import polygon_mask

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection_models.data.dataset import Sample

_Mark = TypeVar("_Mark", Box, Polygon, RunLengths)


def is_marked(sample: Sample, label: str | None = None) -> bool:
    """Whether a sample says where its defects are, or where those of the class `label` are.

    A mask counts for every class of its sample; it may turn out to be empty.
    """
    if sample.mask_path is not None and (label is None or label in sample.labels):
        return True
    marks: list[Box | Polygon | RunLengths] = [*sample.boxes, *sample.polygons, *sample.runs]
    return any(label in (None, mark.label) for mark in marks)


def truth_of(sample: Sample, size: tuple[int, int], label: str | None = None) -> NDArray[np.bool_]:
    """Where the defects are, bool [h, w] for an image of `size` (h, w) as a viewer shows it.

    A pixel of a mask marks a defect where it is not zero or, in a mask from black to white with soft edges, where it
    is nearer to white. A mask is turned as its own EXIF orientation says, whatever the image's is. Where there are
    polygons or run lengths, the boxes of the same class say no more than they do and are left out.

    Args:
        sample: whose marks to draw.
        size: height and width of its image.
        label: only marks of this class; None takes all defects. A mask does not tell classes apart: it is that of every
            class of the sample.

    Raises:
        DatasetError: the mask is missing or cannot be read, or a mark is of an image of another size.
    """
    if sample.mask_path is not None and (label is None or label in sample.labels):
        return read_mask(sample.mask_path, size)
    truth = np.zeros(size, np.bool_)
    exact = set()
    for polygon in _of(sample.polygons, label):
        exact.add(polygon.label)
        _draw(polygon, truth)
    for area in _of(sample.runs, label):
        exact.add(area.label)
        if area.size != size:
            raise DatasetError(
                f"{sample.path} is {size[1]} x {size[0]} pixels, a mark in it was drawn on {area.size[1]} x "
                f"{area.size[0]}; replace the wrong one"
            )
        truth |= runs_mask(area.counts, size)
    for box in _of(sample.boxes, label):
        if box.label not in exact:
            truth[box.y : box.y + box.height, box.x : box.x + box.width] = True
    return truth


def runs_mask(counts: Iterable[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The area [h, w] of run lengths in column order, outside first.

    Raises:
        ValueError: a count is negative, or they do not add up to the size.
    """
    lengths = np.fromiter(counts, np.int64)
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise ValueError(f"run lengths of {lengths.sum()} pixels for an image of {size[1]} x {size[0]}")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, lengths).reshape(size[1], size[0]).T)


def mask_runs(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """The run lengths of an area [h, w] in column order, outside first."""
    flat = mask.T.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    counts: list[int] = np.diff(ends, prepend=0).tolist()
    return (0, *counts) if flat[0] else tuple(counts)


def read_mask(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """The defective pixels of a mask, bool [h, w]; see `truth_of`.

    Raises:
        DatasetError: it is missing, cannot be read, or has another size than the image's `size` (h, w).
    """
    try:
        # From memory, for Pillow scrambles a turned TIFF that it maps from its file.
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            values, mode = np.asarray(ImageOps.exif_transpose(image)), image.mode
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: the mask is missing; put it back, or leave its image out") from error
    except MemoryError:
        raise  # says nothing of the file
    except Exception as error:  # a damaged file makes a decoder raise anything at all
        raise DatasetError(f"{path}: the mask cannot be read ({error}); export it again") from error
    if size is not None and values.shape[:2] != size:
        raise DatasetError(
            f"{path}: the mask is {values.shape[1]} x {values.shape[0]} pixels and its image, as a viewer shows it, "
            f"{size[1]} x {size[0]}; replace the wrong one"
        )
    channels = values.reshape(*values.shape[:2], -1)
    brightest = (channels[..., :-1] if mode in ("LA", "RGBA") else channels).max(axis=2)
    return np.asarray(brightest > _faintest(brightest, mode))


def _draw(polygon: Polygon, truth: NDArray[np.bool_]) -> None:
    """Add the pixels within a polygon, looking at no more of a large image than it covers."""
    points = np.asarray(polygon.points, np.float64)
    left, top = np.clip(np.floor(points.min(axis=0)), 0, truth.shape[::-1]).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, truth.shape[::-1]).astype(int)
    truth[top:bottom, left:right] |= polygon_mask(points - (left, top), (bottom - top, right - left))


def _of(marks: Iterable[_Mark], label: str | None) -> Iterable[_Mark]:
    return (mark for mark in marks if label is None or mark.label == label)


def _faintest(values: NDArray[np.generic], mode: str) -> float:
    """The largest value of a mask that does not mark a defect: half of the full scale where its values use that scale.

    Such a mask has soft edges or the ringing of a compression about it. Others hold numbers of classes: 0 is no defect.
    """
    if mode in ("1", "P"):
        return 0
    half = (255 if values.dtype.itemsize == 1 else 65535) / 2
    return half if float(values.max()) > half else 0
