"""Layout `neu-det` (He, Song, Meng and Yan, IEEE TIM, 2020): `IMAGES/<class>_<n>.jpg`, `ANNOTATIONS/<class>_<n>.xml`,
or `train/images/<class>/<class>_<n>.jpg`, `train/annotations/<class>_<n>.xml` and the same beneath `validation`.

The annotations are Pascal VOC. An annotation belongs to the image of its own stem, whatever its `<filename>` says; an
image's class is its file's prefix, whatever class its boxes carry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inspection_models.data.files import files_with, folder_named, folders_in, images_in, part_named
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.voc_xml import inclusive_box, read_sized_annotation

if TYPE_CHECKING:
    from pathlib import Path

    from inspection_models.data.dataset import Box

_NAME = re.compile(r"(.+)_\d+")
_CLASSES = frozenset({"crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches"})


def fits(root: Path) -> bool:
    """Whether folders of images and annotations lie here, and an image of one of the six classes among them."""
    return any(
        (match := _NAME.fullmatch(path.stem)) and match[1] in _CLASSES
        for images, _, _ in _folders(root)
        for path in _images(images)
    )


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: an image without an annotation or the other way round, an unknown file name, an annotation that
            is no Pascal VOC, or a box outside its image.
    """
    findings = Findings(root)
    folders = _folders(root)
    if not folders:
        findings.problems.add(f"{root} lacks IMAGES/ or ANNOTATIONS/; give the folder that holds both")
    foreign = 0
    for image_folder, annotation_folder, part in folders:
        images: dict[str, Path] = {}
        for path in _images(image_folder):
            if images.setdefault(path.stem, path) != path:
                findings.problems.add(f"{images[path.stem]} and {path} have the same stem; remove one of them")
        annotations = {path.stem: path for path in files_with(annotation_folder, ".xml")}
        findings.use(*annotations.values())
        for stem in sorted(images.keys() ^ annotations.keys()):
            present, missing = (images, "annotation") if stem in images else (annotations, "image")
            findings.problems.add(f"{present[stem]} has no {missing} of the same stem; add it or remove the file")
        for stem in sorted(images.keys() & annotations.keys()):
            match = _NAME.fullmatch(stem)
            if match is None:
                findings.problems.add(
                    f"{images[stem]} is not named <class>_<number>, so its class is unknown; rename or remove it"
                )
                continue
            boxes = _boxes(findings, annotations[stem])
            foreign += sum(box.label != match[1] for box in boxes)
            findings.add(images[stem], [match[1]], boxes=boxes, part=part)
    if foreign:
        findings.note(f"{foreign} boxes carry another class than their image's name; the name decides")
    return findings.reading()


def _folders(root: Path) -> list[tuple[Path, Path, str | None]]:
    """Folders of images and of annotations, with their part."""
    found = []
    for base in [root, *(folder for folder in folders_in(root) if part_named(folder.name))]:
        images, annotations = folder_named(base, "images"), folder_named(base, "annotations")
        if images and annotations:
            found.append((images, annotations, part_named(base.name) if base != root else None))
    return found


def _images(folder: Path) -> list[Path]:
    return [path for place in (folder, *folders_in(folder)) for path in images_in(place)]


def _boxes(findings: Findings, path: Path) -> list[Box]:
    try:
        size, objects = read_sized_annotation(path)
        return [inclusive_box(entry.label, entry.corners, size) for entry in objects]
    except ValueError as error:
        findings.problems.add(f"{path}: {error}; repair the annotation or remove it with its image")
        return []
