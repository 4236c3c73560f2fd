"""Layout `image-folder`: one folder per class, `<root>/<class>/*` or `<root>/images/<class>/*`.

Masks, where there are any, have the image's stem: `<root>/masks/<class>/<stem>.png`. Equal files are one group; what
else belongs together cannot be seen in this layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data.dataset import DatasetError, Sample, file_sha256
from inspection_models.images import SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "trainval"})
_MASKS = "masks"


def fits(root: Path) -> bool:
    """Whether at least two folders of images lie here and none of the folders belongs to another layout."""
    if any((folder / "Imgs").is_dir() or folder.name.upper() == "ANNOTATIONS" for folder in _folders(root)):
        return False
    return sum(any(map(_is_image, folder.iterdir())) for folder in _folders(_image_root(root))) >= 2


def read(root: Path) -> tuple[list[Sample], list[str]]:
    """All samples, and the files that are no images.

    Raises:
        DatasetError: a class folder is empty, has folders in it or is named like a part of a split; a mask without
            its image.
    """
    samples: list[Sample] = []
    image_root = _image_root(root)
    ignored = [path.relative_to(root).as_posix() for path in root.iterdir() if path.is_file()]
    for folder in _folders(image_root):
        if folder.name == _MASKS and image_root == root:
            continue
        found, others = _read_class(folder, root / _MASKS / folder.name)
        samples += found
        ignored += [path.relative_to(root).as_posix() for path in others]
    _check_masks(root, samples)
    return samples, ignored


def _read_class(folder: Path, masks: Path) -> tuple[list[Sample], list[Path]]:
    if folder.name.lower() in _SPLITS:
        raise DatasetError(f"{folder} is named like a part of a split, not like a class; give the folder above classes")
    entries = sorted(folder.iterdir())
    if inner := [path for path in entries if path.is_dir() and not path.name.startswith(".")]:
        raise DatasetError(f"{inner[0]} lies within a class folder; put the images right into {folder}")
    samples = []
    for path in filter(_is_image, entries):
        digest = file_sha256(path)
        mask = masks / f"{path.stem}.png"
        samples.append(Sample(path, folder.name, digest, digest, mask_path=mask if mask.is_file() else None))
    if not samples:
        raise DatasetError(
            f"{folder} has no image in it; remove the folder or add images ({', '.join(sorted(SUFFIXES))})"
        )
    return samples, [path for path in entries if path.is_file() and not _is_image(path)]


def _check_masks(root: Path, samples: list[Sample]) -> None:
    used = {sample.mask_path for sample in samples}
    stray = [path for path in sorted((root / _MASKS).glob("*/*.png")) if path not in used]
    if stray:
        raise DatasetError(f"{stray[0]} is a mask without an image of its class and stem; remove it or add the image")


def _image_root(root: Path) -> Path:
    images = root / "images"
    return images if images.is_dir() and any(_folders(images)) else root


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
