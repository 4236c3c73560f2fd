"""Layout `deep-pcb` (Tang, He, Huang and Yang, 2019): `group<G>/<G>/<N>_test.jpg` with its flawless template
`<N>_temp.jpg`, and boxes `x1 y1 x2 y2 type` in `group<G>/<G>_not/<N>.txt`.

The lists `trainval.txt` and `test.txt` name `<N>.jpg`, which does not exist, where `<N>_test.jpg` is meant. A board
shows several of the six kinds of defect; its template is good and stays together with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data.dataset import GOOD
from inspection_models.data.files import file_named, files_with, folders_in, images_in
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.shapes import box_between

if TYPE_CHECKING:
    from pathlib import Path

    from inspection_models.data.dataset import Box

_CLASSES = {"1": "open", "2": "short", "3": "mousebite", "4": "spur", "5": "copper", "6": "pin-hole"}
_BOXES_END, _BOARD_END, _TEMPLATE_END = "_not", "_test", "_temp"
_LISTS = {"trainval.txt": "train", "test.txt": "test"}


def fits(root: Path) -> bool:
    """Whether a group with a folder of boxes lies here, or beneath `PCBData`."""
    return bool(_box_folders(_base(root)))


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: a board without its boxes or template or the other way round, a box that is none, or a list of
            files that do not exist.
    """
    findings = Findings(root)
    base = _base(root)
    parts = _parts(findings, base)
    for box_folder in _box_folders(base):
        image_folder = box_folder.with_name(box_folder.name.removesuffix(_BOXES_END))
        images = {path.stem: path for path in images_in(image_folder)} if image_folder.is_dir() else {}
        for listing in files_with(box_folder, ".txt"):
            findings.use(listing)
            board = images.pop(listing.stem + _BOARD_END, None)
            template = images.pop(listing.stem + _TEMPLATE_END, None)
            if board is None or template is None:
                missing = _BOARD_END if board is None else _TEMPLATE_END
                findings.problems.add(
                    f"{listing} has no image {image_folder / listing.stem}{missing}.jpg; add it or remove the file"
                )
                continue
            boxes = _boxes(findings, listing, board)
            key = listing.relative_to(base).as_posix()
            part, group = parts.get(key), f"{box_folder.name}/{listing.stem}"
            findings.add(board, {box.label for box in boxes} or {GOOD}, group=group, part=part, boxes=boxes)
            findings.add(template, [GOOD], group=group, part=part)
        for path in images.values():
            findings.problems.add(f"{path} has no boxes in {box_folder}; add {path.stem.rpartition('_')[0]}.txt")
    findings.note("the flawless templates are read as good, each in one group with its board")
    return findings.reading()


def _base(root: Path) -> Path:
    inner = root / "PCBData"
    return inner if inner.is_dir() else root


def _box_folders(base: Path) -> list[Path]:
    return [
        folder
        for group in folders_in(base)
        if group.name.startswith("group")
        for folder in folders_in(group)
        if folder.name.endswith(_BOXES_END)
    ]


def _parts(findings: Findings, base: Path) -> dict[str, str]:
    """The part of each file of boxes, named relative to the base."""
    parts: dict[str, str] = {}
    for name, part in _LISTS.items():
        listing = file_named(base, name)
        if listing is None:
            continue
        for where, line in findings.lines(listing):
            named = line.split()[-1]
            if (base / named).is_file():
                parts[named] = part
            else:
                findings.problems.add(f"{where}: there is no file {named!r} in {base}; add it or remove the line")
    return parts


def _boxes(findings: Findings, listing: Path, board: Path) -> list[Box]:
    size = findings.size_of(board)
    if size is None:
        return []
    boxes = []
    for where, line in findings.lines(listing):
        try:
            *edges, kind = line.split()
            left, top, right, bottom = (int(edge) for edge in edges)
            boxes.append(box_between(_CLASSES[kind], left, top, right, bottom, size))
        except KeyError:
            findings.problems.add(f"{where}: {kind!r} is none of the types 1 to 6; correct it")
        except ValueError as error:
            findings.problems.add(f"{where}: {error}; a line is x1 y1 x2 y2 type")
    return boxes
