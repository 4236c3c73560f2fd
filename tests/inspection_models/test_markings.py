"""Markings: masks, boxes, polygons and run lengths drawn as the same pixels, class by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as coco

from inspection_models.data import Box, DatasetError, Polygon, RunLengths, Sample, is_marked, truth_of
from inspection_models.data.markings import mask_runs, runs_mask
from inspection_models.outlines import polygon_mask
from tests.inspection_models.data_files import write_image

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
AREAS = npst.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
SIZE = (20, 30)


def sample(**marks: object) -> Sample:
    return Sample(Path("x.png"), "crack", "", "", also=("stain",), **marks)  # type: ignore[arg-type]


def of_box(box: Box) -> np.ndarray:
    rows, columns = np.indices(SIZE)
    return (rows >= box.y) & (rows < box.y + box.height) & (columns >= box.x) & (columns < box.x + box.width)


@given(AREAS)
def test_run_lengths_are_those_of_coco(area: np.ndarray) -> None:
    counts = mask_runs(area)
    theirs = coco.frPyObjects({"size": list(area.shape), "counts": list(counts)}, *area.shape)
    np.testing.assert_array_equal(coco.decode(theirs), area)
    assert coco.encode(np.asfortranarray(area.astype(np.uint8)))["counts"] == theirs["counts"]
    np.testing.assert_array_equal(runs_mask(counts, area.shape), area)


@pytest.mark.parametrize("counts", [(3, 4), (3, -1, 4), (6, 1)])
def test_run_lengths_of_another_size_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="for an image of 3 x 2"):
        runs_mask(counts, (2, 3))


def test_each_mark_is_drawn_for_its_class_alone() -> None:
    crack, stain = Box("crack", 10, 3, 12, 4), Box("stain", 0, 0, 5, 20)
    corners = ((2.0, 2.0), (9.0, 2.0), (9.0, 11.0))
    triangle = polygon_mask(np.array(corners), SIZE)
    marked = sample(boxes=(crack, stain), polygons=(Polygon("pit", corners),))
    np.testing.assert_array_equal(truth_of(marked, SIZE, "crack"), of_box(crack))
    np.testing.assert_array_equal(truth_of(marked, SIZE, "stain"), of_box(stain))
    np.testing.assert_array_equal(truth_of(marked, SIZE, "pit"), triangle)
    np.testing.assert_array_equal(truth_of(marked, SIZE), of_box(crack) | of_box(stain) | triangle)
    assert not truth_of(marked, SIZE, "scratch").any()
    assert is_marked(marked)
    assert [is_marked(marked, label) for label in ("crack", "pit", "scratch")] == [True, True, False]
    assert not is_marked(sample())


def test_a_box_about_an_exact_mark_adds_nothing() -> None:
    area = np.zeros(SIZE, np.bool_)
    area[4:9, 3:7] = True
    area[5, 5] = False
    boxes = (Box("crack", 3, 4, 4, 5), Box("stain", 20, 10, 4, 4))
    marked = sample(boxes=boxes, runs=(RunLengths("crack", SIZE, mask_runs(area)),))
    np.testing.assert_array_equal(truth_of(marked, SIZE, "crack"), area)
    np.testing.assert_array_equal(truth_of(marked, SIZE), area | of_box(boxes[1]))


def test_a_mask_is_of_every_class_of_its_sample(tmp_path: Path) -> None:
    mask = write_image(tmp_path / "mask.png", 3, SIZE)
    marked = sample(mask_path=mask)
    assert truth_of(marked, SIZE, "crack").any()
    np.testing.assert_array_equal(truth_of(marked, SIZE, "stain"), truth_of(marked, SIZE))
    assert not truth_of(marked, SIZE, "pit").any()
    assert [is_marked(marked, label) for label in (None, "stain", "pit")] == [True, True, False]


def test_a_mark_of_another_size_is_refused() -> None:
    area = np.ones((4, 5), np.bool_)
    with pytest.raises(DatasetError, match=r"x\.png is 30 x 20 pixels, a mark in it was drawn on 5 x 4"):
        truth_of(sample(runs=(RunLengths("crack", (4, 5), mask_runs(area)),)), SIZE)


@given(st.lists(st.tuples(st.floats(-9, 40), st.floats(-9, 40)), min_size=3, max_size=7))
def test_a_polygon_is_drawn_where_it_lies_and_cut_at_the_edges(points: list[tuple[float, float]]) -> None:
    drawn = truth_of(sample(polygons=(Polygon("crack", tuple(points)),)), SIZE)
    np.testing.assert_array_equal(drawn, polygon_mask(np.array(points), SIZE))
