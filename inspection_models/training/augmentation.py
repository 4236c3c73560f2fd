"""Random changes of an inspection image, and of the marks on it, that leave its class as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TURN, _SHIFT, _SMALLEST, _LARGEST = 6.0, 0.05, 0.92, 1.08
_CONTRAST, _BRIGHTNESS, _GAMMA = (0.85, 1.18), 19.0, (0.85, 1.18)
_MOVED, _LIT, _CURVED = 0.7, 0.6, 0.3
_NOISE = (2.5, 7.5)


@dataclass(frozen=True)
class Augmentation:
    """How images are changed.

    A part lies a little shifted, turned, nearer or farther; exposure and contrast drift; a camera is a little out of
    focus, or noisy. Colours are left alone, and so are large parts of the image: a defect must not be cut out. Nothing
    is remembered between two images: all chance comes from the generator that is given, so a training that was broken
    off goes on with the same changes.

    Attributes:
        flips: also mirror along both axes.
        fill: RGB, 0 to 255, of what a shift uncovers: that of the letterbox's padding.
    """

    flips: bool
    fill: tuple[float, float, float]

    def __call__(
        self, pixels: NDArray[np.uint8], marks: NDArray[np.uint8] | None, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Change an image uint8 [H, W, 3] and, by the same movement, its marks uint8 [H, W, D], if it has any."""
        matrix = self._movement(pixels.shape[1], pixels.shape[0], rng)
        size = (pixels.shape[1], pixels.shape[0])
        moved = cv2.warpAffine(pixels, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=self.fill)
        light = _light(moved, rng)
        if marks is None:
            return light, None
        moved_marks = cv2.warpAffine(marks, matrix, size, flags=cv2.INTER_NEAREST)
        return light, moved_marks.reshape(marks.shape).astype(np.uint8, copy=False)

    def _movement(self, width: int, height: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """An affine map [2, 3] from pixels before to pixels after, about the middle of the image."""
        moves = rng.random() < _MOVED
        turn = math.radians(rng.uniform(-_TURN, _TURN)) * moves
        scale = math.exp(rng.uniform(math.log(_SMALLEST), math.log(_LARGEST)) * moves)
        shift = rng.uniform(-_SHIFT, _SHIFT, 2) * (width * moves, height * moves)
        mirror = np.where(rng.random(2) < 0.5, -1.0, 1.0) if self.flips else np.ones(2)
        turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        linear = scale * turned @ np.diag(mirror)
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        return np.column_stack([linear, middle + shift - linear @ middle])


def _light(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure, contrast and gamma, and blur or noise."""
    lit, curved = rng.random(2) < (_LIT, _CURVED)
    contrast = math.exp(rng.uniform(math.log(_CONTRAST[0]), math.log(_CONTRAST[1])) * lit)
    brightness = rng.uniform(-_BRIGHTNESS, _BRIGHTNESS) * lit
    gamma = math.exp(rng.uniform(math.log(_GAMMA[0]), math.log(_GAMMA[1])) * curved)
    levels = np.clip((np.arange(256) - 127.5) * contrast + 127.5 + brightness, 0, 255)
    levels = 255 * (levels / 255) ** gamma
    values: NDArray[np.float32] = levels.astype(np.float32)[pixels]
    height, width = pixels.shape[:2]
    chance = rng.random()
    if chance < 0.15:
        values = cv2.GaussianBlur(values, (3, 3), 0).reshape(pixels.shape)
    elif chance < 0.3:
        # One draw for the three channels, for most inspection cameras are grey.
        noise = rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(*_NOISE))
        values = values + noise
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
