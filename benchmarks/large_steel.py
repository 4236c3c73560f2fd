"""Synthetic photographs of steel strip, 4,000 pixels wide, with one small defect each or none.

No photograph went into them; every pixel follows from the seed. The defects are those of the demonstration set, painted
small; the strip has oxide mottle of all sizes, rolling streaks, and specks of dust that are no defects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from inspection_models.data import steel_texture as texture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = (3000, 4000)
CLASSES = ("good", "inclusion", "patches", "pitted_surface")
# Side in pixels of the canvas that a defect of about 20 pixels is painted on, and its painter.
_PAINTERS: dict[str, tuple[int, Callable[..., NDArray[np.float32]]]] = {
    "inclusion": (64, texture.paint_inclusion),
    "patches": (72, texture.paint_patches),
    "pitted_surface": (72, texture.paint_pitted_surface),
}
_PAINTED = 0.3
# Extents in pixels that count as a defect of 20.
_EXTENT = (14, 28)
_DUST = 400


@dataclass(frozen=True)
class Photograph:
    """One photograph.

    Attributes:
        label: one of `CLASSES`.
        pixels: uint8 [H, W], grey.
        mask: bool [H, W], true on the defect.
    """

    label: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def make_photograph(
    label: str, seed: int, index: int, *, size: tuple[int, int] = SIZE, scale: float = 1.0
) -> Photograph:
    """One photograph of (height, width) pixels, with a defect of about 20 x `scale` pixels unless it is good."""
    rng = np.random.default_rng([seed, CLASSES.index(label), index])
    canvas = _strip(rng, size)
    mask = np.zeros(size, np.bool_)
    if label != "good":
        side, painter = _PAINTERS[label]
        side = round(side * scale)
        top, left = (int(rng.integers(0, length - side)) for length in size)
        patch = canvas[top : top + side, left : left + side]
        while True:
            painted = patch.copy()
            found = painter(rng, painted, rng.uniform(0.6, 1.1)) > _PAINTED
            if _EXTENT[0] * scale <= _extent(found) <= _EXTENT[1] * scale:
                break
        patch[:] = painted
        mask[top : top + side, left : left + side] = found
    blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 0.8))
    noisy = blurred + rng.uniform(1.5, 4) * rng.standard_normal(size, dtype=np.float32)
    return Photograph(label, np.clip(np.rint(noisy), 0, 255).astype(np.uint8), mask)


def write_photographs(
    directory: Path, counts: Iterable[tuple[str, int]], seed: int, *, size: tuple[int, int] = SIZE
) -> None:
    """Write so many photographs of each class as an image folder with masks; what is there already is kept."""
    for label, count in counts:
        for index in range(count):
            path = directory / "images" / label / f"{label}_{index:04d}.jpg"
            if path.is_file():
                continue
            made = make_photograph(label, seed, index, size=size)
            if label != "good":
                mask = directory / "masks" / label / f"{path.stem}.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(made.mask).save(mask)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(made.pixels).save(path, quality=92)


def _strip(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    canvas = np.full(size, rng.uniform(105, 160), np.float32)
    mottle, grain = rng.uniform(4, 8), 800.0
    while grain >= 3:
        octave = rng.standard_normal((max(2, round(height / grain)) + 2, max(2, round(width / grain)) + 2))
        grown = cv2.resize(octave.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        canvas += mottle * grown
        grain, mottle = grain / 2, mottle * 0.75
    streaks = cv2.GaussianBlur(rng.standard_normal((height, 1)).astype(np.float32), (1, 0), 0, sigmaY=rng.uniform(1, 3))
    canvas += rng.uniform(2, 6) * streaks / max(float(streaks.std()), 1e-6)
    canvas += rng.uniform(-12, 12) * np.linspace(-1, 1, width, dtype=np.float32)
    for _ in range(rng.poisson(_DUST * height * width / (SIZE[0] * SIZE[1]))):
        y, x = int(rng.integers(4, height - 4)), int(rng.integers(4, width - 4))
        offsets = np.arange(-4, 5) ** 2
        speck = np.exp(-(offsets[:, None] + offsets) / rng.uniform(0.8, 1.8) ** 2)
        canvas[y - 4 : y + 5, x - 4 : x + 5] += rng.choice([-1, 1]) * rng.uniform(20, 60) * speck.astype(np.float32)
    return canvas


def _extent(mask: NDArray[np.bool_]) -> int:
    """The longer side of the mask's bounding box; 0 where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(max(np.ptp(rows), np.ptp(columns))) + 1 if len(rows) else 0
