"""Layouts of the Kolektor surface-defect sets: `kolektor-sdd` (Tabernik et al., 2020), `kos<NN>/Part<N>.jpg` with its
mask `Part<N>_label.bmp`, and `kolektor-sdd2` (Bozic et al., 2021), `train/<N>.png` with its mask `train/<N>_GT.png`.

An image whose mask is empty is good; the others are of the class "defect". The eight photographs of one item stay
together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inspection_models.data.dataset import GOOD, DatasetError
from inspection_models.data.files import folders_in, images_in, part_named
from inspection_models.data.markings import read_mask
from inspection_models.data.reading import Findings, Reading

if TYPE_CHECKING:
    from pathlib import Path

_DEFECT = "defect"
_ITEM = re.compile(r"kos\d+", re.IGNORECASE)
_LABEL_END, _TRUTH_END = "_label", "_GT"


class KolektorSdd:
    """Layout `kolektor-sdd`."""

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether folders of items with masks lie here."""
        return any(_masks(images_in(folder), _LABEL_END) for folder in _items(root))

    @staticmethod
    def read(root: Path) -> Reading:
        """All samples. Raises `DatasetError` for an image without a mask, the other way round, or a damaged mask."""
        findings = Findings(root)
        for folder in _items(root):
            _read_pairs(findings, images_in(folder), _LABEL_END, group=folder.name)
        return findings.reading()


class KolektorSdd2:
    """Layout `kolektor-sdd2`."""

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether the folder of a part has masks beside images."""
        return any(_masks(images_in(folder), _TRUTH_END) for folder in _part_folders(root))

    @staticmethod
    def read(root: Path) -> Reading:
        """All samples. Raises `DatasetError` for an image without a mask, the other way round, or a damaged mask."""
        findings = Findings(root)
        for folder in _part_folders(root):
            strays = [path for path in images_in(folder) if f"{_TRUTH_END} " in path.stem]
            if strays:
                findings.note(f"{len(strays)} copies of masks in {folder.name}/ are left out, {strays[0].name} first")
            images = [path for path in images_in(folder) if path not in strays]
            _read_pairs(findings, images, _TRUTH_END, part=part_named(folder.name))
        return findings.reading()


def _items(root: Path) -> list[Path]:
    return [folder for folder in folders_in(root) if _ITEM.fullmatch(folder.name)]


def _part_folders(root: Path) -> list[Path]:
    return [folder for folder in folders_in(root) if part_named(folder.name)]


def _masks(images: list[Path], end: str) -> dict[str, Path]:
    return {path.stem.removesuffix(end): path for path in images if path.stem.endswith(end)}


def _read_pairs(
    findings: Findings, images: list[Path], end: str, *, group: str | None = None, part: str | None = None
) -> None:
    masks = _masks(images, end)
    for path in images:
        if path.stem.endswith(end):
            continue
        mask = masks.pop(path.stem, None)
        if mask is None:
            findings.problems.add(f"{path} has no mask {path.stem}{end}; add it or remove the image")
            continue
        findings.use(mask)
        try:
            marked = read_mask(mask).any()
        except DatasetError as error:
            findings.problems.add(str(error))
            continue
        findings.add(path, [_DEFECT if marked else GOOD], group=group, part=part, mask_path=mask if marked else None)
    for mask in masks.values():
        findings.problems.add(f"{mask} is a mask without its image; remove it or add the image")
