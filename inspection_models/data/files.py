"""Finding files and folders of a data set, whatever case their names are in and whatever a system left between them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from inspection_models.images import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable

_PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
# Folders that programs for archives leave behind.
_JUNK_FOLDERS = frozenset({"__macosx"})


def part_named(name: str) -> str | None:
    """The part of a split that a word means, or None: "val" and "Valid" mean "validation"."""
    return _PARTS.get(name.strip().lower())


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image; a broken link counts, so that it is told of and not passed over."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and (path.is_file() or path.is_symlink())


def images_in(folder: Path) -> list[Path]:
    """The images right in a folder, sorted."""
    return sorted(filter(is_image, folder.iterdir()))


def folders_in(folder: Path) -> list[Path]:
    """The folders right in a folder, sorted, without hidden ones."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name.lower() not in _JUNK_FOLDERS
    )


def folder_named(folder: Path, *names: str) -> Path | None:
    """The first of the named folders that lies here, in any case."""
    if not folder.is_dir():
        return None
    here = {path.name.lower(): path for path in folders_in(folder)}
    return next((here[name.lower()] for name in names if name.lower() in here), None)


def file_named(folder: Path, *names: str) -> Path | None:
    """The first of the named files that lies here, in any case."""
    if not folder.is_dir():
        return None
    here = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    return next((here[name.lower()] for name in names if name.lower() in here), None)


def files_with(folder: Path, suffix: str) -> list[Path]:
    """The files right in a folder whose names end so, in any case, sorted, without hidden ones."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == suffix and not path.name.startswith(".") and path.is_file()
    )


def files_below(root: Path) -> list[Path]:
    """All files at any depth, sorted, without those in hidden folders."""
    found: list[Path] = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".") and name.lower() not in _JUNK_FOLDERS]
        found += [Path(folder, name) for name in names]
    return sorted(found)


def images_below(root: Path) -> list[Path]:
    """All images at any depth, sorted."""
    return list(filter(is_image, files_below(root)))


def some(names: Iterable[str], most: int = 3) -> str:
    """The first of some names, and how many others there are, for a message."""
    listed = list(names)
    others = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {others} more" if others > 0 else "")
