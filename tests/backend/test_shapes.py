from __future__ import annotations

import json
import math
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from label_studio_sdk.converter.brush import mask2rle
from pycocotools import mask as coco

from backend.label_studio.shapes import ShapeError, geometry_kind, image_size, polygon_mask, rasterise, same_geometry

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def region(kind: str, size: tuple[int, int], **value: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "type": f"{kind}labels",
        "original_height": size[0],
        "original_width": size[1],
        "image_rotation": 0,
        "value": {**value, f"{kind}labels": ["x"]},
    }


def exact_even_odd(corners: list[tuple[float, float]], x: Fraction, y: Fraction) -> bool | None:
    """Whether a point is in a polygon, in exact arithmetic by a ray to the right; None on or very near an edge."""
    points = [(Fraction(a), Fraction(b)) for a, b in corners]
    inside = False
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        length2 = (x2 - x1) ** 2 + (y2 - y1) ** 2
        along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length2 if length2 else Fraction(0)
        along = min(max(along, Fraction(0)), Fraction(1))
        gap = (x - x1 - along * (x2 - x1)) ** 2 + (y - y1 - along * (y2 - y1)) ** 2
        if gap < Fraction(1, 10**18):
            return None
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            inside = not inside
    return inside


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    size=SIZES,
    corners=st.lists(st.tuples(st.floats(-5, 17), st.floats(-5, 17)), min_size=3, max_size=6),
)
def test_polygons_hold_the_pixels_whose_centres_they_hold(
    size: tuple[int, int], corners: list[tuple[float, float]]
) -> None:
    """Self-crossing polygons and such that reach beyond the border included."""
    mask = polygon_mask(np.array(corners), size)
    assert mask.shape == size and mask.dtype == np.bool_
    for row in range(size[0]):
        for column in range(size[1]):
            expected = exact_even_odd(corners, column + Fraction(1, 2), row + Fraction(1, 2))
            assert expected is None or bool(mask[row, column]) == expected, (row, column)


@given(size=SIZES, data=st.data())
def test_two_halves_of_a_picture_share_no_pixel(size: tuple[int, int], data: st.DataObject) -> None:
    """Along a cut through pixel centres as well."""
    height, width = size
    top, bottom = (data.draw(st.integers(0, 2 * width)) / 2 for _ in range(2))
    left = polygon_mask(np.array([[0, 0], [top, 0], [bottom, height], [0, height]], dtype=float), size)
    right = polygon_mask(np.array([[top, 0], [width, 0], [width, height], [bottom, height]], dtype=float), size)
    assert (left ^ right).all()


@given(size=SIZES, data=st.data())
def test_a_rectangle_of_whole_pixels_is_those_pixels(size: tuple[int, int], data: st.DataObject) -> None:
    height, width = size
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    expected = np.zeros(size, dtype=bool)
    expected[y : y + h, x : x + w] = True
    box = region(
        "rectangle", size, x=x / width * 100, y=y / height * 100, width=w / width * 100, height=h / height * 100
    )
    np.testing.assert_array_equal(rasterise(box), expected)


@settings(max_examples=40, deadline=None)
@given(size=SIZES, data=st.data())
def test_a_turned_rectangle_turns_about_its_corner_in_pixels(size: tuple[int, int], data: st.DataObject) -> None:
    height, width = size
    x, y, w, h = (data.draw(st.floats(-20, 120)) for _ in range(4))
    assume(min(w, h) > 0.5)
    angle = data.draw(st.floats(-360, 360))
    mask = rasterise(region("rectangle", size, x=x, y=y, width=w, height=h, rotation=angle))
    # The oracle turns each pixel's centre back, by complex numbers, and looks into the upright box.
    back = complex(math.cos(math.radians(-angle)), math.sin(math.radians(-angle)))
    for row in range(height):
        for column in range(width):
            point = (complex(column + 0.5, row + 0.5) - complex(x * width / 100, y * height / 100)) * back
            u, v = point.real / (w * width / 100), point.imag / (h * height / 100)
            if min(abs(u), abs(u - 1), abs(v), abs(v - 1)) > 1e-9:
                assert bool(mask[row, column]) == (0 < u < 1 and 0 < v < 1)


def test_a_quarter_turn_is_clockwise() -> None:
    """A bar to the right of its corner hangs down from it after 90 degrees, to its left."""
    mask = rasterise(region("rectangle", (10, 20), x=50, y=20, width=20, height=10, rotation=90))
    expected = np.zeros((10, 20), dtype=bool)
    expected[2:6, 9:10] = True
    np.testing.assert_array_equal(mask, expected)


@settings(max_examples=40, deadline=None)
@given(size=SIZES, data=st.data())
def test_an_ellipse_is_all_points_with_the_same_sum_of_distances(size: tuple[int, int], data: st.DataObject) -> None:
    """The oracle is the gardener's: two foci and a string."""
    height, width = size
    x, y = data.draw(st.floats(-10, 110)), data.draw(st.floats(-10, 110))
    rx, ry = data.draw(st.floats(1, 80)), data.draw(st.floats(1, 80))
    angle = data.draw(st.floats(-180, 180))
    mask = rasterise(region("ellipse", size, x=x, y=y, radiusX=rx, radiusY=ry, rotation=angle))
    a, b = rx * width / 100, ry * height / 100
    centre = complex(x * width / 100, y * height / 100)
    turn = complex(math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    focus = turn * (math.sqrt(a * a - b * b) if a >= b else 1j * math.sqrt(b * b - a * a))
    for row in range(height):
        for column in range(width):
            point = complex(column + 0.5, row + 0.5) - centre
            string = abs(point - focus) + abs(point + focus)
            if abs(string - 2 * max(a, b)) > 1e-6:
                assert bool(mask[row, column]) == (string < 2 * max(a, b))


@given(npst.arrays(np.bool_, SIZES))
def test_a_brush_mask_comes_back(mask: np.ndarray) -> None:
    code = mask2rle(mask.astype(np.uint8) * 255)
    np.testing.assert_array_equal(rasterise(region("brush", mask.shape, format="rle", rle=code)), mask)


def test_agrees_with_another_rasteriser_but_at_the_rim(payloads: Path) -> None:
    result = json.loads((payloads / "api_prediction.json").read_text(encoding="utf-8"))["result"]
    drawn = next(item for item in result if item["type"] == "polygonlabels")
    mask = rasterise(drawn)
    flat = (np.array(drawn["value"]["points"]) / 100 * (640, 480)).ravel().tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools and NumPy 2
        theirs = coco.decode(coco.frPyObjects([flat], 480, 640))[:, :, 0].astype(bool)
    assert mask.sum() > 500
    assert (mask & theirs).sum() / (mask | theirs).sum() > 0.9
    ys, xs = np.nonzero(mask ^ theirs)
    edges = np.array(drawn["value"]["points"]) / 100 * (640, 480)
    for x, y in zip(xs + 0.5, ys + 0.5, strict=True):
        starts, ends = edges, np.roll(edges, -1, axis=0)
        along = ((np.array([x, y]) - starts) * (ends - starts)).sum(1) / ((ends - starts) ** 2).sum(1)
        nearest = starts + np.clip(along, 0, 1)[:, None] * (ends - starts)
        assert np.hypot(*(nearest - (x, y)).T).min() < 1


POLYGON = {"points": [[10, 10], [50, 10], [50, 60]], "closed": True}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (region("keypoint", (9, 9), x=1, y=1, width=1), "no area"),
        (region("polygon", (9, 9), points=[[1, 1], [2, 2]]), "3 points"),
        (region("polygon", (9, 9), points=[[1, 1], [2, 2], [3, float("nan")]]), "3 points"),
        (region("polygon", (9, 9), points=[[1, 1], [2, 2], [3, 1e9]]), "3 points"),
        (region("polygon", (9, 9), points=[[1, 1], [2, "a"], [3, 4]]), "pairs"),
        (region("polygon", (9, 9), points=[[1, 1], [2], [3, 4]]), "pairs"),
        (region("polygon", (9, 9)), "3 points"),
        (region("rectangle", (9, 9), x=1, y=1, width=1), "not numbers"),
        (region("rectangle", (9, 9), x=1, y=1, width=1, height=float("inf")), "not numbers"),
        (region("rectangle", (9, 9), x=1, y=1, width=1, height=1, rotation="a"), "degrees"),
        (region("ellipse", (9, 9), x=1, y=1, radiusX=0, radiusY=1), "no area"),
        (region("brush", (9, 9), rle=[1, 2]), "cut off"),
        (region("brush", (9, 9)), "cut off"),
        (region("polygon", (0, 9), **POLYGON), "original_height"),
        (region("polygon", (9, 100_000), **POLYGON), "original_width"),
        (region("polygon", (60_000, 60_000), **POLYGON), "more than"),
        ({**region("polygon", (9, 9), **POLYGON), "image_rotation": 90}, "turned by 90"),
        ({**region("polygon", (9, 9)), "value": None}, "no value"),
        ({**region("polygon", (9, 9), **POLYGON), "type": "textarea"}, "no region"),
        ({"type": "polygonlabels", "value": POLYGON}, "original_height"),
    ],
)
def test_refuses_what_has_no_area(item: dict[str, Any], said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        rasterise(item)


def test_kinds() -> None:
    assert [
        geometry_kind({"type": kind}) for kind in ("polygonlabels", "rectangle", "choices", "labels", "textarea")
    ] == [
        "polygon",
        "rectangle",
        None,
        None,
        None,
    ]
    assert image_size(region("polygon", (3, 4))) == (3, 4)


def test_same_geometry() -> None:
    polygon = region("polygon", (100, 200), **POLYGON)
    near = region("polygon", (100, 200), points=[[10.002, 10], [50, 10.005], [50, 60]])
    far = region("polygon", (100, 200), points=[[10.02, 10], [50, 10], [50, 60]])
    assert same_geometry(polygon, polygon) and same_geometry(polygon, near)
    assert not same_geometry(polygon, far)
    assert not same_geometry(polygon, region("polygon", (100, 201), **POLYGON))
    assert not same_geometry(polygon, region("polygon", (100, 200), points=[*POLYGON["points"], [10, 60]]))  # type: ignore[misc]
    box = region("rectangle", (100, 200), x=1, y=1, width=5, height=5)
    assert same_geometry(box, {**box, "value": {**box["value"], "rotation": 360}})
    assert not same_geometry(box, {**box, "value": {**box["value"], "rotation": 1}})
    assert not same_geometry(box, polygon)
    oval = region("ellipse", (100, 200), x=50, y=50, radiusX=5, radiusY=9)
    assert same_geometry(oval, oval) and not same_geometry(oval, {**oval, "value": {**oval["value"], "radiusY": 9.1}})
    point = region("keypoint", (100, 200), x=50, y=50, width=1)
    assert same_geometry(point, point) and not same_geometry(point, {**point, "value": {**point["value"], "x": 51}})
    brush = region("brush", (100, 200), rle=[1, 2, 3])
    assert same_geometry(brush, brush) and not same_geometry(brush, region("brush", (100, 200), rle=[1, 2]))
    turned = {**polygon, "image_rotation": 90}
    assert same_geometry(turned, turned) and not same_geometry(turned, {**far, "image_rotation": 90})
    assert not same_geometry({"type": "choices"}, {"type": "choices"})
