"""Small data sets in the layouts on disk, and the real ones where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

XML = """<annotation>
  <folder>cr</folder><filename>{filename}</filename>
  <size><width>{width}</width><height>{height}</height><depth>1</depth></size>
  {objects}
</annotation>"""
OBJECT = """<object><name>{name}</name><bndbox>
  <xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def real_data(name: str) -> Path:
    """The folder of a real data set beside the repository; the test is skipped where it is absent, in CI it fails."""
    folder = REAL_DATA / name
    if not folder.is_dir():
        message = f"the real photographs of {name} are not at ../shared/data"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


def write_image(path: Path, seed: int, size: tuple[int, int] = (12, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8)).save(path)
    return path


def image_folder(root: Path, counts: dict[str, int], *, beneath: str = "") -> Path:
    for number, (label, count) in enumerate(counts.items()):
        for index in range(count):
            write_image(root / beneath / label / f"{index:03d}.png", 1000 * number + index)
    return root


def magnetic_tile(root: Path, names: dict[str, list[str]]) -> Path:
    for number, (label, stems) in enumerate(names.items()):
        for index, stem in enumerate(stems):
            folder = root / f"MT_{label}" / "Imgs"
            write_image(folder / f"{stem}.jpg", 1000 * number + index)
            write_image(folder / f"{stem}.png", 5)
    return root


def neu_det(root: Path, boxes: dict[str, list[tuple[str, tuple[int, int, int, int]]]]) -> Path:
    (root / "ANNOTATIONS").mkdir(parents=True)
    for number, (stem, entries) in enumerate(boxes.items()):
        write_image(root / "IMAGES" / f"{stem}.jpg", number)
        objects = "".join(OBJECT.format(name=name, box=box) for name, box in entries)
        text = XML.format(filename=stem, width=16, height=12, objects=objects)
        (root / "ANNOTATIONS" / f"{stem}.xml").write_text(text)
    return root


def write_mask(path: Path, marked: bool = True, value: int = 255, size: tuple[int, int] = (12, 16)) -> Path:
    """A mask whose rows 2 to 4 and columns 3 to 7 are marked, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[2:5, 3:8] = value if marked else 0
    Image.fromarray(mask).save(path)
    return path


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_voc(path: Path, objects: list[tuple[str, tuple[float, ...]]], size: tuple[int, int] = (12, 16)) -> Path:
    entries = "".join(OBJECT.format(name=name, box=box) for name, box in objects)
    return write_text(path, XML.format(filename=path.stem, width=size[1], height=size[0], objects=entries))
