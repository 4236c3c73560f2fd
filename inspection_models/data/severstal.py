"""Layout `severstal` (Severstal: Steel Defect Detection, Kaggle): `train_images/*.jpg` and `train.csv`.

The table has four rows for each image, `ImageId_ClassId,EncodedPixels` with the pixels empty where the class does not
occur, or one row for each class that does, `ImageId,ClassId,EncodedPixels`; images that it does not name are then good.
An image may show several of the four classes. Run lengths count pixels from 1, column by column.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from inspection_models.data.dataset import GOOD, RunLengths
from inspection_models.data.files import file_named, folder_named, images_in, some
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.shapes import counts_of_starts
from inspection_models.data.tables import Row, TableError, read_header, read_table

if TYPE_CHECKING:
    from pathlib import Path

_JOINED, _PIXELS = "ImageId_ClassId", "EncodedPixels"
_COLUMNS = ("ImageId", "ClassId", _PIXELS)
_CLASSES = frozenset("1234")


def fits(root: Path) -> bool:
    """Whether the folder of images lies here, beside a table with one of the two headers."""
    table = file_named(root, "train.csv")
    if table is None or folder_named(root, "train_images") is None:
        return False
    header = set(read_header(table))
    return {_JOINED, _PIXELS} <= header or set(_COLUMNS) <= header


def read(root: Path) -> Reading:
    """All samples of the training images; those to be tested have no labels.

    Raises:
        DatasetError: a table that cannot be read, a row without its image, or run lengths that leave it.
    """
    findings = Findings(root)
    table, folder = file_named(root, "train.csv"), folder_named(root, "train_images")
    if table is None or folder is None:
        findings.problems.add(f"{root} lacks train.csv or train_images/; give the folder that holds both")
        return findings.reading()
    findings.use(table)
    if sample_submission := file_named(root, "sample_submission.csv"):
        findings.use(sample_submission)
    images = {path.name: path for path in images_in(folder)}
    listed: set[str] = set()
    marks: dict[str, list[RunLengths]] = defaultdict(list)
    try:
        rows = read_table(table).rows
    except TableError as error:
        findings.problems.add(str(error))
        rows = ()
    for row in rows:
        name, number, where = *_named(row), f"{table} line {row.line}"
        if name not in images:
            findings.problems.add(f"{where}: there is no image {name!r} in {folder}; add it or remove the line")
            continue
        listed.add(name)
        if number not in _CLASSES:
            findings.problems.add(f"{where}: class {number!r} is none of {', '.join(sorted(_CLASSES))}; correct it")
        elif row.cells[_PIXELS] and (size := findings.size_of(images[name])):
            try:
                counts = counts_of_starts(row.cells[_PIXELS], size)
            except ValueError as error:
                findings.problems.add(f"{where}: {error}; repair the line")
                continue
            marks[name].append(RunLengths(f"class_{number}", size, counts))
    names_all = bool(rows) and _JOINED in rows[0].cells
    if names_all and (unlisted := sorted(images.keys() - listed)):
        findings.note(f"{len(unlisted)} images without a row in {table.name} are left out: {some(unlisted)}")
    for name, path in images.items():
        if name in listed or not names_all:
            labels = {mark.label for mark in marks[name]} or {GOOD}
            findings.add(path, labels, runs=marks[name])
    return findings.reading()


def _named(row: Row) -> tuple[str, str]:
    """Image and number of the class of a row."""
    if _JOINED in row.cells:
        name, _, number = row.cells[_JOINED].rpartition("_")
        return name, number
    return row.cells["ImageId"], row.cells["ClassId"]
