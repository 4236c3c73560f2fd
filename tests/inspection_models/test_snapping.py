"""Snapping: the photograph's edges decide how far a region goes, the map where it is."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inspection_models.model_card import RegionThresholds
from inspection_models.region_drawing import KEPT_EVIDENCE, draw_regions, mask_of
from inspection_models.region_settings import RegionDrawing, RegionHeadSettings
from inspection_models.regions import RegionError, regions
from inspection_models.snapping import snapped_mask

SNAPPED = RegionDrawing(drawn_by="snapped")
THRESHOLDS = RegionThresholds(relative=0.08)


def blot(
    size: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int], noise: float = 4.0
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of grey metal with a dark ellipse, and where that is."""
    truth = np.zeros(size, np.uint8)
    cv2.ellipse(truth, centre, axes, 20, 0, 360, 1, -1)
    grey = 150 - 60.0 * truth + np.random.default_rng(3).normal(0, noise, size)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2), truth > 0


def bump(size: tuple[int, int], centre: tuple[int, int], sigma: float) -> np.ndarray:
    """A map that is brightest near a place and knows nothing of shapes."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2)).astype(np.float32)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(("axes", "sigma"), [((12, 7), 14.0), ((40, 22), 12.0), ((60, 45), 30.0)])
def test_a_region_becomes_what_the_photograph_shows(axes: tuple[int, int], sigma: float) -> None:
    size = (200, 240)
    pixels, truth = blot(size, (120, 100), axes)
    seen = bump(size, (126, 96), sigma)
    mask = snapped_mask(pixels, seen)
    assert mask is not None
    cut = mask_of(regions(seen, 0.08), size)
    assert overlap(mask, truth) > max(0.75, overlap(cut, truth) + 0.1)


def test_of_two_alike_blots_the_one_with_evidence_is_drawn() -> None:
    size = (200, 240)
    one, truth = blot(size, (60, 100), (20, 14))
    other, _ = blot(size, (180, 100), (20, 14))
    mask = snapped_mask(np.minimum(one, other), bump(size, (60, 100), 12))
    assert mask is not None and overlap(mask, truth) > 0.8
    assert not mask[:, 150:].any()


def test_large_photographs_cost_what_small_ones_cost_and_say_the_same() -> None:
    pixels, truth = blot((200, 240), (120, 100), (40, 22), noise=0)
    seen = bump((200, 240), (126, 96), 12)
    large = cv2.resize(pixels, None, fx=10, fy=10, interpolation=cv2.INTER_NEAREST)
    mask = snapped_mask(large, cv2.resize(seen, None, fx=10, fy=10, interpolation=cv2.INTER_LINEAR))
    assert mask is not None and mask.shape == (2000, 2400)
    assert overlap(mask, np.repeat(np.repeat(truth, 10, axis=0), 10, axis=1)) > 0.8


def test_without_edges_or_evidence_there_is_nothing_to_snap_to() -> None:
    flat = np.full((90, 120, 3), 130, np.uint8)
    seen = bump((90, 120), (60, 45), 9)
    assert snapped_mask(flat, seen) is None
    assert snapped_mask(blot((90, 120), (60, 45), (20, 10))[0], np.zeros((90, 120), np.float32)) is None
    fallen_back = draw_regions(flat, seen, THRESHOLDS, SNAPPED)
    assert [one.drawn_by for one in fallen_back] == ["map"]
    assert np.array_equal(mask_of(fallen_back, (90, 120)), mask_of(regions(seen, 0.08), (90, 120)))


def test_the_same_bits_for_the_same_photograph() -> None:
    pixels, _ = blot((200, 240), (120, 100), (40, 22))
    seen = bump((200, 240), (126, 96), 12)
    digests = {hashlib.sha256(np.packbits(snapped_mask(pixels, seen)).tobytes()).hexdigest() for _ in range(3)}
    assert len(digests) == 1


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
)
def test_no_area_with_evidence_is_lost(grey: np.ndarray, seed: int, peaks: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = grey.shape
    seen = sum(
        rng.random()
        * bump((height, width), (int(rng.integers(width)), int(rng.integers(height))), 1 + 4 * rng.random())
        for _ in range(peaks)
    )
    pixels = np.repeat(grey[..., None], 3, axis=2)
    drawn = draw_regions(pixels, np.asarray(seen, np.float32), THRESHOLDS, SNAPPED)
    shown = mask_of(drawn, (height, width))
    for region in regions(np.asarray(seen, np.float32), THRESHOLDS.relative):
        x, y, w, h = region.box
        if region.evidence >= KEPT_EVIDENCE:
            assert (shown[y : y + h, x : x + w] & region.mask).any()
    assert all(one.evidence >= other.evidence for one, other in pairwise(drawn))
    assert bool(drawn) == bool(np.asarray(seen).max() > 0)


def test_what_a_head_draws_without_evidence_is_marked_and_shown() -> None:
    size = (90, 120)
    pixels, _ = blot(size, (30, 45), (12, 10))
    seen = bump(size, (30, 45), 6)
    head_map = np.zeros(size, np.float32)
    head_map[35:55, 20:40] = 0.9
    head_map[10:20, 90:105] = 0.8
    learned = RegionDrawing(drawn_by="learned", head=RegionHeadSettings("0" * 64, 0.5))
    with_evidence, without = draw_regions(pixels, seen, THRESHOLDS, learned, head_map=head_map)
    assert (with_evidence.drawn_by, with_evidence.has_evidence, without.has_evidence) == ("learned", True, False)
    assert without.box == (90, 10, 15, 10) and without.evidence < learned.least_evidence
    [fallback] = draw_regions(pixels, seen, THRESHOLDS, learned, head_map=np.zeros(size, np.float32))
    assert fallback.drawn_by == "snapped"
    with pytest.raises(RegionError, match="head_map"):
        draw_regions(pixels, seen, THRESHOLDS, learned)
    with pytest.raises(RegionError, match="must be alike"):
        draw_regions(pixels[1:], seen, THRESHOLDS, SNAPPED)


def test_a_drawing_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="head that is not there"):
        RegionDrawing(drawn_by="learned")
    with pytest.raises(ValueError, match="threshold"):
        RegionHeadSettings("0" * 64, 1.0)
    with pytest.raises(ValueError, match="least evidence"):
        RegionDrawing(least_evidence=1.5)


def test_on_the_absolute_scale_a_map_is_dark_up_to_the_level_of_good_parts() -> None:
    drawing = RegionDrawing(lit_from=0.6)
    assert [drawing.strength(p) for p in (0.0, 0.6, 0.8, 1.0)] == pytest.approx([0, 0, 0.5, 1])
    assert RegionDrawing().strength(0.9) is None
    assert RegionDrawing(lit_from=1.0).strength(1.0) == 0
