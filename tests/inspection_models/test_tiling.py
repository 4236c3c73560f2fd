"""Tiles: they cover the image, share what they should, and no small defect falls between them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection_models.images import ImageError
from inspection_models.tiling import MAX_TILES, Tile, Tiling

SIDES = st.integers(32, 900)
LENGTHS = st.integers(1, 20_000)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    size = (draw(SIDES), draw(SIDES))
    return Tiling(size, draw(st.integers(min(size) // 8, min(size) // 2)), draw(st.booleans()))


def intervals(tiling: Tiling, length: int) -> list[tuple[int, int]]:
    """Where tiles begin and end along the rows of an image one tile wide."""
    return [(tile.top, tile.bottom) for tile in tiling.tiles((length, 1))]


@given(tilings(), LENGTHS)
def test_tiles_cover_an_axis_from_edge_to_edge_and_share_the_overlap(tiling: Tiling, length: int) -> None:
    found = intervals(tiling, length)
    assert found == sorted(set(found))
    assert (found[0][0], found[-1][1]) == (0, length)
    assert {end - start for start, end in found} == {min(tiling.size[0], length)}
    shared = [before[1] - after[0] for before, after in pairwise(found)]
    assert all(pixels >= tiling.overlap for pixels in shared)


@given(tilings(), LENGTHS)
def test_no_more_tiles_than_needed(tiling: Tiling, length: int) -> None:
    """One fewer could not reach from edge to edge with this overlap."""
    count, side = len(intervals(tiling, length)), tiling.size[0]
    assert count == 1 or (count - 2) * (side - tiling.overlap) + side < length


@given(tilings(), LENGTHS, st.data())
def test_a_defect_up_to_the_overlap_lies_whole_in_some_tile(tiling: Tiling, length: int, data: st.DataObject) -> None:
    extent = data.draw(st.integers(0, min(tiling.overlap, length)))
    start = data.draw(st.integers(0, length - extent))
    assert any(begin <= start and start + extent <= end for begin, end in intervals(tiling, length))


@given(st.integers(32, 60), st.integers(7, 16), st.tuples(st.integers(1, 200), st.integers(1, 200)))
def test_every_pixel_of_a_small_image_is_seen(side: int, overlap: int, size: tuple[int, int]) -> None:
    seen = np.zeros(size, int)
    tiles = Tiling((side, side), overlap).tiles(size)
    for tile in tiles:
        part = tile.cut(seen)
        assert part.shape == (tile.height, tile.width) == (min(side, size[0]), min(side, size[1]))
        part += 1
    assert seen.min() >= 1
    assert list(tiles) == sorted(tiles, key=lambda tile: (tile.top, tile.left))


@given(tilings(), LENGTHS, LENGTHS)
def test_the_number_is_bounded_or_the_image_refused(tiling: Tiling, height: int, width: int) -> None:
    needed = len(intervals(tiling, height)) * len(intervals(Tiling(tiling.size[::-1], tiling.overlap), width))
    if needed > MAX_TILES:
        with pytest.raises(ImageError, match=f"{needed} tiles"):
            tiling.tiles((height, width))
    else:
        assert len(tiling.tiles((height, width))) == needed


@pytest.mark.parametrize("overview", [False, True])
def test_an_image_that_fits_in_a_tile_is_looked_at_as_it_is(overview: bool) -> None:
    tiling = Tiling((300, 400), 100, overview)
    assert tiling.views((300, 400)) == tiling.views((300, 400))[:1] == (Tile(0, 0, 300, 400),)
    assert tiling.views((7, 11)) == (Tile(0, 0, 7, 11),)


def test_the_overview_comes_last() -> None:
    tiling = Tiling((300, 400), 100, overview=True)
    assert tiling.views((301, 400)) == (Tile(0, 0, 300, 400), Tile(1, 0, 300, 400), Tile(0, 0, 301, 400))
    assert tiling.tiles((301, 400)) == tiling.views((301, 400))[:-1]


def test_the_largest_photographs_that_are_decoded_are_still_tiled() -> None:
    """100 million pixels under the smallest usual tiles."""
    for size in ((10_000, 10_000), (20_000, 5_000), (5_000, 20_000)):
        assert len(Tiling((224, 224), 56).tiles(size)) <= MAX_TILES


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (31, 224), "overlap": 0}, "too small"),
        ({"size": (224, 100), "overlap": 51}, "share 51; it must be from an eighth to half"),
        ({"size": (224, 224), "overlap": 27}, "share 27; it must be from an eighth to half"),
        ({"size": (224, 224), "overlap": 28, "growth": float("nan")}, "must be a number"),
    ],
)
def test_impossible_tilings_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tiling(**fields)  # type: ignore[arg-type]


def test_an_image_without_pixels_has_no_tiles() -> None:
    with pytest.raises(ImageError, match="shows nothing"):
        Tiling((224, 224), 56).tiles((0, 10))
