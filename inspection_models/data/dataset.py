"""What every layout is read into: labelled samples, each in the group that a split may not tear apart."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Compared with a class's name in lower case, letters only.
_GOOD_NAMES = frozenset(
    {"good", "ok", "okay", "okfront", "free", "mtfree", "normal", "defectfree", "nodefect", "nodefects", "nondefective"}
    | {"fine", "pass", "passed", "sound"}
)


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
class Sample:
    """One labelled image file.

    Attributes:
        path: of the image.
        label: its class.
        group: key of the part or photograph series that it belongs to.
        sha256: hex digest of the file.
        boxes: where the defects are, if the layout says so with boxes.
        mask_path: image whose non-zero pixels are defective, if the layout has one.
    """

    path: Path
    label: str
    group: str
    sha256: str
    boxes: tuple[Box, ...] = ()
    mask_path: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """A whole data set.

    Attributes:
        root: the directory it was read from.
        samples: sorted by path.
        classes: sorted; the order of a network's outputs.
        good_class: the class without a defect; None where every class is a defect.
        layout: name of the layout it was read as.
        sha256: hex digest over every sample's relative path, file hash and label.
        ignored: files that are no part of the layout, relative to the root.
    """

    root: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    good_class: str | None
    layout: str
    sha256: str
    ignored: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples of each class."""
        return class_counts(self.samples, self.classes)


def class_counts(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, int]:
    """Number of samples of each class, in the classes' order, with zeros."""
    counted = Counter(sample.label for sample in samples)
    return {label: counted[label] for label in classes}


def make_dataset(
    root: Path, samples: Sequence[Sample], layout: str, *, good_class: str | None = None, ignored: Sequence[str] = ()
) -> Dataset:
    """Put samples together, checking that they make a data set.

    Args:
        root: where the layout begins; samples lie below it.
        samples: in any order.
        layout: the layout's name.
        good_class: overrides the recognition of the good class by its name; an empty string says there is none.
        ignored: files left out, relative to the root.

    Raises:
        DatasetError: fewer than two classes, an unknown good class, or the same picture under two labels.
    """
    ordered = tuple(sorted(samples, key=lambda sample: sample.path.relative_to(root).as_posix()))
    classes = tuple(sorted({sample.label for sample in ordered}))
    if len(classes) < 2:
        raise DatasetError(f"{root} has images of {len(classes)} class(es); training needs two or more")
    _check_contradictions(ordered)
    return Dataset(
        root=root,
        samples=ordered,
        classes=classes,
        good_class=_good_class(classes, good_class),
        layout=layout,
        sha256=_data_hash(root, ordered),
        ignored=tuple(sorted(ignored)),
    )


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


def _good_class(classes: Sequence[str], stated: str | None) -> str | None:
    if stated == "":
        return None
    if stated is not None:
        if stated not in classes:
            raise DatasetError(f"the good class {stated!r} is not among the classes {', '.join(classes)}")
        return stated
    found = [label for label in classes if re.sub(r"[^a-z]", "", label.lower()) in _GOOD_NAMES]
    if len(found) > 1:
        raise DatasetError(f"the classes {', '.join(found)} could each be the good one; say which is")
    return found[0] if found else None


def _check_contradictions(samples: Sequence[Sample]) -> None:
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.sha256, sample)
        if other.label != sample.label:
            raise DatasetError(
                f"{other.path} and {sample.path} are the same file but labelled {other.label!r} and {sample.label!r}; "
                "remove the wrong one"
            )


def _data_hash(root: Path, samples: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        line = f"{sample.path.relative_to(root).as_posix()}\0{sample.sha256}\0{sample.label}\n"
        digest.update(line.encode())
    return digest.hexdigest()
