"""What every layout is read into: labelled samples, each in the group that a split may not tear apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inspection_models.data.photographs import Photograph

# Compared with a class's name in lower case, letters only.
_GOOD_NAMES = frozenset(
    {"good", "ok", "okay", "okfront", "free", "mtfree", "normal", "defectfree", "nodefect", "nodefects", "nondefective"}
    | {"functional", "fine", "pass", "passed", "sound"}
)


GOOD = "good"
"""The class of images without a defect, where a layout gives them no name."""

PARTS = ("train", "validation", "test")


class DatasetError(ValueError):
    """A data set cannot be used as it lies there; the message names the files and what to do."""


@dataclass(frozen=True)
class Box:
    """A labelled box in image pixels: left and top edge, width and height."""

    label: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Polygon:
    """A labelled area by its corners (x, y) in continuous image pixels: pixel (x, y) covers [x, x + 1] x [y, y + 1]."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class RunLengths:
    """A labelled area by its runs in column order, top to bottom and then left to right, as COCO counts them.

    Attributes:
        label: its class.
        size: height and width of the image.
        counts: number of pixels outside, inside, outside, ... the area; together height x width.
    """

    label: str
    size: tuple[int, int]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """One labelled image file.

    The marks say where the defects are, in pixels of the image as a viewer shows it (turned by its EXIF orientation);
    a layout gives one kind of them, several or none. A mark may carry another class than the image does.

    Attributes:
        path: of the image.
        label: its class; of several the first in alphabetical order.
        group: key of the part or photograph series that it belongs to.
        sha256: hex digest of the file.
        boxes: defects as boxes.
        mask_path: image whose non-zero pixels are defective, whichever of the sample's classes they show.
        also: further classes of an image with several, in alphabetical order.
        part: of the layout's own split, one of `PARTS`; None where it has none.
        polygons: defects as polygons; those of one class may overlap.
        runs: defects as run lengths.
        mask_sha256: hex digest of the mask's file.
    """

    path: Path
    label: str
    group: str
    sha256: str
    boxes: tuple[Box, ...] = ()
    mask_path: Path | None = None
    also: tuple[str, ...] = ()
    part: str | None = None
    polygons: tuple[Polygon, ...] = ()
    runs: tuple[RunLengths, ...] = ()
    mask_sha256: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All its classes."""
        return (self.label, *self.also)


@dataclass(frozen=True)
class Dataset:
    """A whole data set.

    Attributes:
        root: the directory it was read from.
        samples: sorted by path.
        classes: sorted; the order of a network's outputs.
        good_class: the class without a defect; None where every class is a defect.
        layout: name of the layout it was read as.
        sha256: hex digest over all that a split, a training and its figures follow from: every sample's relative path,
            file hash, labels, part, group and marks.
        ignored: files that are no part of the layout, relative to the root.
        notes: what a reader of the data set must know about it, each a sentence.
        photographs: what each sample's file holds, in their order; empty where the files were not looked at.
        twins: families of near-duplicates, whose groups were made one.
    """

    root: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    good_class: str | None
    layout: str
    sha256: str
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    photographs: tuple[Photograph, ...] = field(default=(), compare=False, repr=False)
    twins: tuple[tuple[Path, ...], ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples that show each class."""
        return class_counts(self.samples, self.classes)

    @property
    def multi_label(self) -> bool:
        """Whether an image may show several classes: some image does."""
        return any(sample.also for sample in self.samples)


def class_counts(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, int]:
    """Number of samples that show each class, in the classes' order, with zeros; one with several counts for each."""
    counted = Counter(label for sample in samples for label in sample.labels)
    return {label: counted[label] for label in classes}


def make_dataset(
    root: Path,
    samples: Sequence[Sample],
    layout: str,
    *,
    good_class: str | None = None,
    ignored: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Dataset:
    """Put samples together, checking that they make a data set.

    Args:
        root: where the layout begins; samples lie below it.
        samples: in any order.
        layout: the layout's name.
        good_class: overrides the recognition of the good class by its name; an empty string says there is none.
        ignored: files left out, relative to the root.
        notes: what a reader of the data set must know.

    Raises:
        DatasetError: fewer than two classes or one without a name, an unknown good class, an image of the good class
            and a defect at once, or the same file under two labels.
    """
    ordered = tuple(sorted(samples, key=lambda sample: sample.path.relative_to(root).as_posix()))
    classes = tuple(sorted({label for sample in ordered for label in sample.labels}))
    if unnamed := [sample for sample in ordered if not all(label.strip() for label in sample.labels)]:
        raise DatasetError(f"{unnamed[0].path} has a class without a name; give it one")
    if len(classes) < 2:
        raise DatasetError(f"{root} has images of {len(classes)} class(es); training needs two or more")
    _check_contradictions(ordered)
    good = _good_class(classes, good_class)
    _check_good(ordered, good)
    return Dataset(
        root=root,
        samples=ordered,
        classes=classes,
        good_class=good,
        layout=layout,
        sha256=data_sha256(root, ordered),
        ignored=tuple(sorted(ignored)),
        notes=tuple(notes),
    )


def check_good(dataset: Dataset, good_class: str | None) -> None:
    """Check that no image shows a model's good class and a defect at once.

    For data sets that were read without a good class, because a model says which one it is.

    Args:
        dataset: whose images to check.
        good_class: the model's; None, where every class is a defect, finds nothing.

    Raises:
        DatasetError: an image does, which is named.
    """
    _check_good(dataset.samples, good_class)


def file_sha256(path: Path) -> str:
    """Hex digest of a file.

    Raises:
        DatasetError: it is empty or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror or error}); repair or remove it") from error
    if not content:
        raise DatasetError(f"{path} is empty; copy it again or remove it")
    return hashlib.sha256(content).hexdigest()


def is_good_name(label: str) -> bool:
    """Whether a class is good by its name: "OK", "defect-free", "normal" and the like."""
    return re.sub(r"[^a-z]", "", label.lower()) in _GOOD_NAMES


def _good_class(classes: Sequence[str], stated: str | None) -> str | None:
    if stated == "":
        return None
    if stated is not None:
        if stated not in classes:
            raise DatasetError(f"the good class {stated!r} is not among the classes {', '.join(classes)}")
        return stated
    found = [label for label in classes if is_good_name(label)]
    if len(found) > 1:
        raise DatasetError(f"the classes {', '.join(found)} could each be the good one; say which is")
    return found[0] if found else None


def _check_contradictions(samples: Sequence[Sample]) -> None:
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.sha256, sample)
        if other.labels != sample.labels:
            one, two = (" and ".join(map(repr, labels)) for labels in (other.labels, sample.labels))
            raise DatasetError(
                f"{other.path} and {sample.path} are the same file but labelled {one} and {two}; remove the wrong one"
            )


def _check_good(samples: Sequence[Sample], good: str | None) -> None:
    for sample in samples:
        if sample.also and good in sample.labels:
            others = ", ".join(repr(label) for label in sample.labels if label != good)
            raise DatasetError(f"{sample.path} is labelled {good!r} and {others} at once; remove the wrong label")


def data_sha256(root: Path, samples: Sequence[Sample]) -> str:
    """Hex digest of samples, sorted by path: over a line of JSON for each."""
    digest = hashlib.sha256()
    for sample in samples:
        boxes = [(box.label, box.x, box.y, box.width, box.height) for box in sample.boxes]
        polygons = [(polygon.label, polygon.points) for polygon in sample.polygons]
        runs = [(area.label, area.size, area.counts) for area in sample.runs]
        about = (sample.path.relative_to(root).as_posix(), sample.sha256, sample.labels, sample.part, sample.group)
        line = json.dumps([*about, sample.mask_sha256, boxes, polygons, runs])
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
