"""Layout `gc10-det` (Lv, Duan, Jiang, Fu and Gan, Sensors, 2020): folders `1` to `10` of images and one folder `lable`
of Pascal VOC annotations.

An image's classes are those of its boxes, told by the number that their names begin with; without a box its folder's.
An image that lies in several folders is read once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inspection_models.data.files import files_with, folder_named, folders_in, images_in, some
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.voc_xml import inclusive_box, read_sized_annotation

if TYPE_CHECKING:
    from pathlib import Path

    from inspection_models.data.dataset import Box

_CLASSES = {
    1: "punching_hole",
    2: "welding_line",
    3: "crescent_gap",
    4: "water_spot",
    5: "oil_spot",
    6: "silk_spot",
    7: "inclusion",
    8: "rolled_pit",
    9: "crease",
    10: "waist_folding",
}
_NUMBER = re.compile(r"(\d+)_")


def fits(root: Path) -> bool:
    """Whether the folder of annotations lies here beside one with a number."""
    return _annotations(root) is not None and bool(_class_folders(root))


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: an annotation that is no Pascal VOC or whose box leaves its image, or two different images of one
            name.
    """
    findings = Findings(root)
    images: dict[str, tuple[Path, str]] = {}
    again = 0
    for number, folder in _class_folders(root).items():
        for path in images_in(folder):
            first, _ = images.setdefault(path.stem, (path, _CLASSES[number]))
            if first == path:
                continue
            if first.read_bytes() == path.read_bytes():
                findings.use(path)
                again += 1
            else:
                findings.problems.add(f"{first} and {path} have one name but differ; remove or rename one of them")
    if again:
        findings.note(f"{again} images that lie in a second folder, too, are read once")
    annotation_folder = _annotations(root)
    annotations = {path.stem: path for path in files_with(annotation_folder, ".xml")} if annotation_folder else {}
    findings.use(*annotations.values())
    dropped: list[str] = []
    unmarked = 0
    for stem, (path, own) in images.items():
        boxes = _boxes(findings, annotations[stem], dropped) if stem in annotations else []
        unmarked += not boxes
        findings.add(path, {box.label for box in boxes} or {own}, boxes=boxes)
    if unmarked:
        findings.note(f"{unmarked} images without a box are of the class of their folder")
    if dropped:
        findings.note(f"{len(dropped)} boxes whose name has no number are left out: {some(dropped)}")
    if stray := sorted(annotations.keys() - images.keys()):
        findings.note(f"{len(stray)} annotations have no image: {some(stray)}")
    return findings.reading()


def _annotations(root: Path) -> Path | None:
    return folder_named(root, "lable")


def _class_folders(root: Path) -> dict[int, Path]:
    found = {int(folder.name): folder for folder in folders_in(root) if folder.name.isdecimal()}
    return {number: found[number] for number in sorted(found) if number in _CLASSES}


def _boxes(findings: Findings, path: Path, dropped: list[str]) -> list[Box]:
    try:
        size, objects = read_sized_annotation(path)
        boxes = []
        for entry in objects:
            match = _NUMBER.match(entry.label)
            if match is None or int(match[1]) not in _CLASSES:
                dropped.append(f"{entry.label!r} in {path.name}")
                continue
            boxes.append(inclusive_box(_CLASSES[int(match[1])], entry.corners, size))
    except ValueError as error:
        findings.problems.add(f"{path}: {error}; repair the annotation or remove it")
        return []
    return boxes
