"""Looking at every file of a data set once: whether it can be read, what it holds, and how much of it is defective."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection_models.data.dataset import DatasetError
from inspection_models.data.markings import is_marked, truth_of
from inspection_models.data.reading import Problems
from inspection_models.images import Glance, ImageError, glance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inspection_models.data.dataset import Sample

THUMBNAIL_SIDE = 64


@dataclass(frozen=True)
class Photograph:
    """What a sample's file holds.

    Attributes:
        seen: its size, pixel type and thumbnail.
        defect_share: share of its pixels that its marks cover, in [0, 1]; None where it has no marks.
    """

    seen: Glance
    defect_share: float | None


def look_at_all(
    samples: Sequence[Sample], *, max_pixels: int, progress: Callable[[int, int], None]
) -> tuple[Photograph, ...]:
    """The photographs of samples, in their order.

    Args:
        samples: whose files to read.
        max_pixels: the largest width x height.
        progress: called with (photographs looked at, photographs there are), from this thread.

    Raises:
        DatasetError: files are damaged or too large, or marks lie outside their image; told together.
    """

    def look(sample: Sample) -> Photograph | str:
        try:
            return _photograph(sample, max_pixels)
        except (DatasetError, ImageError) as error:
            return str(error)

    problems = Problems()
    found: list[Photograph] = []
    # Decoding leaves Python's lock; more threads than processors would only hold more pictures at a time.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for done, result in enumerate(pool.map(look, samples), 1):
            if isinstance(result, str):
                problems.add(result)
            else:
                found.append(result)
            progress(done, len(samples))
    problems.check()
    return tuple(found)


def _photograph(sample: Sample, max_pixels: int) -> Photograph:
    try:
        seen = glance(sample.path.read_bytes(), side=THUMBNAIL_SIDE, max_pixels=max_pixels)
    except OSError as error:
        raise DatasetError(f"{sample.path} cannot be read ({error.strerror or error}); repair or remove it") from error
    except ImageError as error:
        raise DatasetError(f"{sample.path}: {error}") from error
    height, width = seen.size
    for box in sample.boxes:
        if box.x + box.width > width or box.y + box.height > height:
            raise DatasetError(
                f"{sample.path} is {width} x {height} pixels, a box in it reaches to {box.x + box.width} x "
                f"{box.y + box.height}; replace the wrong one"
            )
    share = float(truth_of(sample, seen.size).mean()) if is_marked(sample) else None
    return Photograph(seen, share)
