"""Layout `casting` (casting products, Kaggle): `{train,test}/{def_front,ok_front}/*.jpeg`, or the two folders alone.

It is an image folder. The smaller of its two copies was augmented before it was given out: turned, mirrored and
brightened copies of a photograph lie beside each other, and only its given split may keep them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data import image_folder
from inspection_models.data.files import folder_named, folders_in, part_named
from inspection_models.data.reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

_CLASSES = ("def_front", "ok_front")
_AUGMENTED = (
    "this copy was augmented before it was given out: turned and brightened copies of one photograph lie in it, so its "
    "figures flatter a model; the copy of 512 x 512 pixels was not"
)


def fits(root: Path) -> bool:
    """Whether both class folders lie here or in every part."""
    return _has_classes(root) or any(_has_classes(folder) for folder in folders_in(root) if part_named(folder.name))


def read(root: Path) -> Reading:
    """All samples. Raises `DatasetError` as for an image folder."""
    reading = image_folder.read(root)
    notes = (_AUGMENTED,) if any(sample.part for sample in reading.samples) else ()
    return Reading(reading.samples, reading.used, reading.notes + notes)


def _has_classes(folder: Path) -> bool:
    return all(folder_named(folder, name) for name in _CLASSES)
