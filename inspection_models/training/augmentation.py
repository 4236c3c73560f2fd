"""Random changes of an inspection image that leave its class as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def augmentation(
    *, flips: bool, fill: tuple[float, float, float], seed: int
) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """A function from uint8 [H, W, 3] to the same, that gives the same sequence of changes for the same seed.

    Exposure and contrast drift, a camera shakes or is out of focus, a part lies a little shifted or turned. Colours are
    left alone, and so are large parts of the image: a defect must not be cut out.

    Args:
        flips: also mirror along both axes.
        fill: RGB, 0 to 255, of what a shift uncovers: that of the letterbox's padding.
        seed: of the sequence.
    """
    import albumentations  # noqa: PLC0415 - its import takes seconds, and only training needs it

    mirror = [albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)] if flips else []
    pipeline = albumentations.Compose(
        [
            *mirror,
            albumentations.Affine(
                translate_percent=(-0.05, 0.05),
                scale=(0.92, 1.08),
                rotate=(-6, 6),
                border_mode=cv2.BORDER_CONSTANT,
                fill=fill,
                p=0.7,
            ),
            albumentations.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=0.6),
            albumentations.RandomGamma(gamma_limit=(85, 118), p=0.3),
            albumentations.OneOf(
                [albumentations.GaussianBlur(blur_limit=(3, 3)), albumentations.GaussNoise(std_range=(0.01, 0.03))],
                p=0.3,
            ),
        ],
        seed=seed,
    )

    def augment(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        changed: NDArray[np.uint8] = pipeline(image=pixels)["image"]
        return changed

    return augment
