"""Layout `image-folder`: one folder per class, `<root>/<class>/*` or `<root>/images/<class>/*`.

A given split has a folder per part about them: `<root>/train/<class>/*`, `<root>/val/<class>/*`, `<root>/test/...`.
Masks, where there are any, have the image's stem: `<root>/masks/<class>/<stem>.png`. Equal files are one group; what
else belongs together cannot be seen in this layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection_models.data.files import files_with, folders_in, images_in, part_named
from inspection_models.data.reading import Findings, Reading
from inspection_models.images import SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path

_MASKS = "masks"


def fits(root: Path) -> bool:
    """Whether at least two folders of images lie here, or one for each part of a split."""
    image_root = _image_root(root)
    folders = [folder for part_root in _parts(image_root).values() for folder in folders_in(part_root)]
    return len({folder.name for folder in folders if any(images_in(folder))}) >= 2


def read(root: Path) -> Reading:
    """All samples.

    Raises:
        DatasetError: a class folder is empty, has folders in it or is named like a part of a split; a mask without
            its image.
    """
    findings = Findings(root)
    image_root = _image_root(root)
    for part, part_root in _parts(image_root).items():
        for folder in folders_in(part_root):
            if folder.name == _MASKS and part_root == root:
                continue
            _read_class(findings, folder, part or None)
    if (root / _MASKS).is_dir():
        for folder in folders_in(root / _MASKS):
            for mask in files_with(folder, ".png"):
                if mask not in findings.used:
                    findings.problems.add(
                        f"{mask} is a mask without an image of its class and stem; remove it or add the image"
                    )
    return findings.reading()


def _read_class(findings: Findings, folder: Path, part: str | None) -> None:
    if part is None and part_named(folder.name):
        findings.problems.add(
            f"{folder} is named like a part of a split, not like a class; give each part a folder per class"
        )
        return
    if inner := folders_in(folder):
        findings.problems.add(f"{inner[0]} lies within a class folder; put the images right into {folder}")
    images = images_in(folder)
    if not images:
        findings.problems.add(
            f"{folder} has no image in it; remove the folder or add images ({', '.join(sorted(SUFFIXES))})"
        )
    masks = findings.root / _MASKS / folder.name
    for path in images:
        mask = masks / f"{path.stem}.png"
        findings.add(path, [folder.name], part=part, mask_path=mask if mask.is_file() else None)


def _image_root(root: Path) -> Path:
    images = root / "images"
    return images if images.is_dir() and any(folders_in(images)) else root


def _parts(root: Path) -> dict[str, Path]:
    """The folders that hold class folders, by part; the root itself, for no part, where it is not split."""
    folders = [folder for folder in folders_in(root) if folder.name != _MASKS]
    named = {part: folder for folder in folders if (part := part_named(folder.name))}
    split = len(named) == len(folders) and any(any(folders_in(folder)) for folder in named.values())
    return named if split else {"": root}
