"""Outlines follow masks exactly, simplify within bounds, and regions say what a map says."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from inspection_models.outlines import exact_outline, polygon_mask, rings_cross, signed_area, simplified
from inspection_models.regions import RegionError, regions, simplification_tolerance

Mask = NDArray[np.bool_]

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@st.composite
def smooth_maps(draw: st.DrawFn) -> NDArray[np.float32]:
    """Maps as attribution makes them: coarse noise, upsampled, some of it cut to zero."""
    coarse = draw(
        hnp.arrays(np.float32, st.tuples(st.integers(2, 8), st.integers(2, 8)), elements=st.floats(0, 1, width=32))
    )
    height, width = draw(st.integers(20, 90)), draw(st.integers(20, 90))
    enlarged = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, None)
    return np.where(enlarged < draw(st.floats(0, 0.5)), 0, enlarged).astype(np.float32)


def areas_of(mask: Mask) -> list[Mask]:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [labels == label for label in range(1, count)]


@pytest.mark.slow
@given(masks)
@settings(max_examples=300)
def test_exact_outline_filled_again_is_the_mask(mask: Mask) -> None:
    for area in areas_of(mask):
        outline = exact_outline(area)
        assert np.array_equal(polygon_mask(outline.outer, area.shape, outline.holes), area)
        filled = signed_area(outline.outer) + sum(signed_area(hole) for hole in outline.holes)
        assert filled == area.sum()
        for ring in (outline.outer, *outline.holes):
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert (np.sign(steps[:, 0]) != np.sign(np.roll(steps[:, 0], 1))).all()


@given(masks)
def test_holes_are_the_background_that_cannot_reach_the_border(mask: Mask) -> None:
    for area in areas_of(mask):
        outside = np.pad(~area, 1, constant_values=True).astype(np.uint8)
        count, _ = cv2.connectedComponents(outside, connectivity=4)
        assert len(exact_outline(area).holes) == count - 2


@pytest.mark.slow
@given(masks, st.floats(0.01, 3))
@settings(max_examples=300)
def test_simplified_outlines_are_sound_polygons(mask: Mask, tolerance: float) -> None:
    for area in areas_of(mask):
        exact, thin = exact_outline(area), simplified(exact_outline(area), tolerance)
        assert len(thin.holes) == len(exact.holes)
        rings = [thin.outer, *thin.holes]
        assert not rings_cross(rings)
        for ring, original in zip(rings, (exact.outer, *exact.holes), strict=True):
            assert len(ring) >= 3
            assert np.sign(signed_area(ring)) == np.sign(signed_area(original))
            assert (ring >= original.min(axis=0)).all()
            assert (ring <= original.max(axis=0)).all()


@given(masks)
def test_cut_corners_alone_change_no_pixel(mask: Mask) -> None:
    for area in areas_of(mask):
        thin = simplified(exact_outline(area), 0.0)
        assert np.array_equal(polygon_mask(thin.outer, area.shape, thin.holes), area)


def distances(points: NDArray[np.float64], ring: NDArray[np.float64]) -> NDArray[np.float64]:
    start, along = ring[None], (np.roll(ring, -1, axis=0) - ring)[None]
    share = ((points[:, None] - start) * along).sum(-1) / (along**2).sum(-1)
    nearest = start + np.clip(share, 0, 1)[..., None] * along
    return np.asarray(np.hypot(*np.moveaxis(points[:, None] - nearest, -1, 0)).min(axis=1))


@given(smooth_maps(), st.floats(0.2, 0.9))
@settings(max_examples=60)
def test_polygons_stay_within_the_stated_distance_of_the_mask(values: NDArray[np.float32], threshold: float) -> None:
    for region in regions(values, threshold):
        origin = np.array(region.box[:2])
        bound = simplification_tolerance(values.shape) + 0.5
        outer = exact_outline(region.mask).outer
        assert distances(outer + origin, region.polygon).max() <= bound
        assert distances(region.polygon, outer + origin).max() <= bound


@given(smooth_maps(), st.floats(0.05, 1))
@settings(max_examples=100)
def test_regions_account_for_the_map(values: NDArray[np.float32], threshold: float) -> None:
    found = regions(values, threshold, max_regions=100)
    height, width = values.shape
    if not values.any():
        assert found == ()
        return
    above = values >= threshold * float(values.max())
    covered = np.zeros(values.shape, dtype=bool)
    for region in found:
        x, y, w, h = region.box
        full = np.zeros(values.shape, dtype=bool)
        full[y : y + h, x : x + w] = region.mask
        assert not (covered & full).any()
        covered |= full
        assert region.mask.any(axis=0).all() or region.mask.any(axis=1).all()
        assert region.mask[0].any() and region.mask[-1].any() and region.mask[:, 0].any() and region.mask[:, -1].any()
        assert region.area == full.sum()
        assert region.evidence == pytest.approx(values[full].sum(dtype=np.float64) / values.sum(dtype=np.float64))
        assert region.peak == values[full].max()
        assert region.polygon.dtype == np.float64
        assert (region.polygon >= 0).all()
        assert (region.polygon <= (width, height)).all()
        for ring in (region.polygon, *region.holes):
            assert len(ring) >= 3
    assert not (covered & ~above).any()
    missed = [area for area in areas_of(above) if not (covered & area).any()]
    total = values.sum(dtype=np.float64)
    speck = max(16, 0.0005 * values.size)
    assert all(area.sum() < speck or values[area].sum(dtype=np.float64) / total < 0.02 + 1e-9 for area in missed)
    shares = [region.evidence for region in found]
    assert shares == sorted(shares, reverse=True)
    assert found
    assert sum(shares) <= 1 + 1e-9
    assert shares[0] >= max(values[area].sum(dtype=np.float64) / total for area in areas_of(above)) - 1e-9


@given(smooth_maps(), st.floats(0.2, 0.9))
@settings(max_examples=60)
def test_polygons_cover_what_the_mask_covers(values: NDArray[np.float32], threshold: float) -> None:
    for region in regions(values, threshold):
        if region.area < 16:
            continue
        x, y, w, h = region.box
        full = exact_outline(region.mask, smallest_hole=16)
        mask = polygon_mask(full.outer, (h, w), full.holes)
        drawn = polygon_mask(region.polygon - (x, y), (h, w), [hole - (x, y) for hole in region.holes])
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.8


def disc(size: int, radius: float) -> NDArray[np.float32]:
    y, x = np.mgrid[:size, :size] + 0.5
    return ((x - size / 2) ** 2 + (y - size / 2) ** 2 <= radius**2).astype(np.float32)


def test_a_disc_becomes_a_handful_of_points() -> None:
    (region,) = regions(disc(200, 60), 0.5)
    assert 8 <= len(region.polygon) <= 40
    drawn = polygon_mask(region.polygon, (200, 200))
    truth = disc(200, 60) > 0
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.98
    assert abs(signed_area(region.polygon) - np.pi * 60**2) < 0.02 * np.pi * 60**2


def test_a_square_is_where_its_pixels_are() -> None:
    values = np.zeros((40, 60), np.float32)
    values[10:20, 30:50] = 1
    (region,) = regions(values, 0.5)
    assert region.box == (30, 10, 20, 10)
    assert region.evidence == 1
    assert np.abs(region.polygon.min(axis=0) - (30, 10)).max() <= 0.5
    assert np.abs(region.polygon.max(axis=0) - (50, 20)).max() <= 0.5
    assert exact_outline(values > 0).outer.tolist() == [[30, 10], [50, 10], [50, 20], [30, 20]]


def test_a_ring_keeps_its_hole_but_not_its_pinholes() -> None:
    values = disc(100, 40) - disc(100, 20)
    values[50, 14] = 0
    (region,) = regions(values, 0.5)
    assert len(region.holes) == 1
    assert len(exact_outline(region.mask).holes) == 2
    assert signed_area(region.holes[0]) == pytest.approx(-np.pi * 20**2, rel=0.03)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    values = np.zeros((30, 30), np.float32)
    values[5:10, 5:10] = values[10:15, 10:15] = 1
    (region,) = regions(values, 0.5)
    assert region.area == 50
    assert not rings_cross([region.polygon])
    assert np.array_equal(polygon_mask(exact_outline(values > 0).outer, (30, 30)), values > 0)


def test_specks_are_dropped_unless_they_are_all_there_is() -> None:
    values = np.zeros((100, 100), np.float32)
    values[10:40, 10:40] = 1
    values[60:64, 60:64] = 1  # 16 pixels, but 1.7 % of the evidence
    values[80, 80:90] = 10  # 10 pixels
    assert [region.area for region in regions(values, 0.05)] == [900]
    alone = np.zeros((100, 100), np.float32)
    alone[3, 4] = 0.5
    (speck,) = regions(alone, 1.0)
    assert (speck.area, speck.box, speck.evidence, speck.peak) == (1, (4, 3, 1, 1), 1.0, 0.5)
    assert len(speck.polygon) >= 3
    assert polygon_mask(speck.polygon, (100, 100))[3, 4]
    large = np.zeros((400, 400), np.float32)
    large[10:50, 10:50] = 1
    large[100:108, 100:109] = 10  # 72 pixels: above 16, below 0.05 % of the image
    large[200:209, 200:209] = 10  # 81 pixels
    assert [region.area for region in regions(large, 0.05)] == [1600, 81]


def test_number_of_regions_is_limited_to_the_strongest() -> None:
    values = np.zeros((100, 100), np.float32)
    for index in range(16):
        row, column = divmod(index, 4)
        values[row * 25 : row * 25 + 8, column * 25 : column * 25 + 8] = 0.5 + index / 30
    assert [region.peak for region in regions(values, 0.1)] == sorted(values[values > 0].ravel().tolist())[::-64][:10]
    assert len(regions(values, 0.1, max_regions=3)) == 3


def test_nothing_to_show() -> None:
    assert regions(np.zeros((10, 10), np.float32), 0.5) == ()


def test_a_full_map_is_one_region_within_the_image() -> None:
    (region,) = regions(np.ones((50, 70), np.float32), 0.5)
    assert region.box == (0, 0, 70, 50)
    assert (region.area, region.evidence) == (3500, 1.0)


def test_large_noisy_maps_are_worked_off() -> None:
    """Twelve megapixels of ragged areas, as a worst case."""
    rng = np.random.default_rng(0)
    values = cv2.resize(rng.random((300, 400), dtype=np.float32), (4000, 3000), interpolation=cv2.INTER_CUBIC)
    found = regions(np.clip(values, 0, None), 0.45)
    assert found
    for region in found:
        assert not rings_cross([region.polygon, *region.holes])


@pytest.mark.parametrize(
    ("values", "threshold", "limit", "message"),
    [
        (np.zeros((1, 4, 4), np.float32), 0.5, 1, r"the map must be \[height, width\]"),
        (np.zeros((0, 4), np.float32), 0.5, 1, r"the map must be \[height, width\]"),
        (np.zeros((4, 4), np.uint8), 0.5, 1, "the map must hold floats, not uint8"),
        (np.full((4, 4), np.nan), 0.5, 1, "negative or not finite"),
        (np.full((4, 4), -1.0), 0.5, 1, "negative or not finite"),
        (np.ones((4, 4)), 0.0, 1, r"the threshold is a share .* in \(0, 1\], not 0"),
        (np.ones((4, 4)), 1.5, 1, "the threshold is a share"),
        (np.ones((4, 4)), float("nan"), 1, "the threshold is a share"),
        (np.ones((4, 4)), 0.5, 0, "max_regions must be at least 1"),
    ],
)
def test_unusable_maps_are_refused(values: Any, threshold: float, limit: int, message: str) -> None:
    with pytest.raises(RegionError, match=message):
        regions(values, threshold, max_regions=limit)


@pytest.mark.parametrize("mask", [np.zeros((3, 3), bool), np.eye(2, 5, dtype=bool) | np.eye(2, 5, 3, dtype=bool)])
def test_outline_of_anything_but_one_area_is_refused(mask: Mask) -> None:
    with pytest.raises(ValueError, match="one connected area, not"):
        exact_outline(mask)


@pytest.mark.parametrize(
    ("rings", "cross"),
    [
        ([[[0, 0], [4, 0], [4, 4], [0, 4]]], False),
        ([[[0, 0], [4, 4], [4, 0], [0, 4]]], True),
        ([[[0, 0], [9, 0], [9, 9], [0, 9]], [[2, 2], [2, 4], [4, 4], [4, 2]]], False),
        ([[[0, 0], [9, 0], [9, 9], [0, 9]], [[7, 2], [7, 4], [11, 3]]], True),
        ([[[0, 0], [2, 2], [4, 0], [4, 4], [2, 2], [0, 4]]], True),
        ([[[0, 0], [4, 0], [4, 2], [2, 0], [0, 2]]], True),
    ],
)
def test_crossings(rings: list[Any], cross: bool) -> None:
    assert rings_cross([np.array(ring, dtype=np.float64) for ring in rings]) == cross


@given(
    st.lists(st.tuples(st.floats(-3, 15), st.floats(-3, 15)), min_size=3, max_size=7),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_polygon_mask_holds_the_centres_inside(points: list[tuple[float, float]], size: tuple[int, int]) -> None:
    """Against the crossing count of every pixel centre by itself."""
    polygon = np.array(points)
    expected = np.zeros(size, dtype=bool)
    for y in range(size[0]):
        for x in range(size[1]):
            crossings = 0
            for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
                if (ay <= y + 0.5) != (by <= y + 0.5):
                    across = ax + (y + 0.5 - ay) / (by - ay) * (bx - ax)
                    assume(abs(across - (x + 0.5)) > 1e-9)
                    crossings += across < x + 0.5
            expected[y, x] = crossings % 2
    assert np.array_equal(polygon_mask(polygon, size), expected)


def test_the_smallest_area_is_the_callers_to_set() -> None:
    attribution_map = np.zeros((400, 400), np.float32)
    attribution_map[10:60, 10:60] = 1.0
    attribution_map[200:220, 200:220] = 1.0  # 400 pixels: 0.25 % of the image
    assert len(regions(attribution_map, 0.5, minimum_area=0.001)) == 2
    assert len(regions(attribution_map, 0.5, minimum_area=0.01)) == 1
