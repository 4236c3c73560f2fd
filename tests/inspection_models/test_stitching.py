"""Stitched maps: no seams, one scale, every pixel in its place, memory within its bound."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models import stitching
from inspection_models.preprocessing import Preprocessing
from inspection_models.regions import regions
from inspection_models.stitching import ExplainedTile, blend, enlarged, map_size, map_step, stitch
from inspection_models.tiling import Tile, Tiling

NETWORK = Preprocessing("letterbox", (32, 32), (0.0,) * 3, (1.0,) * 3)


def seen(values: np.ndarray, tiles: tuple[Tile, ...]) -> np.ndarray:
    """What an honest method says of each tile: the tile's part of `values`, at the network's size."""
    from inspection_models.preprocessing import resample

    maps = np.zeros((len(tiles), 32, 32), np.float32)
    for grid, tile in zip(maps, tiles, strict=True):
        placement = NETWORK.placement((tile.height, tile.width))
        (top, left), (height, width) = placement.offset, placement.content_size
        part = np.ascontiguousarray(tile.cut(values))
        grid[top : top + height, left : left + width] = resample(part, placement.content_size)
    return maps


def certain(tiles: tuple[Tile, ...]) -> list[ExplainedTile]:
    return [ExplainedTile(tile, 1.0) for tile in tiles]


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    values = sum(
        np.exp(-(((y - rng.uniform(0, height)) / 40) ** 2) - ((x - rng.uniform(0, width)) / 40) ** 2) for _ in range(6)
    )
    return np.asarray(values / np.max(values), np.float32)


@st.composite
def images_in_tiles(draw: st.DrawFn) -> tuple[Tiling, tuple[int, int]]:
    side = draw(st.integers(32, 90))
    tiling = Tiling((side, side), draw(st.integers(side // 8, side // 2)))
    return tiling, (draw(st.integers(20, 300)), draw(st.integers(20, 300)))


@given(images_in_tiles())
@settings(max_examples=40)
def test_tiles_that_say_the_same_everywhere_make_an_even_map(drawn: tuple[Tiling, tuple[int, int]]) -> None:
    """The weights sum to 1 at every pixel, whatever the sizes."""
    tiling, size = drawn
    tiles = tiling.tiles(size)
    maps = np.full((len(tiles), 32, 32), 0.5, np.float32)
    np.testing.assert_allclose(blend(maps, certain(tiles), tiling, NETWORK, size), 0.5, atol=1e-6)


@given(images_in_tiles(), st.integers(0, 1000))
@settings(max_examples=40)
def test_a_map_cut_into_tiles_and_stitched_is_itself_again(drawn: tuple[Tiling, tuple[int, int]], seed: int) -> None:
    tiling, size = drawn
    values = smooth(*size, seed)
    tiles = tiling.tiles(size)
    found = blend(seen(values, tiles), certain(tiles), tiling, NETWORK, size)
    assert found.shape == size
    assert np.abs(found - values).max() < 0.06


def jumps(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.abs(np.diff(values, axis=0)), np.abs(np.diff(values, axis=1))


@pytest.mark.parametrize("probabilities", [(1.0, 0.2), (0.9, 0.0)])
def test_no_jump_at_tile_borders_even_between_tiles_that_disagree(probabilities: tuple[float, float]) -> None:
    """Neighbours of different certainty, some of them dark: steps at borders are no larger than a ramp's."""
    tiling, size = Tiling((64, 64), 16), (300, 400)
    tiles = tiling.tiles(size)
    rng = np.random.default_rng(3)
    maps = seen(smooth(*size), tiles) * 0.5 + 0.5
    explained = [ExplainedTile(tile, probabilities[int(rng.integers(2))]) for tile in tiles]
    found = blend(maps, explained, tiling, NETWORK, size)
    down, right = jumps(found)
    # The fastest that a weight may change is from 0 to 1 over what two tiles share; a map adds its own slope.
    steepest = 1.5 / tiling.overlap + 2 * max(part.max() for part in jumps(smooth(*size)))
    assert max(down.max(), right.max()) <= steepest
    borders = sorted({edge for tile in tiles for edge in (tile.left, tile.right) if 0 < edge < size[1]})
    at_borders = right[:, [edge - 1 for edge in borders]]
    elsewhere = np.delete(right, [edge - 1 for edge in borders], axis=1)
    assert at_borders.mean() <= elsewhere.mean()
    assert np.quantile(at_borders, 0.99) <= np.quantile(elsewhere, 0.99)


def test_without_fading_the_same_tiles_would_show_seams() -> None:
    """The statistic of the test before can fail: the last tile to be pasted wins."""
    tiling, size = Tiling((64, 64), 16), (300, 400)
    tiles = tiling.tiles(size)
    rng = np.random.default_rng(3)
    pasted = np.zeros(size, np.float32)
    for tile in tiles:
        tile.cut(pasted)[:] = float(rng.choice([1.0, 0.2]))
    _, right = jumps(pasted)
    borders = sorted({tile.left for tile in tiles if tile.left})
    assert right[:, [edge - 1 for edge in borders]].mean() > 10 * right.mean()


def test_another_grid_of_tiles_changes_the_map_little() -> None:
    size = (300, 400)
    values = smooth(*size, seed=5)
    found = []
    for side, overlap in ((64, 16), (70, 24), (58, 20)):
        tiling = Tiling((side, side), overlap)
        tiles = tiling.tiles(size)
        found.append(stitch(seen(values, tiles), certain(tiles), tiling, NETWORK, size))
    for other in found[1:]:
        assert np.corrcoef(found[0].ravel(), other.ravel())[0, 1] > 0.995
        assert np.abs(found[0] - other).max() < 0.1


def test_a_tile_that_doubts_glows_as_faintly_as_it_doubts() -> None:
    """Each tile's own map is 1 at its strongest place; the stitched one keeps tiles in proportion."""
    tiling, size = Tiling((64, 64), 16), (64, 304)
    tiles = tiling.tiles(size)
    maps = np.zeros((2, 32, 32), np.float32)
    maps[:, 14:18, 14:18] = 1.0
    explained = [ExplainedTile(tiles[0], 0.9), ExplainedTile(tiles[-1], 0.3)]
    found = stitch(maps, explained, tiling, NETWORK, size)
    assert found[32, 32] == pytest.approx(1.0, abs=1e-6)
    assert found[32, 304 - 32] == pytest.approx(1 / 3, abs=1e-6)
    assert found[:, 70:230].max() == 0
    assert blend(maps, explained, tiling, NETWORK, size).max() == pytest.approx(0.9, abs=1e-6)


def test_of_overview_and_tiles_the_brighter_one_is_shown() -> None:
    tiling, size = Tiling((64, 64), 16, overview=True), (128, 128)
    *tiles, overview = tiling.views(size)
    maps = np.full((2, 32, 32), 1.0, np.float32)
    order = [ExplainedTile(overview, 0.5), ExplainedTile(tiles[0], 0.8)]
    found = blend(maps, order, tiling, NETWORK, size)
    assert found[10, 10] == pytest.approx(0.8) and found[120, 120] == pytest.approx(0.5)
    turned = blend(maps, order[::-1], tiling, NETWORK, size)
    np.testing.assert_array_equal(found, turned)


def test_nothing_that_speaks_makes_a_dark_map() -> None:
    tiling, size = Tiling((64, 64), 16), (100, 100)
    tiles = tiling.tiles(size)[:1]
    assert stitch(np.zeros((1, 32, 32), np.float32), certain(tiles), tiling, NETWORK, size).max() == 0


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_maps_stay_within_their_bound(height: int, width: int) -> None:
    step, size = map_step((height, width)), map_size((height, width))
    assert height * width <= step * step * stitching.MAP_PIXELS
    assert step == 1 or height * width > (step - 1) ** 2 * stitching.MAP_PIXELS
    assert (size[0] - 1) * step < height <= size[0] * step
    assert (size[1] - 1) * step < width <= size[1] * step


def test_a_map_of_coarser_cells_shows_the_same_and_its_regions_are_exact_to_half_a_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiling, size = Tiling((64, 64), 16), (301, 400)
    tiles = tiling.tiles(size)
    values = np.zeros(size, np.float32)
    values[100:180, 222:301] = 1.0
    fine = stitch(seen(values, tiles), certain(tiles), tiling, NETWORK, size)
    monkeypatch.setattr(stitching, "MAP_PIXELS", math.prod(size) // 8)
    coarse = stitch(seen(values, tiles), certain(tiles), tiling, NETWORK, size)
    assert map_step(size) == 3 and coarse.shape == (101, 134)
    means = fine[:300, :399].reshape(100, 3, 133, 3).mean(axis=(1, 3))
    assert np.abs(coarse[:100, :133] - means).max() < 0.2
    [region] = regions(coarse, 0.5)
    found = enlarged(region, size)
    x, y, width, height = found.box
    step = map_step(size)
    assert abs(y - 100) <= step and abs(y + height - 180) <= step
    assert abs(x - 222) <= step and abs(x + width - 301) <= step
    assert found.mask.shape == (height, width) and found.area == found.mask.sum()
    assert found.polygon.min() >= 0 and (found.polygon.max(axis=0) <= (400, 301)).all()
    assert (found.evidence, found.peak) == (region.evidence, region.peak)
    assert np.array_equal(found.mask[::step, ::step], region.mask)


def test_a_region_at_the_far_corner_ends_where_the_image_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitching, "MAP_PIXELS", 1000)
    size = (100, 101)
    assert map_step(size) == 4
    values = np.zeros(map_size(size), np.float32)
    values[18:, 20:] = 1.0
    [region] = regions(values, 0.5)
    found = enlarged(region, size)
    assert found.box == (80, 72, 21, 28)
    assert found.polygon.max(axis=0).tolist() == [101.0, 100.0]
    assert found.area == 21 * 28


def test_memory_is_bounded_for_the_largest_photographs() -> None:
    """100 million pixels: the map, and one tile's working copies, but nothing of the image's size."""
    tiling, size = Tiling((1000, 1000), 200, overview=True), (20_000, 5_000)
    views = tiling.views(size)
    chosen = [ExplainedTile(views[0], 0.5), ExplainedTile(views[-1], 0.9)]
    maps = np.random.default_rng(0).random((2, 32, 32), np.float32)
    tracemalloc.start()
    try:
        found = stitch(maps, chosen, tiling, NETWORK, size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.size <= stitching.MAP_PIXELS
    assert peak < 4 * 4 * stitching.MAP_PIXELS
