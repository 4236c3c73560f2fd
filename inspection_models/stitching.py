"""One map of a large image from the maps of its tiles, without seams and on one scale.

Each tile's map says how its evidence is spread within the tile, and is 1 at its strongest place however weak that is.
Between tiles the scale is the probability that each gives the class: a tile that doubts glows faintly beside one that
is sure. Neighbours fade into each other over what they share, by weights that sum to 1 everywhere. Tiles that were not
explained count as dark, so that what an explained one shows fades out where they begin. Of the overview and the tiles
the brighter one is shown, as in the decision.

Plain elementwise numpy in a fixed order, so that a stored record renders to the same bits on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from inspection_models.preprocessing import Placement, Preprocessing
    from inspection_models.regions import Region
    from inspection_models.tiling import Tile, Tiling

MAP_PIXELS = 16_000_000
"""The most cells of a map: 64 MB of float32. A larger image has a map whose cells are several pixels wide."""

# Rows that are worked on at once: bounds what is held beside the map itself.
_BAND = 256


@dataclass(frozen=True)
class ExplainedTile:
    """A view of an image that was explained: where it lies, and the probability, 0 to 1, that it gives the class."""

    tile: Tile
    probability: float


def map_step(image_size: tuple[int, int]) -> int:
    """Side in image pixels of a cell of the map of an image of (height, width): 1 up to `MAP_PIXELS`."""
    return math.isqrt((math.prod(image_size) - 1) // MAP_PIXELS) + 1


def map_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the map; cells in the last row and column may reach beyond the image."""
    step = map_step(image_size)
    return (-(-image_size[0] // step), -(-image_size[1] // step))


def stitch(
    maps: NDArray[np.float32],
    explained: Sequence[ExplainedTile],
    tiling: Tiling,
    preprocessing: Preprocessing,
    image_size: tuple[int, int],
) -> NDArray[np.float32]:
    """The map of an image of (height, width) from the maps [K, H, W] in [0, 1] of its K explained views.

    Returns:
        Float32 [h, w] of `map_size`, in [0, 1], divided by its maximum; zero where nothing speaks for the class.
    """
    canvas = blend(maps, explained, tiling, preprocessing, image_size)
    highest = float(canvas.max())
    return canvas / np.float32(highest) if highest > 0 else canvas


def blend(
    maps: NDArray[np.float32],
    explained: Sequence[ExplainedTile],
    tiling: Tiling,
    preprocessing: Preprocessing,
    image_size: tuple[int, int],
) -> NDArray[np.float32]:
    """The same, not divided: in [0, 1] on the absolute scale of the tiles' probabilities."""
    tiles = tiling.tiles(image_size)
    step, size = map_step(image_size), map_size(image_size)
    rows, columns = (_Axis.of(tiles, axis, size[axis], step, image_size[axis]) for axis in (0, 1))
    canvas = np.zeros(size, np.float32)
    known = set(tiles)
    # The overview last, for it is compared with what the tiles add up to.
    for grid, one in sorted(zip(maps, explained, strict=True), key=lambda pair: pair[1].tile not in known):
        sample = _sampler(grid, one.tile, preprocessing.placement((one.tile.height, one.tile.width)))
        within = one.tile in known
        top, bottom = rows.reach(one.tile.top, one.tile.bottom)
        left, right = columns.reach(one.tile.left, one.tile.right)
        across = columns.window(one.tile.left)[left:right] if within else np.ones(right - left)
        down = rows.window(one.tile.top) if within else np.ones(size[0])
        for start in range(top, bottom, _BAND):
            stop = min(start + _BAND, bottom)
            values = sample(rows.centres[start:stop], columns.centres[left:right])
            part = canvas[start:stop, left:right]
            shown = (one.probability * values * down[start:stop, None] * across).astype(np.float32)
            if within:
                part += shown
            else:
                np.maximum(part, shown, out=part)
    return canvas


def enlarged(region: Region, image_size: tuple[int, int]) -> Region:
    """A region of a map of `map_size` in the pixels of its image of (height, width): exact to half a cell."""
    step = map_step(image_size)
    if step == 1:
        return region
    x, y, width, height = (side * step for side in region.box)
    height, width = min(height, image_size[0] - y), min(width, image_size[1] - x)
    mask = np.repeat(np.repeat(region.mask, step, axis=0), step, axis=1)[:height, :width]
    limits = np.array([image_size[1], image_size[0]], np.float64)
    return replace(
        region,
        polygon=np.minimum(region.polygon * step, limits),
        holes=tuple(np.minimum(hole * step, limits) for hole in region.holes),
        box=(x, y, width, height),
        mask=mask,
        area=int(mask.sum()),
    )


@dataclass(frozen=True)
class _Axis:
    """The tiles along one axis of an image, and where the centres of the map's cells lie on it, in image pixels."""

    centres: NDArray[np.float64]
    starts: tuple[int, ...]
    side: int

    @classmethod
    def of(cls, tiles: Sequence[Tile], axis: int, cells: int, step: int, length: int) -> _Axis:
        places = {tile.top if axis == 0 else tile.left for tile in tiles}
        centres = np.minimum((np.arange(cells) + 0.5) * step, length - 0.5)
        return cls(centres, tuple(sorted(places)), tiles[0].height if axis == 0 else tiles[0].width)

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """First cell whose centre lies from `start` on, and the first one that lies beyond `stop`."""
        first, last = np.searchsorted(self.centres, [start, stop])
        return int(first), int(last)

    def window(self, start: int) -> NDArray[np.float64]:
        """How much of each cell the tile that begins at `start` makes up; over all tiles these sum to 1."""
        total = np.sum([self._ramp(other) for other in self.starts], axis=0)
        return np.asarray(self._ramp(start) / total)

    def _ramp(self, start: int) -> NDArray[np.float64]:
        """1 within the tile, falling to 0 over what it shares with its neighbours; 0 outside."""
        place, stop = self.starts.index(start), start + self.side
        inside = (self.centres >= start) & (self.centres <= stop)
        rising, falling = inside.astype(np.float64), inside.astype(np.float64)
        if place > 0:
            rising *= (self.centres - start) / (self.starts[place - 1] + self.side - start)
        if place < len(self.starts) - 1:
            falling *= (stop - self.centres) / (stop - self.starts[place + 1])
        ramp = np.minimum(np.minimum(rising, falling), 1.0)
        # Level at both ends, so that not even the map's slope jumps where a tile begins.
        return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp))


def _sampler(
    grid: NDArray[np.float32], tile: Tile, placement: Placement
) -> Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]:
    """Bilinear values of a tile's map at places given in image pixels along both axes."""

    def neighbours(
        places: NDArray[np.float64], start: int, axis: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        content, offset = placement.content_size[axis], placement.offset[axis]
        place = np.clip((places - start) * placement.scale[axis] - 0.5, 0.0, content - 1.0)
        before = np.floor(place).astype(np.int64)
        return before + offset, np.minimum(before + 1, content - 1) + offset, place - before

    def sample(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
        top, bottom, lower = neighbours(down, tile.top, 0)
        left, far, further = neighbours(right, tile.left, 1)
        exact = grid.astype(np.float64)
        lines = exact[top] * (1 - lower)[:, None] + exact[bottom] * lower[:, None]
        return np.asarray(lines[:, left] * (1 - further) + lines[:, far] * further)

    return sample
