"""From an image's pixels to a network's input, and from the network's grid back to the image.

Coordinates are continuous: pixel (row 0, column 0) covers [0, 1) x [0, 1) and has its centre at (0.5, 0.5). Axis by
axis, ``network = image * scale + offset``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import cv2
import numpy as np
import torch

from inspection_models.images import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float32])


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network's input.

    Attributes:
        image_size: (height, width) of the image in pixels.
        network_size: (height, width) of the network's input in pixels.
        scale: (y, x), network pixels an image pixel.
        offset: (y, x) of the image's top left corner in network pixels; whole numbers.
    """

    image_size: tuple[int, int]
    network_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[int, int]

    @property
    def content_size(self) -> tuple[int, int]:
        """(height, width) of the image within the network's input, in whole network pixels."""
        return (round(self.image_size[0] * self.scale[0]), round(self.image_size[1] * self.scale[1]))

    def map_to_image(self, attribution: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cut the padding off a map [H, W] on the network's grid and resample it to the image's [h, w].

        Raises:
            ValueError: the map has not the network's size.
        """
        if attribution.shape != self.network_size:
            raise ValueError(
                f"the map is {attribution.shape}, the network's input {self.network_size}; upsample it to that first"
            )
        return resample(self.content_of(attribution), self.image_size)

    def content_of(self, attribution: NDArray[np.float32]) -> NDArray[np.float32]:
        """The part of a map [H, W] on the network's grid that the image covers, `content_size`: float32."""
        (top, left), (height, width) = self.offset, self.content_size
        return np.asarray(attribution[top : top + height, left : left + width], np.float32)

    def points_to_image(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [..., 2] as (x, y) from network pixels to image pixels."""
        return (np.asarray(xy, np.float64) - self._offset_xy) / self._scale_xy

    def points_to_network(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [..., 2] as (x, y) from image pixels to network pixels."""
        return np.asarray(xy, np.float64) * self._scale_xy + self._offset_xy

    @property
    def _scale_xy(self) -> NDArray[np.float64]:
        return np.array(self.scale[::-1], np.float64)

    @property
    def _offset_xy(self) -> NDArray[np.float64]:
        return np.array(self.offset[::-1], np.float64)


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its images.

    Attributes:
        mode: ``letterbox`` keeps the aspect ratio and pads; ``resize`` stretches both axes to the size.
        size: (height, width) of the network's input.
        mean: subtracted from each RGB channel, on the 0..255 scale.
        std: each channel is divided by it afterwards.
        fill: RGB of the letterbox's padding on the 0..255 scale; None pads with the mean, which is 0 for the network.
    """

    mode: Literal["letterbox", "resize"]
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("letterbox", "resize"):
            raise ValueError(f"preprocessing mode is {self.mode!r}; it must be 'letterbox' or 'resize'")
        if min(self.size) < 1:
            raise ValueError(f"preprocessing size is {self.size}; height and width must be at least 1")
        if not min(self.std) > 0:
            raise ValueError(f"preprocessing std is {self.std}; each value must be above 0")

    def placement(self, image_size: tuple[int, int]) -> Placement:
        """Where an image of (height, width) pixels comes to lie.

        Raises:
            ImageError: a side is below one pixel.
        """
        if min(image_size) < 1:
            raise ImageError(f"an image of {image_size[1]} x {image_size[0]} pixels shows nothing")
        (height, width), (rows, columns) = image_size, self.size
        if self.mode == "resize":
            return Placement(image_size, self.size, (rows / height, columns / width), (0, 0))
        factor = min(rows / height, columns / width)
        # The content is a whole number of pixels, so each axis gets the scale that this rounding leaves it with.
        content = (min(rows, max(1, round(height * factor))), min(columns, max(1, round(width * factor))))
        return Placement(
            image_size,
            self.size,
            (content[0] / height, content[1] / width),
            ((rows - content[0]) // 2, (columns - content[1]) // 2),
        )

    def fit(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Placement]:
        """Bring an image uint8 [h, w, 3] to float32 [H, W, 3] on the 0..255 scale, not yet normalised."""
        placement = self.placement((pixels.shape[0], pixels.shape[1]))
        content = resample(pixels, placement.content_size)
        canvas = np.empty((*self.size, 3), np.float32)
        canvas[:] = self.mean if self.fill is None else self.fill
        (top, left), (height, width) = placement.offset, placement.content_size
        canvas[top : top + height, left : left + width] = content
        return canvas, placement

    def normalise(self, fitted: NDArray[np.float32]) -> torch.Tensor:
        """Turn float32 [H, W, 3] on the 0..255 scale into the network's float32 [3, H, W]: (x - mean) / std."""
        normalised = (fitted - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))

    def apply(self, pixels: NDArray[np.uint8]) -> tuple[torch.Tensor, Placement]:
        """Turn an image into a network input.

        Args:
            pixels: uint8 [h, w, 3], RGB.

        Returns:
            The input, float32 [3, H, W], and where the image lies in it.

        Raises:
            ImageError: the pixels are not a uint8 RGB image.
        """
        check_pixels(pixels)
        fitted, placement = self.fit(pixels)
        return self.normalise(fitted), placement


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    """Raise `ImageError` where an image is not a uint8 array [height, width, 3]."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ImageError(f"an image must be a uint8 array [height, width, 3] in RGB, this is {found}")


def resample(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize [h, w] or [h, w, C] to (height, width): each axis by area where it shrinks, bilinear where it grows."""
    height, width = pixels.shape[:2]
    # With one axis growing, OpenCV's area mode is no longer an area mean; so axes that shrink go first, by themselves.
    shrunk = (min(height, size[0]), min(width, size[1]))
    if shrunk != (height, width):
        pixels = cv2.resize(pixels, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != size:
        pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return pixels
