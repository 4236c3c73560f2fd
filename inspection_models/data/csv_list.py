"""Layout `csv`: a table of image paths and classes, with a header, in one `.csv` or `.tsv` file at the root.

Columns, in any case: the path (`path`, `image`, `file`, `filename`, ...), the class (`label`, `class`, ...),
and if there are any the part of a given split (`split`, `part`, `subset`, ...), the `group` of images that belong to
one part and the `mask`. Several lines of one image give it several classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inspection_models.data.files import files_with, part_named
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.tables import Row, Table, TableError, read_header, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAMES = {
    "path": (
        *("path", "image", "file", "filename", "file_name", "filepath", "file_path", "image_path", "imagepath"),
        *("image_name", "image_file", "img", "img_path"),
    ),
    "label": ("label", "labels", "class", "class_name", "classname", "category", "target", "defect", "verdict"),
    "part": ("split", "part", "subset", "set", "partition", "phase"),
    "group": ("group", "group_id"),
    "mask": ("mask", "mask_path", "mask_file"),
}


@dataclass
class _Entry:
    """What the lines of one image say, and where its first one stands."""

    where: str
    labels: set[str] = field(default_factory=set)
    part: str | None = None
    group: str | None = None
    mask: Path | None = None


def fits(root: Path) -> bool:
    """Whether a table with columns for path and class lies here."""
    return bool(_tables(root))


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: no or several tables, one that cannot be read, an image that is missing, a class that is, or lines
            of one image that contradict each other.
    """
    findings = Findings(root)
    tables = _tables(root)
    if len(tables) != 1:
        findings.problems.add(
            f"{tables[0]} and {tables[1]} could each be the list of images; leave one of them here"
            if tables
            else f"{root} has no .csv with columns for path and label; name them so in its first line"
        )
        return findings.reading()
    path = tables[0]
    findings.use(path)
    try:
        table = read_table(path)
    except TableError as error:
        findings.problems.add(str(error))
        return findings.reading()
    for image, entry in _entries(findings, path, table).items():
        findings.add(image, entry.labels, group=entry.group, part=entry.part, mask_path=entry.mask)
    return findings.reading()


def _tables(root: Path) -> list[Path]:
    found = []
    for path in (*files_with(root, ".csv"), *files_with(root, ".tsv")):
        columns = _columns(read_header(path))
        if {"path", "label"} <= columns.keys():
            found.append(path)
    return found


def _columns(header: Sequence[str]) -> dict[str, str]:
    """Which column of a table means what."""
    here = {name.lower().replace(" ", "_"): name for name in header}
    return {
        meaning: here[found]
        for meaning, names in _NAMES.items()
        if (found := next((name for name in names if name in here), None))
    }


def _entries(findings: Findings, path: Path, table: Table) -> dict[Path, _Entry]:
    columns = _columns(table.columns)
    entries: dict[Path, _Entry] = {}
    for row in table.rows:
        where = f"{path} line {row.line}"
        label = row.cells[columns["label"]]
        if not label:
            findings.problems.add(f"{where}: the label is missing; fill it in or remove the line")
        image = findings.named(row.cells[columns["path"]], where, [findings.root, findings.root / "images"])
        if image is None or not label:
            continue
        entry = entries.setdefault(image, _Entry(where))
        entry.labels.add(label)
        _fill(findings, entry, row, columns, where)
    return entries


def _fill(findings: Findings, entry: _Entry, row: Row, columns: dict[str, str], where: str) -> None:
    """Take part, group and mask from a line, each the same in all lines of an image."""
    cells = {meaning: row.cells[column] for meaning, column in columns.items()}
    part = None
    if word := cells.get("part"):
        part = part_named(word)
        if part is None:
            findings.problems.add(f"{where}: {word!r} is no part; write train, validation or test")
            return
    group = cells.get("group") or None
    mask = findings.named(cells["mask"], where, [findings.root]) if cells.get("mask") else None
    if where != entry.where and (part, group, mask) != (entry.part, entry.group, entry.mask):
        findings.problems.add(f"{where}: says otherwise of part, group or mask than {entry.where}; correct one of them")
        return
    entry.part, entry.group, entry.mask = part, group, mask
