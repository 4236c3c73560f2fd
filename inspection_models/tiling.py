"""Where a large image is cut into tiles, so that a small defect is not lost when it is made the network's size.

Tiles stand in rows and columns. Along each axis they are spread evenly from edge to edge, so the outermost end where
the image does, and neighbours share at least `overlap` pixels. With p the places of the tiles along an axis and s their
length, p_(i+1) - p_i <= s - overlap; so whatever is no longer than the overlap lies whole in some tile: in the last one
that begins before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from inspection_models.images import ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Value = TypeVar("Value", bound=np.generic)

MAX_TILES = 4096
"""The most tiles that an image is cut into: about a minute of a small network on two cores."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image, in its pixels: rows top to top + height, columns left to left + width."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The row below its last one."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column after its last one."""
        return self.left + self.width

    def meets(self, other: Tile) -> bool:
        """Whether the two share a pixel."""
        return (
            self.top < other.bottom and other.top < self.bottom and self.left < other.right and other.left < self.right
        )

    def cut(self, values: NDArray[Value]) -> NDArray[Value]:
        """Its part of [H, W, ...], without a copy."""
        return values[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Tiling:
    """How large images are looked at.

    Attributes:
        size: (height, width) of a tile in image pixels; it is brought to the network's input as a whole image would be.
        overlap: pixels that neighbouring tiles share at least: from an eighth, lest their maps meet in a seam, to half
            of a tile's shorter side.
        overview: whether the whole image is looked at, too, as one more tile: for defects larger than a tile.
        growth: by how many logits the largest margin of many tiles grows by chance with the natural logarithm of their
            number; see `tile_decisions.merge_logits`.
    """

    size: tuple[int, int]
    overlap: int
    overview: bool = False
    growth: float = 0.0

    def __post_init__(self) -> None:
        if min(self.size) < 32:
            raise ValueError(f"tiles of {self.size} pixels are too small; height and width must be at least 32")
        if not min(self.size) // 8 <= self.overlap <= min(self.size) // 2:
            raise ValueError(
                f"tiles of {self.size} pixels share {self.overlap}; it must be from an eighth to half of a side"
            )
        if not math.isfinite(self.growth):
            raise ValueError(f"the growth of margins is {self.growth}; it must be a number")

    def tiles(self, image_size: tuple[int, int]) -> tuple[Tile, ...]:
        """The tiles of an image of (height, width) pixels, row by row; just the image itself where it fits in one.

        Raises:
            ImageError: the image has no pixels, or would take more than `MAX_TILES`.
        """
        if min(image_size) < 1:
            raise ImageError(f"an image of {image_size[1]} x {image_size[0]} pixels shows nothing")
        rows, columns = (
            _starts(length, side, self.overlap) for length, side in zip(image_size, self.size, strict=True)
        )
        if len(rows) * len(columns) > MAX_TILES:
            raise ImageError(
                f"the image of {image_size[1]} x {image_size[0]} pixels would take {len(rows) * len(columns)} tiles of "
                f"{self.size[1]} x {self.size[0]}, the limit is {MAX_TILES}; shrink it as the model's training images "
                "were, or train a model on larger tiles"
            )
        height, width = (min(length, side) for length, side in zip(image_size, self.size, strict=True))
        return tuple(Tile(top, left, height, width) for top in rows for left in columns)

    def views(self, image_size: tuple[int, int]) -> tuple[Tile, ...]:
        """All that the network is shown of an image: its tiles and then, where it has several, the overview.

        Raises:
            ImageError: as `tiles`.
        """
        tiles = self.tiles(image_size)
        return (*tiles, Tile(0, 0, *image_size)) if self.overview and len(tiles) > 1 else tiles


def _starts(length: int, side: int, overlap: int) -> tuple[int, ...]:
    """Where tiles begin along an axis."""
    if length <= side:
        return (0,)
    room = length - side
    steps = -(-room // (side - overlap))
    return tuple(room * step // steps for step in range(steps + 1))
