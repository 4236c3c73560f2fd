"""A synthetic data set of steel strip, for demonstration: good and six defect classes with exact masks.

No photograph went into it; every pixel follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from inspection_models.data import steel_texture as texture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

GOOD = "good"
NOTICE = "Synthetic steel strip made by a program for demonstration; not a photograph."
_README = f"""{NOTICE}

images/<class>/*.png   8-bit grey images: good and six defect classes
masks/<class>/*.png    255 where the defect was painted, 0 elsewhere, for every image that is not good

For crazing, pitted_surface and rolled_in_scale a mask covers the affected area: what was painted, its gaps closed.
Made with seed {{seed}}, {{per_class}} images a class, {{size}} x {{size}} pixels. The class names are common ones for
hot-rolled strip; how often a defect occurs and what it looks like follow from the program and not from any mill.
"""

_PAINTERS: dict[str, Callable[[Generator, NDArray[np.float32], float], NDArray[np.float32]]] = {
    "crazing": texture.paint_crazing,
    "inclusion": texture.paint_inclusion,
    "patches": texture.paint_patches,
    "pitted_surface": texture.paint_pitted_surface,
    "rolled_in_scale": texture.paint_rolled_in_scale,
    "scratches": texture.paint_scratches,
}
CLASSES = (GOOD, *_PAINTERS)
# Width of the gaps, as a part of the image's side, that belong to the affected area of a defect made of many marks.
_GAPS = {"crazing": 0.08, "pitted_surface": 0.09, "rolled_in_scale": 0.08}
_PAINTED = 0.3


@dataclass(frozen=True)
class SteelImage:
    """One image of the set.

    Attributes:
        label: one of `CLASSES`.
        pixels: uint8 [S, S], grey.
        mask: bool [S, S], true on the defect; all false for good.
    """

    label: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def make_steel(label: str, size: int, seed: int, index: int) -> SteelImage:
    """Make one image; it depends on these arguments alone, so a larger set begins with the images of a smaller one.

    Args:
        label: one of `CLASSES`.
        size: side in pixels, at least 64.
        seed: of the whole set.
        index: which image of its class.

    Raises:
        ValueError: unknown label, or a size too small to show the defects.
    """
    if label not in CLASSES:
        raise ValueError(f"there is no synthetic class {label!r}; use one of {', '.join(CLASSES)}")
    if size < 64:
        raise ValueError(f"the size is {size} pixels; defects need at least 64 to be seen")
    rng = np.random.default_rng([seed, CLASSES.index(label), index])
    canvas = texture.sound_surface(rng, size)
    mask: NDArray[np.bool_] = np.zeros((size, size), np.bool_)
    if label != GOOD:
        opacity = _PAINTERS[label](rng, canvas, rng.uniform(0.45, 1.1))
        mask = _affected(opacity, label)
    return SteelImage(label, texture.photograph(rng, canvas), mask)


def write_synthetic_steel(
    directory: Path,
    *,
    per_class: int = 120,
    size: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, ...]:
    """Write a set as an image folder per class with masks and a README that says it is synthetic.

    Args:
        directory: made, with its parents; `images/<class>/` and `masks/<class>/` go into it.
        per_class: images of each of the seven classes, at least 1.
        size: side in pixels.
        seed: of the whole set.
        progress: called with (images written, images in all) after each.

    Returns:
        The images' paths, class by class.

    Raises:
        ValueError: a number is out of range.
        FileExistsError: the directory has files in it; nothing is overwritten.
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}; at least one image a class is needed")
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty; choose another directory or remove it first")
    total = per_class * len(CLASSES)
    written: list[Path] = []
    for label in CLASSES:
        for index in range(per_class):
            image = make_steel(label, size, seed, index)
            written.append(_write(directory, image, f"{label}_{index:04d}.png", seed))
            if progress is not None:
                progress(len(written), total)
    readme = _README.format(seed=seed, per_class=per_class, size=size)
    (directory / "README.txt").write_text(readme, encoding="utf-8")
    return tuple(written)


def _affected(opacity: NDArray[np.float32], label: str) -> NDArray[np.bool_]:
    painted = (opacity > _PAINTED).astype(np.uint8)
    gap = _GAPS.get(label, 0) * opacity.shape[0]
    if gap >= 2:
        side = 2 * round(gap / 2) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        # Closing must not see the border as painted ground, hence the margin.
        margin = cv2.copyMakeBorder(painted, side, side, side, side, cv2.BORDER_CONSTANT, value=0)
        painted = cv2.morphologyEx(margin, cv2.MORPH_CLOSE, disc)[side:-side, side:-side]
    return painted.astype(np.bool_)


def _write(directory: Path, image: SteelImage, name: str, seed: int) -> Path:
    path = directory / "images" / image.label / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngInfo()
    text.add_text("Description", NOTICE)
    text.add_text("Comment", f"class {image.label}, seed {seed}")
    Image.fromarray(image.pixels).save(path, pnginfo=text)
    if image.label != GOOD:
        mask_path = directory / "masks" / image.label / name
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.mask.astype(np.uint8) * 255).save(mask_path, pnginfo=text)
    return path
