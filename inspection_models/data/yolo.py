"""Layout `yolo`: a `.txt` of lines `class x y width height`, or `class x1 y1 x2 y2 x3 y3 ...`, for each image, in parts
of its width and height.

The classes' names are in `data.yaml` (a list, or names by number), which may also name the folders or lists of images
of each part, or in `classes.txt`. A folder of labels is named like its folder of images, with `labels` for `images`, or
is the same folder. An image whose file of labels is empty or missing is good.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from inspection_models.data.dataset import GOOD, Polygon, is_good_name
from inspection_models.data.files import (
    file_named,
    files_with,
    folder_named,
    folders_in,
    images_below,
    images_in,
    part_named,
)
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.shapes import box_between, points_within
from inspection_models.data.tables import TableError, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection_models.data.dataset import Box

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES = ("classes.txt", "obj.names", "classes.names")
_PART_KEYS = ("train", "val", "valid", "validation", "test")
_BOX_FIELDS = 5


@dataclass(frozen=True)
class _Source:
    """Images of one part: a folder, or those that a list names."""

    images: tuple[Path, ...]
    part: str | None


def fits(root: Path) -> bool:
    """Whether names of classes lie here beside files of labels."""
    names = file_named(root, *_YAML) or _names_file(root)
    return names is not None and any(True for _ in _label_folders(root))


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: names of classes that are missing or none, a folder or image that is missing, a line that is
            neither box nor polygon, or labels without their image.
    """
    findings = Findings(root)
    configuration = _configuration(findings)
    names = _names(findings, configuration)
    sources = list(_sources(findings, configuration))
    if not names or not sources:
        findings.problems.check()
        missing = "no names of classes in data.yaml or classes.txt" if not names else "no folder of images"
        findings.problems.add(f"{root} has {missing}; add them")
        return findings.reading()
    good = next((name for name in names.values() if is_good_name(name)), GOOD)
    unlabelled = 0
    used: set[Path] = set()
    label_folders = set()
    for source in sources:
        for image in source.images:
            label_path = _label_path(root, image)
            label_folders.add(label_path.parent)
            boxes: list[Box] = []
            polygons: list[Polygon] = []
            if label_path.is_file():
                used.add(label_path)
                boxes, polygons = _marks(findings, label_path, image, names)
            else:
                unlabelled += 1
            labels = {box.label for box in boxes} | {polygon.label for polygon in polygons} or {good}
            findings.add(image, labels, part=source.part, boxes=boxes, polygons=polygons)
    findings.use(*used)
    # Also of parts without images, whose labels would be forgotten without a word.
    label_folders.update(_label_folders(root))
    for folder in sorted(label_folders):
        for path in files_with(folder, ".txt") if folder.is_dir() else []:
            if path not in used and path.name.lower() not in _NAMES and not _is_list(findings, path):
                findings.problems.add(f"{path} has no image of the same stem; add it or remove the file")
    if unlabelled and not used:
        findings.problems.add(f"{root}: none of the {unlabelled} images has a file of labels; put them into labels/")
    elif unlabelled:
        findings.note(f"{unlabelled} images without a file of labels are read as {good}, as the format has it")
    return findings.reading()


def _names_file(root: Path) -> Path | None:
    places = (root, folder_named(root, "labels"))
    return next((found for place in places if place and (found := file_named(place, *_NAMES))), None)


def _label_folders(root: Path) -> Iterator[Path]:
    """Folders that hold files of labels: beneath `labels`, in parts, or beside the images."""
    others = (*_NAMES, *(f"{key}.txt" for key in _PART_KEYS))
    for folder in (root, *folders_in(root)):
        for place in (folder, *folders_in(folder)):
            labelled = any(path.name.lower() not in others for path in files_with(place, ".txt"))
            if labelled and ("labels" in (place.name.lower(), place.parent.name.lower()) or images_in(place)):
                yield place


def _configuration(findings: Findings) -> dict[str, Any]:
    path = file_named(findings.root, *_YAML)
    if path is None:
        return {}
    findings.use(path)
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "no YAML in UTF-8"
        findings.problems.add(f"{path}{line}: {reason}; repair the file")
        return {}
    if not isinstance(content, dict):
        findings.problems.add(f"{path}: it holds no names of classes; write them under `names`")
        return {}
    return content


def _names(findings: Findings, configuration: dict[str, Any]) -> dict[int, str]:
    """Names of the classes by their numbers."""
    stated = configuration.get("names")
    if isinstance(stated, list):
        return {number: str(name) for number, name in enumerate(stated)}
    if isinstance(stated, dict):
        return {int(number): str(name) for number, name in stated.items() if str(number).isdecimal()}
    path = _names_file(findings.root)
    if path is None:
        return {}
    findings.use(path)
    try:
        lines = read_lines(path)
    except TableError as error:
        findings.problems.add(str(error))
        return {}
    # A class's number is that of its line: an empty one in between is a class without a name.
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def _sources(findings: Findings, configuration: dict[str, Any]) -> Iterator[_Source]:
    stated = {key: configuration[key] for key in _PART_KEYS if configuration.get(key)}
    seen: set[str] = set()
    for key, value in stated.items():
        for text in value if isinstance(value, list) else [value]:
            if str(text) not in seen:
                seen.add(str(text))
                yield from _stated_source(findings, configuration, str(text), part_named(key))
    if not stated:
        yield from _found_sources(findings.root)


def _stated_source(findings: Findings, configuration: dict[str, Any], text: str, part: str | None) -> Iterator[_Source]:
    """What a line of the configuration names: a folder of images, or a list of them."""
    root = findings.root
    # Programs write paths from where they ran: "../train/images", or beneath a `path` of their own machine.
    words = [word for word in PurePosixPath(text.replace("\\", "/")).parts if word not in ("..", ".", "/")]
    base = str(configuration.get("path", "")).replace("\\", "/")
    own = [word for word in PurePosixPath(base).parts if word not in ("..", ".", "/")]
    candidates = [root.joinpath(*own, *words), *(root.joinpath(*words[start:]) for start in range(len(words)))]
    found = next((path for path in candidates if path.exists() and path != root), None)
    if found is None:
        where = file_named(root, *_YAML)
        findings.problems.add(f"{where}: there is no {text!r} in {root}; correct the path or add the images")
    elif found.is_dir():
        yield _Source(tuple(images_below(found)), part)
    else:
        findings.use(found)
        yield _Source(tuple(_listed(findings, found)), part)


def _listed(findings: Findings, listing: Path) -> Iterator[Path]:
    for where, line in findings.lines(listing):
        text = line.removeprefix("./")
        path = findings.named(text, where, [listing.parent, findings.root]) if text else None
        if path:
            yield path


def _found_sources(root: Path) -> Iterator[_Source]:
    """Folders of images where no configuration names them."""
    images = folder_named(root, "images")
    if images:
        yield _Source(tuple(images_in(images)), None)
        for folder in folders_in(images):
            yield _Source(tuple(images_below(folder)), part_named(folder.name))
        return
    parts = [folder for folder in folders_in(root) if part_named(folder.name)]
    for folder in parts:
        yield _Source(tuple(images_below(folder_named(folder, "images") or folder)), part_named(folder.name))
    if not parts:
        # Beside their labels, in the root or in a folder of any name.
        yield _Source(tuple(images_below(root)), None)


def _label_path(root: Path, image: Path) -> Path:
    """Where the labels of an image belong: in the last folder `images` turned to `labels`, or beside it."""
    parts = list(image.relative_to(root).parts)
    places = [index for index, name in enumerate(parts[:-1]) if name.lower() == "images"]
    if places:
        above = root.joinpath(*parts[: places[-1]])
        labels = folder_named(above, "labels")
        if labels:
            return labels.joinpath(*parts[places[-1] + 1 :]).with_suffix(".txt")
    return image.with_suffix(".txt")


def _is_list(findings: Findings, path: Path) -> bool:
    """Whether a text file is a list or a read-me rather than labels: it was read, or its lines are no numbers."""
    if path in findings.used:
        return True
    try:
        first = next((line.split() for line in read_lines(path) if line.strip()), [])
    except TableError:
        return True
    return not (first and first[0].isdecimal())


def _marks(findings: Findings, label_path: Path, image: Path, names: dict[int, str]) -> tuple[list[Box], list[Polygon]]:
    boxes: list[Box] = []
    polygons: list[Polygon] = []
    lines = findings.lines(label_path)
    size = findings.size_of(image) if lines else None
    if size is None:
        return boxes, polygons
    height, width = size
    for where, line in lines:
        fields = line.split()
        try:
            name = names[int(fields[0])]
            values = [float(value) for value in fields[1:]]
            if len(fields) == _BOX_FIELDS:
                x, y, w, h = values
                edges = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
                boxes.append(box_between(name, *edges, size))
            else:
                scaled = [value * (width, height)[index % 2] for index, value in enumerate(values)]
                polygons.append(Polygon(name, points_within(scaled, size)))
        except KeyError:
            findings.problems.add(f"{where}: there is no class number {fields[0]}; name it in data.yaml or classes.txt")
        except ValueError as error:
            findings.problems.add(f"{where}: {error}; a line is a class and x y width height, or corners, from 0 to 1")
    return boxes, polygons
