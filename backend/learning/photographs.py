"""The photographs that inspectors judged, fetched once and kept by the hash of their file."""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from backend.label_studio.image_source import ImageSource
    from db.lessons import JudgedImage

_SUFFIXES = {
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/tiff": ".tif",
    "image/webp": ".webp",
}


class ReplacedImageError(RuntimeError):
    """Another file lies at a photograph's address than the one that was judged."""


class Photographs:
    """A folder of photographs named by their hashes, filled from where tasks say they are.

    Args:
        folder: made when the first one is kept.
        source: reads task images within the desk's bounds.
    """

    def __init__(self, folder: Path, source: ImageSource) -> None:
        self._folder = folder
        self._source = source

    def find(self, image: JudgedImage) -> Path | None:
        """The file, unharmed; None where it is not kept."""
        path = self._path(image)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        return path if hashlib.sha256(content).hexdigest() == image.sha256 else None

    def fetch(self, image: JudgedImage, address: str, task_id: int | None) -> Path:
        """Fetch the file from a task's address and keep it.

        Raises:
            ReplacedImageError: another file is there.
            ImageSourceError: it cannot be read.
            OSError: it cannot be kept.
        """
        fetched = self._source.fetch(address, task_id=task_id)
        if fetched.sha256 != image.sha256:
            raise ReplacedImageError(f"another file lies at {fetched.uri} by now than the one that was judged")
        path = self._path(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{uuid.uuid4().hex}")
        try:
            with unfinished.open("xb") as file:
                file.write(fetched.data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    def _path(self, image: JudgedImage) -> Path:
        return self._folder / image.sha256[:2] / f"{image.sha256}{_SUFFIXES.get(image.media_type, '')}"
