"""Layout `voc`: `JPEGImages/<stem>.jpg`, `Annotations/<stem>.xml` (Pascal VOC) and, for a given split, lists of stems
in `ImageSets/Main/{train,val,test}.txt`; or images and annotations in one folder, or in `images` and `annotations`.

An image's classes are those of its boxes, without one it is good. Boxes count pixels from 1, both ends included; where
a coordinate of the set is 0, all of them are taken as edges counted from 0, as several programs write them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data.dataset import GOOD
from inspection_models.data.files import file_named, files_with, folder_named, images_in, part_named, some
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.shapes import box_between
from inspection_models.data.voc_xml import VocAnnotation, inclusive_box, read_annotation

if TYPE_CHECKING:
    from pathlib import Path

    from inspection_models.data.dataset import Box


def fits(root: Path) -> bool:
    """Whether images and annotations of the same stems lie in a pair of folders."""
    return any(
        {path.stem for path in images_in(images)} & {path.stem for path in files_with(annotations, ".xml")}
        for images, annotations, _ in _folders(root)
    )


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: an annotation without its image, that is no Pascal VOC, is of an image of another size, or has a
            box outside its image.
    """
    findings = Findings(root)
    parts = _parts(findings, root)
    found: list[tuple[Path, Path, VocAnnotation, str | None]] = []
    for image_folder, annotation_folder, part in _folders(root):
        images: dict[str, Path] = {}
        for path in images_in(image_folder):
            if images.setdefault(path.stem, path) != path:
                findings.problems.add(f"{images[path.stem]} and {path} have the same stem; remove one of them")
        for annotation in files_with(annotation_folder, ".xml"):
            findings.use(annotation)
            if annotation.stem not in images:
                findings.problems.add(f"{annotation} has no image of the same stem; add it or remove the file")
                continue
            path = images.pop(annotation.stem)
            try:
                found.append((path, annotation, read_annotation(annotation), parts.get(path.stem, part)))
            except ValueError as error:
                findings.problems.add(f"{annotation}: {error}; repair the annotation or remove it with its image")
        if images:
            findings.note(
                f"{len(images)} images in {image_folder.name}/ have no annotation and are left out: "
                f"{some(path.name for path in images.values())}"
            )
    corners = [corner for _, _, content, _ in found for entry in content.objects for corner in entry.corners]
    from_zero = any(corner == 0 for corner in corners)
    if from_zero:
        findings.note("a box begins at 0, so all boxes are read as edges counted from 0 and not as pixels from 1")
    for path, annotation, content, part in found:
        try:
            boxes = _boxes(findings, path, content, from_zero=from_zero)
        except ValueError as error:
            findings.problems.add(f"{annotation}: {error}; repair the annotation or remove it with its image")
            continue
        findings.add(path, {box.label for box in boxes} or {GOOD}, part=part, boxes=boxes)
    return findings.reading()


def _boxes(findings: Findings, path: Path, content: VocAnnotation, *, from_zero: bool) -> list[Box]:
    size = findings.size_of(path)
    if size is None:
        return []
    if content.size is not None and content.size != size:
        raise ValueError(
            f"it is of an image of {content.size[1]} x {content.size[0]} pixels, {path.name} as a viewer shows it has "
            f"{size[1]} x {size[0]}"
        )
    if any(not entry.label for entry in content.objects):
        raise ValueError("a box has no name")
    if from_zero:
        return [box_between(entry.label, *entry.corners, size) for entry in content.objects]
    return [inclusive_box(entry.label, entry.corners, size) for entry in content.objects]


def _folders(root: Path) -> list[tuple[Path, Path, str | None]]:
    """Folders of images and of their annotations, with their part."""
    annotations = folder_named(root, "Annotations")
    images = folder_named(root, "JPEGImages", "images")
    found: list[tuple[Path, Path, str | None]] = [(images, annotations, None)] if images and annotations else []
    if files_with(root, ".xml"):
        found.append((root, root, None))
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and part_named(path.name)):
        if files_with(folder, ".xml"):
            found.append((folder, folder, part_named(folder.name)))
    return found


def _parts(findings: Findings, root: Path) -> dict[str, str]:
    """The part of each stem that the lists of the standard name."""
    parts: dict[str, str] = {}
    sets = folder_named(root, "ImageSets")
    main = sets and folder_named(sets, "Main")
    if main is None:
        return parts
    for name in ("train.txt", "val.txt", "test.txt"):
        listing = file_named(main, name)
        if listing is None:
            continue
        part = part_named(name.removesuffix(".txt"))
        for where, stem in findings.lines(listing):
            if part and parts.setdefault(stem, part) != part:
                findings.problems.add(f"{where}: {stem!r} is listed for {parts[stem]} already; remove one of the two")
    return parts
