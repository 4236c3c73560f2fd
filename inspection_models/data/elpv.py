"""Layout `elpv` (Buerhop-Lutz et al., 2018): `labels.csv` with lines `images/cell0001.png  1.0  mono`, no header.

The number says how sure experts were that the solar cell is defective: 0, 1/3, 2/3 or 1. From one half on it is read as
defective, below as functional.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data.files import file_named
from inspection_models.data.reading import Findings, Reading
from inspection_models.data.tables import TableError, read_lines

if TYPE_CHECKING:
    from pathlib import Path

_TABLE = "labels.csv"
_FUNCTIONAL, _DEFECTIVE = "functional", "defective"
_TYPES = ("mono", "poly")
_FIELDS = 3


def fits(root: Path) -> bool:
    """Whether the list lies here and its first line is one."""
    listing = file_named(root, _TABLE)
    if listing is None:
        return False
    try:
        fields = next((line.split() for line in read_lines(listing) if line.strip()), [])
    except TableError:
        return False
    return len(fields) == _FIELDS and fields[2] in _TYPES


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: a line that is none, or an image that is missing.
    """
    findings = Findings(root)
    listing = file_named(root, _TABLE) or root / _TABLE
    between = 0
    for where, line in findings.lines(listing):
        fields = line.split()
        try:
            name, probability, _ = fields[0], float(fields[1]), fields[2]
        except (IndexError, ValueError):
            findings.problems.add(f"{where}: not an image, a probability and a type; correct the line")
            continue
        if not 0 <= probability <= 1:
            findings.problems.add(f"{where}: the probability {probability:g} is not from 0 to 1; correct the line")
            continue
        between += 0 < probability < 1
        if path := findings.named(name, where, [root]):
            findings.add(path, [_DEFECTIVE if probability >= 0.5 else _FUNCTIONAL])
    findings.note(
        f"a probability of one half and more is read as {_DEFECTIVE}, less as {_FUNCTIONAL}; {between} images lie "
        "between 0 and 1"
    )
    return findings.reading()
