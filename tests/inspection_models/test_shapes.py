"""Boxes and run lengths from numbers, against COCO's own library and by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as coco

from inspection_models.data.markings import mask_runs, runs_mask
from inspection_models.data.shapes import box_between, counts_of_coco, counts_of_starts, points_within

AREAS = npst.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


@given(AREAS)
def test_the_text_of_coco_is_read_as_its_library_reads_it(area: np.ndarray) -> None:
    text = coco.encode(np.asfortranarray(area.astype(np.uint8)))["counts"].decode()
    assert counts_of_coco(text, area.shape) == mask_runs(area)
    assert counts_of_coco(list(mask_runs(area)), area.shape) == mask_runs(area)


def test_long_runs_in_the_text_of_coco() -> None:
    area = np.zeros((3000, 4000), np.bool_)
    area[1200:2900, 17:3800] = True
    text = coco.encode(np.asfortranarray(area.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(runs_mask(counts_of_coco(text, area.shape), area.shape), area)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_any_text_is_run_lengths_or_refused(text: str) -> None:
    try:
        counts = counts_of_coco(text, (5, 7))
    except ValueError:
        return
    assert sum(counts) == 35
    assert min(counts) >= 0


@given(AREAS)
def test_run_lengths_of_kaggle(area: np.ndarray) -> None:
    """Written by their definition: pixels counted from 1, column by column."""
    flat = np.concatenate([[0], area.T.ravel().astype(int), [0]])
    starts, ends = np.flatnonzero(np.diff(flat) == 1), np.flatnonzero(np.diff(flat) == -1)
    text = " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))
    counts = counts_of_starts(text, area.shape)
    np.testing.assert_array_equal(runs_mask(counts, area.shape), area)
    assert counts == mask_runs(area)


def test_runs_that_touch_become_one() -> None:
    assert counts_of_starts("3 2 5 2", (4, 3)) == (2, 4, 6)
    assert counts_of_starts("1 2 3 10", (4, 3)) == (0, 12)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_a_box_is_rounded_and_stays_in_its_image(size: tuple[int, int], shares: list[float]) -> None:
    left, right = sorted(share * size[1] for share in shares[:2])
    top, bottom = sorted(share * size[0] for share in shares[2:])
    box = box_between("a", left, top, right, bottom, size)
    assert min(box.x, box.y) >= 0
    assert min(box.width, box.height) >= 1
    assert box.x + box.width <= size[1]
    assert box.y + box.height <= size[0]
    assert abs(box.x - left) <= 1
    assert abs(box.y + box.height - bottom) <= 1.5


@pytest.mark.parametrize(
    "edges", [(-2, 0, 3, 3), (0, 0, 18, 3), (4, 0, 3, 3), (float("nan"), 0, 3, 3), (0, 0, float("inf"), 3)]
)
def test_a_box_outside_its_image_is_refused(edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="does not lie in the image of 16 x 12 pixels"):
        box_between("a", *edges, (12, 16))


def test_corners_beside_the_image_are_moved_onto_it_and_others_refused() -> None:
    assert points_within([-0.5, 0, 16.5, 0, 8, 12.9], (12, 16)) == ((0, 0), (16, 0), (8, 12))
    for numbers in ([0, 0, 18, 0, 8, 12], [0, 0, 1, 1], [0, 0, 1, 1, 2, 2, 3], [0, 0, float("nan"), 1, 2, 2]):
        with pytest.raises(ValueError, match="polygon"):
            points_within(numbers, (12, 16))
