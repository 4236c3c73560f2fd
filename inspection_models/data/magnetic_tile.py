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

from PIL import Image

from inspection_models.data.dataset import DatasetError, Sample, file_sha256

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = "MT_"
_NAME = re.compile(r"exp\d+_num_(\d+)")
_LARGEST_STEP = 200


def fits(root: Path) -> bool:
    """Whether a folder `MT_<Class>/Imgs` lies here."""
    return any(True for _ in root.glob(f"{_PREFIX}*/Imgs"))


def read(root: Path) -> tuple[list[Sample], list[str]]:
    """All samples, and the files that are neither photographs nor masks.

    Raises:
        DatasetError: a photograph without a mask or the other way round, sizes that differ, an unknown file name, or
            a damaged file.
    """
    photographs: list[Path] = []
    ignored: list[str] = []
    for folder in sorted(root.glob(f"{_PREFIX}*/Imgs")):
        entries = sorted(folder.iterdir())
        stems = {suffix: {p.stem for p in entries if p.suffix.lower() == suffix} for suffix in (".jpg", ".png")}
        for stem in sorted(stems[".jpg"] ^ stems[".png"]):
            missing = "mask" if stem in stems[".jpg"] else "photograph"
            raise DatasetError(f"{folder / stem} has no {missing}; each .jpg needs the .png of the same name beside it")
        photographs += [path for path in entries if path.suffix.lower() == ".jpg"]
        ignored += [p.relative_to(root).as_posix() for p in entries if p.suffix.lower() not in stems]
    groups = _groups({path: _number(path) for path in photographs})
    return [_sample(path, groups[path]) for path in photographs], ignored


def _sample(path: Path, group: str) -> Sample:
    mask = path.with_suffix(".png")
    if _size(path) != _size(mask):
        raise DatasetError(f"{mask} is {_size(mask)} pixels and its photograph {_size(path)}; replace the wrong one")
    return Sample(path, path.parent.parent.name.removeprefix(_PREFIX), group, file_sha256(path), mask_path=mask)


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise DatasetError(
            f"{path} is not named exp<exposure>_num_<number>, so its tile is unknown; rename or remove it"
        )
    return int(match[1])


def _groups(numbers: dict[Path, int]) -> dict[Path, str]:
    groups: dict[Path, str] = {}
    first = last = -_LARGEST_STEP - 1
    for path, number in sorted(numbers.items(), key=lambda item: (item[1], item[0].as_posix())):
        if number - last > _LARGEST_STEP:
            first = number
        groups[path] = f"tiles from {first}"
        last = number
    return groups


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is damaged ({error}); copy it again or remove it with its partner") from error
