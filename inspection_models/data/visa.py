"""Layout `visa` (Zou, Jeong, Pemula, Zhang and Dabeer, ECCV, 2022), one object: `image_anno.csv` of image, label and
mask, beside `Data/Images/{Normal,Anomaly}` and `Data/Masks/Anomaly`.

A label is "normal" or the names of the defects, joined by commas. Paths begin with the object's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data.files import file_named, folders_in, images_below
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.tables import TableError, read_header, read_table

if TYPE_CHECKING:
    from pathlib import Path

_TABLE = "image_anno.csv"
_COLUMNS = ("image", "label", "mask")


def fits(root: Path) -> bool:
    """Whether an object lies here, or several do."""
    return _is_object(root) or bool(_objects(root))


def read(root: Path) -> Reading:
    """All samples of an object.

    Raises:
        DatasetError: several objects lie here; a table that cannot be read, or a file that it names and that is
            missing.
    """
    findings = Findings(root)
    objects = [root] if _is_object(root) else _objects(root)
    if len(objects) != 1:
        findings.problems.add(
            f"{root} holds the objects {', '.join(folder.name for folder in objects)}, each a data set of its own; "
            "give one of their folders"
            if objects
            else f"{root} has no {_TABLE} with the columns {', '.join(_COLUMNS)}; give the folder of an object"
        )
        return findings.reading()
    folder = objects[0]
    table = file_named(folder, _TABLE) or folder / _TABLE
    findings.use(table)
    try:
        rows = read_table(table).rows
    except TableError as error:
        findings.problems.add(str(error))
        rows = ()
    listed = set()
    for row in rows:
        where = f"{table} line {row.line}"
        labels = {label.strip() for label in row.cells["label"].split(",")} - {""}
        if not labels:
            findings.problems.add(f"{where}: the label is missing; fill it in")
        path = findings.named(_beneath(folder, row.cells["image"]), where, [folder])
        mask = row.cells["mask"] and findings.named(_beneath(folder, row.cells["mask"]), where, [folder])
        if path and labels:
            listed.add(path)
            findings.add(path, labels, mask_path=mask or None)
    images = folder / "Data" / "Images"
    for path in images_below(images) if images.is_dir() else []:
        if path not in listed:
            findings.problems.add(f"{path} is not listed in {table}; add a line or remove the image")
    return findings.reading()


def _beneath(folder: Path, text: str) -> str:
    """A path without the object's name that it begins with; the folder may have been renamed."""
    first, _, rest = text.replace("\\", "/").partition("/")
    return rest if rest and not (folder / first).exists() else text


def _is_object(folder: Path) -> bool:
    table = file_named(folder, _TABLE)
    return table is not None and set(_COLUMNS) <= set(read_header(table))


def _objects(root: Path) -> list[Path]:
    return [folder for folder in folders_in(root) if _is_object(folder)]
