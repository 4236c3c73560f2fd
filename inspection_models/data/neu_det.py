"""Layout `neu-det` (He, Song, Meng and Yan, IEEE TIM, 2020): `IMAGES/<class>_<n>.jpg`, `ANNOTATIONS/<class>_<n>.xml`.

The annotations are Pascal VOC: boxes by their first and last pixel, counted from 1. An annotation belongs to the image
of its own stem, whatever its `<filename>` says; an image's class is its file's prefix, whatever class its boxes carry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from inspection_models.data.dataset import Box, DatasetError, Sample, file_sha256
from inspection_models.images import SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element  # only the type; parsing is defused

_IMAGES, _ANNOTATIONS = "IMAGES", "ANNOTATIONS"
_NAME = re.compile(r"(.+)_\d+")


def fits(root: Path) -> bool:
    """Whether both folders lie here."""
    return (root / _IMAGES).is_dir() and (root / _ANNOTATIONS).is_dir()


def read(root: Path) -> tuple[list[Sample], list[str]]:
    """All samples, and the files that are neither images nor annotations.

    Raises:
        DatasetError: an image without an annotation or the other way round, an unknown file name, an annotation that
            is no Pascal VOC, or a box outside its image.
    """
    if not fits(root):
        raise DatasetError(f"{root} lacks {_IMAGES}/ or {_ANNOTATIONS}/; give the folder that holds both")
    images, other_images = _files(root / _IMAGES, SUFFIXES)
    annotations, other_annotations = _files(root / _ANNOTATIONS, frozenset({".xml"}))
    for stem in sorted(images.keys() ^ annotations.keys()):
        present, missing = (images, "annotation") if stem in images else (annotations, "image")
        raise DatasetError(f"{present[stem]} has no {missing} of the same stem; add it or remove the file")
    samples = []
    for stem, path in images.items():
        match = _NAME.fullmatch(stem)
        if match is None:
            raise DatasetError(f"{path} is not named <class>_<number>, so its class is unknown; rename or remove it")
        digest = file_sha256(path)
        samples.append(Sample(path, match[1], digest, digest, boxes=_boxes(annotations[stem])))
    return samples, [path.relative_to(root).as_posix() for path in other_images + other_annotations]


def _files(folder: Path, suffixes: frozenset[str]) -> tuple[dict[str, Path], list[Path]]:
    found: dict[str, Path] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            others.append(path)
        elif found.setdefault(path.stem, path) != path:
            raise DatasetError(f"{found[path.stem]} and {path} have the same stem; remove one of them")
    return found, others


def _boxes(path: Path) -> tuple[Box, ...]:
    try:
        tree: Element = ElementTree.fromstring(path.read_bytes())
        size = (_integer(tree, "size/width"), _integer(tree, "size/height"))
        return tuple(_box(entry, size) for entry in tree.iter("object"))
    except (ElementTree.ParseError, DefusedXmlException, ValueError, OSError) as error:
        raise DatasetError(f"{path}: {error}; repair the annotation or remove it with its image") from error


def _box(entry: Element, size: tuple[int, int]) -> Box:
    left, top, right, bottom = (_integer(entry, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    if not (1 <= left <= right <= size[0] and 1 <= top <= bottom <= size[1]):
        raise ValueError(
            f"the box {left, top, right, bottom} does not lie in the image of {size[0]} x {size[1]} pixels"
        )
    label = entry.findtext("name") or ""
    return Box(label, left - 1, top - 1, right - left + 1, bottom - top + 1)


def _integer(entry: Element, path: str) -> int:
    text = entry.findtext(path)
    if text is None:
        raise ValueError(f"there is no element {path}")
    return int(text)
