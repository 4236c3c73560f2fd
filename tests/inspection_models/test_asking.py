"""The regions of a place: cut off at its border, weighed by the whole map, and none where nothing stands out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from inspection_models.asking import regions_in_place, share_in_place
from inspection_models.region_drawing import mask_of
from inspection_models.regions import RegionError

SIZE = (40, 50)


def map_with(*spots: tuple[int, int, int, int, float]) -> np.ndarray:
    """A dark map with rectangles (top, bottom, left, right) of a brightness."""
    found = np.zeros(SIZE, np.float32)
    for top, bottom, left, right, value in spots:
        found[top:bottom, left:right] = value
    return found


def place_of(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    place = np.zeros(SIZE, np.bool_)
    place[top:bottom, left:right] = True
    return place


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(0, 50)] * 4), st.floats(0.1, 0.9))
def test_what_is_drawn_is_cut_at_the_border_and_weighed_by_the_whole_map(
    seed: int, sides: tuple[int, int, int, int], level: float
) -> None:
    generator = np.random.default_rng(seed)
    attribution_map = ndimage.gaussian_filter(generator.random(SIZE), 3).astype(np.float32)
    drawn = attribution_map > np.quantile(attribution_map, level)
    place = place_of(*sorted(sides[:2]), *sorted(sides[2:]))
    found = regions_in_place(attribution_map, place, {"map": drawn}, 0.5)
    shown = mask_of(found, SIZE)
    assert not (shown & ~place).any()
    # Told apart anew, by another library.
    labels, count = ndimage.label(place & drawn, structure=np.ones((3, 3)))
    areas = ndimage.sum_labels(np.ones(SIZE), labels, range(1, count + 1))
    sums = sorted(
        (float(attribution_map[labels == n + 1].sum(dtype=np.float64)) for n in range(count) if areas[n] >= 16),
        reverse=True,
    )
    total = float(attribution_map.sum(dtype=np.float64))
    if sums and sums[0] >= 0.02 * total:
        assert [one.evidence for one in found] == pytest.approx([one / total for one in sums[:10]])


def test_a_drawn_region_that_reaches_beyond_the_place_ends_at_its_border() -> None:
    whole = map_with((10, 20, 10, 40, 1.0))
    [part] = regions_in_place(whole, place_of(0, 40, 0, 25), {"learned": whole > 0}, 0.5)
    assert (part.box, part.evidence, part.drawn_by) == ((10, 10, 15, 10), pytest.approx(0.5), "learned")


def test_weaker_evidence_is_shown_where_nothing_was_drawn() -> None:
    both = map_with((2, 12, 2, 12, 1.0), (25, 35, 30, 40, 0.2))
    drawn = {"snapped": both > 0.5}
    [weak] = regions_in_place(both, place_of(20, 40, 25, 45), drawn, 0.5)
    assert (weak.box, weak.drawn_by) == ((30, 25, 10, 10), "map")
    assert weak.evidence == pytest.approx(20 / 120)


def test_a_crumb_of_a_drawn_region_does_not_hide_what_lies_beside_it() -> None:
    both = map_with((2, 12, 2, 12, 1.0), (25, 35, 30, 40, 0.2))
    crumb = np.zeros(SIZE, np.bool_)
    crumb[20:24, 0:45] = True
    [beside] = regions_in_place(both, place_of(20, 40, 25, 45), {"learned": crumb}, 0.5)
    assert (beside.box, beside.drawn_by) == ((30, 25, 10, 10), "map")
    # Where there is nothing beside it, it is shown and marked.
    [alone] = regions_in_place(both, place_of(18, 25, 25, 45), {"learned": crumb}, 0.5)
    assert (alone.drawn_by, alone.has_evidence) == ("learned", False)


@pytest.mark.parametrize(
    "attribution_map",
    [
        map_with(),
        map_with((2, 12, 2, 12, 1.0)),
        # Under two per cent of the evidence.
        map_with((2, 12, 2, 12, 1.0), (25, 29, 30, 34, 0.1)),
        # No more than anywhere else.
        map_with((0, 40, 0, 50, 0.5), (2, 12, 2, 12, 1.0)),
    ],
)
def test_nothing_is_made_up_where_nothing_stands_out(attribution_map: np.ndarray) -> None:
    assert regions_in_place(attribution_map, place_of(20, 40, 25, 45), {}, 0.5) == ()


def test_an_empty_place_has_nothing() -> None:
    whole = map_with((0, 40, 0, 50, 1.0))
    assert regions_in_place(whole, place_of(0, 0, 0, 0), {"map": whole > 0}, 0.5) == ()
    assert share_in_place(whole, place_of(0, 40, 0, 25)) == pytest.approx(0.5)


def test_masks_of_another_image_are_refused() -> None:
    with pytest.raises(RegionError, match="one image"):
        regions_in_place(map_with(), np.ones((5, 5), np.bool_), {}, 0.5)
