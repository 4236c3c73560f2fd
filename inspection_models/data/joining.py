"""Photographs that were labelled one by one, with or without a whole data set beside them, made one data set.

The same file counts once. What is held for measurement is left out by its hash, and so are its near-duplicates.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.data.dataset import DatasetError, file_sha256, make_dataset
from inspection_models.data.files import images_below
from inspection_models.data.markings import is_marked
from inspection_models.data.photographs import THUMBNAIL_SIDE, look_at_all
from inspection_models.data.twins import joined_groups, twins_of, with_twins
from inspection_models.images import DEFAULT_MAX_PIXELS, ImageError, glance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from inspection_models.data.dataset import Dataset, Sample
    from inspection_models.data.photographs import Photograph

LAYOUT = "reviews"


@dataclass(frozen=True)
class HeldOut:
    """Photographs that must not be learned from.

    Attributes:
        sha256: of the files.
        thumbnails: uint8 [N, S, S], grey, of those whose near-duplicates are held as well.
    """

    sha256: frozenset[str]
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True)
class Joined:
    """What joining came to.

    Attributes:
        dataset: the photographs to learn from.
        same: files of the folder that were labelled one by one, too.
        relabelled: of these, those whose label in the folder was another one.
        held_by_hash: left out, as the very file is held.
        held_as_twins: left out, as they are near-duplicates of what is held.
    """

    dataset: Dataset
    same: int
    relabelled: int
    held_by_hash: tuple[Path, ...]
    held_as_twins: tuple[Path, ...]


def held_out(folders: Iterable[Path], *, max_pixels: int = DEFAULT_MAX_PIXELS) -> HeldOut:
    """All photographs at any depth of folders.

    Raises:
        DatasetError: a folder is not there or holds no photograph, or a file cannot be read.
    """
    hashes: set[str] = set()
    thumbnails: list[NDArray[np.uint8]] = []
    for folder in folders:
        found = images_below(folder) if folder.is_dir() else []
        if not found:
            raise DatasetError(f"{folder} holds no photograph to be held out; name a folder with images")
        for path in found:
            hashes.add(file_sha256(path))
            try:
                thumbnails.append(glance(path.read_bytes(), side=THUMBNAIL_SIDE, max_pixels=max_pixels).thumbnail)
            except ImageError as error:
                raise DatasetError(f"{path}: {error}") from error
    empty = np.zeros((0, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    return HeldOut(frozenset(hashes), np.stack(thumbnails) if thumbnails else empty)


def join(
    labelled: Sequence[Sample],
    folder: Dataset | None,
    held: HeldOut,
    *,
    good_class: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Joined:
    """Make one data set, with all twins in one group.

    Of a file that both have, the label that it was given by itself counts; it takes the folder's marks where it has
    none and the label is the same, and stays in the folder's part. Its group and the folder's become one.

    Args:
        labelled: photographs labelled one by one, each file once.
        folder: a data set as `load_dataset` gives it; None for none.
        held: what must not be learned from.
        good_class: see `load_dataset`.
        max_pixels: the largest width x height of a photograph.
        progress: called with (photographs looked at, photographs there are).

    Raises:
        DatasetError: nothing is left, or it makes no data set; see `make_dataset`.
    """
    seen = _seen(labelled, folder, max_pixels, progress)
    own = {sample.sha256: sample for sample in labelled}
    same = [sample for sample in (folder.samples if folder else ()) if sample.sha256 in own]
    relabelled = {sample.sha256 for sample in same if sample.labels != own[sample.sha256].labels}
    for sample in same:
        own[sample.sha256] = _merged(own[sample.sha256], sample)
    rest = [sample for sample in (folder.samples if folder else ()) if sample.sha256 not in own]
    groups = _groups([*labelled, *(folder.samples if folder else ())])
    part = "train" if rest and all(sample.part is not None for sample in rest) else None
    everything = [replace(one, part=one.part or part) for one in own.values()] + rest
    everything = [replace(one, group=groups[one.group]) for one in everything]
    by_hash = [sample for sample in everything if sample.sha256 in held.sha256]
    left = [sample for sample in everything if sample.sha256 not in held.sha256]
    are_twins = twins_of(held.thumbnails, _thumbnails(left, seen))
    taken = [sample for sample, is_twin in zip(left, are_twins, strict=True) if not is_twin]
    if not taken:
        raise DatasetError("no photograph is left to learn from; all that there are is held for measurement")
    dataset = make_dataset(
        _root(taken),
        taken,
        LAYOUT if folder is None else f"{LAYOUT} and {folder.layout}",
        good_class=good_class,
        ignored=folder.ignored if folder else (),
        notes=folder.notes if folder else (),
    )
    return Joined(
        dataset=with_twins(dataset, [seen[sample.path] for sample in dataset.samples]),
        same=len(same),
        relabelled=len(relabelled),
        held_by_hash=tuple(sample.path for sample in by_hash),
        held_as_twins=tuple(sample.path for sample, is_twin in zip(left, are_twins, strict=True) if is_twin),
    )


def _seen(
    labelled: Sequence[Sample], folder: Dataset | None, max_pixels: int, progress: Callable[[int, int], None]
) -> dict[Path, Photograph]:
    looked_at = look_at_all(labelled, max_pixels=max_pixels, progress=progress)
    seen = {sample.path: one for sample, one in zip(labelled, looked_at, strict=True)}
    if folder is not None:
        seen |= {sample.path: one for sample, one in zip(folder.samples, folder.photographs, strict=True)}
    return seen


def _merged(own: Sample, in_folder: Sample) -> Sample:
    """What was labelled by itself, in the folder's place where its marks are the folder's."""
    if own.labels == in_folder.labels and not is_marked(own):
        return in_folder
    return replace(own, part=in_folder.part)


def _groups(samples: Sequence[Sample]) -> dict[str, str]:
    """What each group is called once those that have a file in common are one."""
    by_file: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        by_file[sample.sha256].append(index)
    return joined_groups(samples, by_file.values())


def _thumbnails(samples: Sequence[Sample], seen: dict[Path, Photograph]) -> NDArray[np.uint8]:
    if not samples:
        return np.zeros((0, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    return np.stack([seen[sample.path].seen.thumbnail for sample in samples])


def _root(samples: Sequence[Sample]) -> Path:
    return Path(os.path.commonpath([sample.path.parent for sample in samples]))
