"""Layout `neu-cls` (Song and Yan, Applied Surface Science, 2013): one flat folder of `<abbreviation>_<n>.bmp`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inspection_models.data.files import images_in
from inspection_models.data.reading import Findings, Reading

if TYPE_CHECKING:
    from pathlib import Path

_CLASSES = {
    "Cr": "crazing",
    "In": "inclusion",
    "Pa": "patches",
    "PS": "pitted_surface",
    "RS": "rolled-in_scale",
    "Sc": "scratches",
}
_NAME = re.compile(rf"({'|'.join(_CLASSES)})_\d+")


def fits(root: Path) -> bool:
    """Whether images of at least two of the six abbreviations lie here."""
    return len({match[1] for path in images_in(root) if (match := _NAME.fullmatch(path.stem))}) >= 2


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: an image with another name.
    """
    findings = Findings(root)
    for path in images_in(root):
        if match := _NAME.fullmatch(path.stem):
            findings.add(path, [_CLASSES[match[1]]])
        else:
            findings.problems.add(
                f"{path} is not named <abbreviation>_<number> with one of {', '.join(_CLASSES)}; rename or remove it"
            )
    return findings.reading()
