"""Layout `mvtec-ad` (Bergmann, Fauser, Sattlegger and Steger, CVPR, 2019), one category: `train/good/NNN.png`,
`test/good/NNN.png`, `test/<defect>/NNN.png` and the mask `ground_truth/<defect>/NNN_mask.png` (or `NNN.png`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data.dataset import GOOD
from inspection_models.data.files import folder_named, folders_in, images_in
from inspection_models.data.reading import Findings, Reading

if TYPE_CHECKING:
    from pathlib import Path

_MASK_END = "_mask"


def fits(root: Path) -> bool:
    """Whether a category lies here, or several categories do."""
    return _is_category(root) or len(_categories(root)) > 1


def read(root: Path) -> Reading:
    """All samples of a category.

    Raises:
        DatasetError: several categories lie here; a defect without its mask, or a mask without its image.
    """
    findings = Findings(root)
    if not _is_category(root):
        names = [folder.name for folder in _categories(root)]
        findings.problems.add(
            f"{root} holds the categories {', '.join(names)}, each a data set of its own; give one of their folders"
            if names
            else f"{root} lacks train/good and test/; give the folder of a category"
        )
        return findings.reading()
    for part in ("train", "test"):
        for folder in folders_in(root / part):
            images = images_in(folder)
            if not images:
                findings.problems.add(f"{folder} has no image in it; remove the folder or add its images")
            masks = {} if folder.name == GOOD else _masks(root, folder.name)
            for path in images:
                mask = masks.pop(path.stem, None)
                if mask is None and folder.name != GOOD and folder_named(root, "ground_truth"):
                    findings.problems.add(
                        f"{path} has no mask ground_truth/{folder.name}/{path.stem}{_MASK_END}.png; add it"
                    )
                findings.add(path, [folder.name], part=part, mask_path=mask)
            for mask in masks.values():
                findings.problems.add(f"{mask} is a mask without an image in {folder}; remove it or add the image")
    return findings.reading()


def _is_category(root: Path) -> bool:
    train, test = root / "train", root / "test"
    return train.is_dir() and test.is_dir() and [folder.name for folder in folders_in(train)] == [GOOD]


def _categories(root: Path) -> list[Path]:
    return [folder for folder in folders_in(root) if _is_category(folder)]


def _masks(root: Path, defect: str) -> dict[str, Path]:
    """Masks of a kind of defect by the stem of their image."""
    folder = root / "ground_truth" / defect
    return {path.stem.removesuffix(_MASK_END): path for path in images_in(folder)} if folder.is_dir() else {}
