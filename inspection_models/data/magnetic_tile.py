"""Layout `magnetic-tile` (Huang, Qiu and Yuan, The Visual Computer, 2020): `MT_<Class>/Imgs/<name>.jpg` with its mask
`<name>.png` beside it.

A tile was photographed under up to six exposures, `exp1_num_3191`, `exp2_num_3211`, ...: its numbers follow each
other closely, whatever its class. In the files, neighbours in number correlate at about 0.95 (median, pixel by pixel)
up to a distance of 60, at 0.6 between 100 and 200, and beyond at 0.4 like strangers. A chain of numbers with steps of
200 at most is therefore one group: it may hold several tiles, but no tile is torn apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inspection_models.data.files import files_with
from inspection_models.data.reading import Findings, Reading

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = "MT_"
_NAME = re.compile(r"exp\d+_num_(\d+)")
_LARGEST_STEP = 200


def fits(root: Path) -> bool:
    """Whether a folder `MT_<Class>/Imgs` lies here."""
    return any(True for _ in root.glob(f"{_PREFIX}*/Imgs"))


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: a photograph without a mask or the other way round, or an unknown file name.
    """
    findings = Findings(root)
    numbers: dict[Path, int] = {}
    for folder in sorted(root.glob(f"{_PREFIX}*/Imgs")):
        photographs, masks = ({path.stem: path for path in files_with(folder, suffix)} for suffix in (".jpg", ".png"))
        for stem in sorted(photographs.keys() ^ masks.keys()):
            missing = "mask" if stem in photographs else "photograph"
            findings.problems.add(
                f"{folder / stem} has no {missing}; each .jpg needs the .png of the same name beside it"
            )
        for stem, path in photographs.items():
            if match := _NAME.fullmatch(stem):
                numbers[path] = int(match[1])
            else:
                findings.problems.add(
                    f"{path} is not named exp<exposure>_num_<number>, so its tile is unknown; rename or remove it"
                )
    for path, group in sorted(_groups(numbers).items()):
        label = path.parent.parent.name.removeprefix(_PREFIX)
        findings.add(path, [label], group=group, mask_path=path.with_suffix(".png"))
    return findings.reading()


def _groups(numbers: dict[Path, int]) -> dict[Path, str]:
    groups: dict[Path, str] = {}
    first = last = -_LARGEST_STEP - 1
    for path, number in sorted(numbers.items(), key=lambda item: (item[1], item[0].as_posix())):
        if number - last > _LARGEST_STEP:
            first = number
        groups[path] = f"tiles from {first}"
        last = number
    return groups
