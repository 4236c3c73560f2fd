"""Layout `coco`: instances in JSON files, at the root, in `annotations/` or in a folder for each part.

Several files are the parts of a given split, told by their names or folders. An image's classes are the categories of
its annotations; one without any is good. Marks are boxes, polygons and run lengths, these as lists or as text. Images
lie where their `file_name` says, from the root, `images/`, the file's own folder or a folder named like the part.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inspection_models.data.dataset import GOOD, Polygon, RunLengths, is_good_name
from inspection_models.data.files import files_with, folder_named, folders_in, part_named
from inspection_models.data.json_files import JsonError, load_json
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.shapes import box_between, counts_of_coco, points_within

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

    from inspection_models.data.dataset import Box


@dataclass
class _Marks:
    """What the annotations of one image say."""

    labels: set[str] = field(default_factory=set)
    boxes: list[Box] = field(default_factory=list)
    polygons: list[Polygon] = field(default_factory=list)
    runs: list[RunLengths] = field(default_factory=list)


def fits(root: Path) -> bool:
    """Whether a file of images, annotations and categories lies here."""
    return any(_is_coco(path) for path in _files(root))


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: a file that is no JSON, an image that is missing or has another size, or an annotation without its
            image or category, or whose marks are none.
    """
    findings = Findings(root)
    files = [path for path in _files(root) if _is_coco(path)]
    if instances := [path for path in files if path.name.startswith("instances")]:
        # Beside them lie captions or key points of the same images.
        files = instances
    for path in files:
        findings.use(path)
        content = load_json(path)
        part = _part(root, path) if len(files) > 1 else None
        _read_file(findings, path, content, part)
    return findings.reading()


def _files(root: Path) -> list[Path]:
    places = [root, folder_named(root, "annotations"), *(f for f in folders_in(root) if part_named(f.name))]
    return [path for place in places if place for path in files_with(place, ".json")]


def _is_coco(path: Path) -> bool:
    try:
        content = load_json(path)
    except JsonError:
        return False
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )


def _part(root: Path, path: Path) -> str | None:
    """The part that a file is of, by a word of its name or by its folder: `instances_val2017.json` is validation."""
    words = re.findall(r"[a-z]+", path.stem.lower())
    named = [part for word in words if (part := part_named(word))]
    return named[-1] if named else part_named(path.parent.name) if path.parent != root else None


def _read_file(findings: Findings, path: Path, content: dict[str, Any], part: str | None) -> None:
    categories = _categories(findings, path, content["categories"])
    images, known = _images(findings, path, content["images"], part)
    marks: dict[Any, _Marks] = defaultdict(_Marks)
    for number, entry in enumerate(content["annotations"], 1):
        where = f"{path} annotation {number}"
        if not isinstance(entry, dict) or not _is_one_of(entry.get("image_id"), known):
            findings.problems.add(f"{where}: there is no image of its image_id; add the image or remove it")
        elif not _is_one_of(entry.get("category_id"), categories):
            findings.problems.add(f"{where}: there is no category {entry.get('category_id')!r}; add it to categories")
        elif entry["image_id"] in images:
            try:
                _mark(marks[entry["image_id"]], entry, categories[entry["category_id"]], images[entry["image_id"]][1])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                findings.problems.add(f"{where}: {error}; repair or remove it")
    good = next((name for name in categories.values() if is_good_name(name)), GOOD)
    for key, (image, _) in images.items():
        own = marks[key]
        labels = own.labels or {good}
        findings.add(image, labels, part=part, boxes=own.boxes, polygons=own.polygons, runs=own.runs)
    if without := sum(not marks[key].labels for key in images):
        findings.note(f"{without} images without an annotation in {path.name} are read as {good}")
    used = {label for own in marks.values() for label in own.labels}
    if unused := sorted(set(categories.values()) - used - {good}):
        findings.note(f"no annotation in {path.name} is of the categories {', '.join(unused)}")


def _images(
    findings: Findings, path: Path, entries: Iterable[Any], part: str | None
) -> tuple[dict[Any, tuple[Path, tuple[int, int]]], set[Any]]:
    """File and size of each image by its id, and all ids, those of images with a problem included."""
    images: dict[Any, tuple[Path, tuple[int, int]]] = {}
    known: set[Any] = set()
    for number, entry in enumerate(entries, 1):
        where = f"{path} image {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or "id" not in entry:
            findings.problems.add(f"{where}: it has no id or no file_name; export the file again")
            continue
        if not isinstance(entry["id"], int | str):
            findings.problems.add(f"{where}: its id {entry['id']!r} is no number and no text; export the file again")
            continue
        if entry["id"] in known:
            findings.problems.add(f"{where}: its id {entry['id']!r} is that of an earlier image; correct it")
            continue
        known.add(entry["id"])
        image = findings.named(entry["file_name"], where, _image_folders(findings.root, path, part))
        size = image and findings.size_of(image)
        if not image or not size:
            continue
        stated = (entry.get("height"), entry.get("width"))
        if None not in stated and stated != size:
            findings.problems.add(
                f"{where}: {entry['file_name']!r} is said to have {stated[1]} x {stated[0]} pixels, as a viewer "
                f"shows it it has {size[1]} x {size[0]}; replace the wrong one"
            )
            continue
        images[entry["id"]] = (image, size)
    return images, known


def _is_one_of(key: Any, known: Container[Any]) -> bool:
    return isinstance(key, int | str) and key in known


def _categories(findings: Findings, path: Path, entries: Iterable[Any]) -> dict[Any, str]:
    categories: dict[Any, str] = {}
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("id"), int | str):
            categories[entry["id"]] = entry["name"]
        else:
            findings.problems.add(f"{path} category {number}: it has no id or no name; export the file again")
    return categories


def _image_folders(root: Path, path: Path, part: str | None) -> list[Path]:
    folders = [path.parent, root, root / "images"]
    for base in (root, root / "images"):
        # train2017 beside instances_train2017.json, or train, val, test.
        folders += [base / path.stem.rpartition("_")[2], *(f for f in _folders(base) if part_named(f.name) == part)]
    return folders


def _folders(base: Path) -> list[Path]:
    return [folder for folder in folders_in(base) if part_named(folder.name)] if base.is_dir() else []


def _mark(marks: _Marks, entry: dict[str, Any], label: str, size: tuple[int, int]) -> None:
    marks.labels.add(label)
    if box := entry.get("bbox"):
        x, y, width, height = (float(number) for number in box)
        marks.boxes.append(box_between(label, x, y, x + width, y + height, size))
    drawn = entry.get("segmentation")
    if isinstance(drawn, dict):
        if tuple(drawn["size"]) != size:
            height, width = drawn["size"]
            raise ValueError(f"its run lengths are of {width} x {height} pixels, not of the image's")
        marks.runs.append(RunLengths(label, size, counts_of_coco(drawn["counts"], size)))
    else:
        for numbers in drawn or ():
            marks.polygons.append(Polygon(label, points_within([float(number) for number in numbers], size)))
