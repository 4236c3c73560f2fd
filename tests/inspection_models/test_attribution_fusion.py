"""Rendering and fusing visualization maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch.nn import functional

from inspection_models.attribution import AttributionError, render_map
from inspection_models.attribution.fusion import fuse, gate_map, otsu_threshold, upsample_bilinear, visualization_map
from tests.inspection_models import sise_oracle

SIZE = (9, 11)
grids = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(0, 1, width=32, allow_subnormal=False),
)
unit_maps = hnp.arrays(np.float64, SIZE, elements=st.floats(0, 1))


@given(grids, st.integers(1, 20), st.integers(1, 20))
def test_upsampling_is_torchs_with_half_pixel_centres(grid: NDArray[np.float32], height: int, width: int) -> None:
    tensor = torch.from_numpy(grid.astype(np.float64))[None, None]
    expected = functional.interpolate(tensor, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
    np.testing.assert_allclose(upsample_bilinear(grid.astype(np.float64), (height, width)), expected, atol=1e-12)


@given(unit_maps)
def test_otsu_is_the_best_of_all_splits(values: NDArray[np.float64]) -> None:
    bins = np.minimum(np.floor(values * 256), 255)
    if bins.min() == bins.max():
        return

    def variance(threshold: float) -> float:
        low, high = bins[bins < threshold * 256], bins[bins >= threshold * 256]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    found = otsu_threshold(values)
    best = max(variance(split / 256) for split in range(1, 256))
    assert variance(found) == pytest.approx(best, rel=1e-9)
    assert all(variance(split / 256) < best * (1 - 1e-12) for split in range(1, round(found * 256)))


def test_otsu_of_two_values_takes_the_first_split_between_them() -> None:
    values = np.array([[0.0, 0.0, 1.0, 0.25]])
    assert otsu_threshold(np.array([[0.0, 1.0]])) == 1 / 256
    assert otsu_threshold(values) == 65 / 256
    assert gate_map(values, "hard").tolist() == [[0, 0, 1, 0]]


def test_soft_gate_is_steep_raised_and_never_shuts_everything_out() -> None:
    spike = np.zeros((10, 10))
    spike[0, :5] = 1.0
    spike[1:] = np.linspace(0.0, 0.3, 90).reshape(9, 10)
    threshold = otsu_threshold(spike)
    assert (spike >= 1.5 * threshold).mean() < 0.1
    gate = gate_map(spike, "soft")
    assert gate[0, 0] == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(gate, 1 / (1 + np.exp(-100 * (spike - 1.5 * threshold))))
    high = np.array([[0.0] + [0.7] * 100 + [1.0] * 8])
    assert 1.5 * otsu_threshold(high) > 1
    assert gate_map(high, "soft")[0, -1] > 0.99


@given(st.lists(unit_maps, min_size=1, max_size=5))
def test_fusion_is_its_unrolled_sum(maps: list[NDArray[np.float64]]) -> None:
    """S = sum_b V_b * product of the gates of all blocks from b on, the first block's own gate left out."""
    gates = [gate_map(m, "hard") if m.max() > 0 else np.ones(SIZE) for m in maps]
    expected = np.zeros(SIZE)
    for block, visualization in enumerate(maps):
        expected += visualization * np.prod(gates[max(block, 1) :], axis=0)
    np.testing.assert_allclose(fuse(maps, "hard"), expected, atol=1e-12)


@given(st.lists(hnp.arrays(np.float32, (2, 4, 5), elements=st.floats(0, 1, width=32)), min_size=2, max_size=4))
@settings(max_examples=50)
def test_map_is_zero_where_the_last_block_is_below_its_threshold(blocks: list[NDArray[np.float32]]) -> None:
    rendered, block_maps = render_map(blocks, SIZE)
    assert rendered.dtype == np.float32
    assert rendered.shape == (2, *SIZE)
    for index in range(2):
        last = visualization_map(blocks[-1][index], SIZE)
        assert np.array_equal(last.astype(np.float32), block_maps[-1][index])
        if last.any():
            assert not rendered[index][last < sise_oracle.otsu(last)].any()
        assert rendered[index].max() == (1 if rendered[index].any() else 0)
        assert rendered[index].min() >= 0


def test_empty_and_constant_blocks_gate_nothing() -> None:
    shallow = np.array([[[0.0, 1.0], [0.5, 0.25]]], dtype=np.float32)
    empty, constant = np.zeros((1, 3, 3), np.float32), np.full((1, 3, 3), 0.3, np.float32)
    alone, _ = render_map([shallow], SIZE)
    for silent in (empty, constant):
        rendered, block_maps = render_map([shallow, silent], SIZE)
        assert np.array_equal(rendered, alone)
        assert not block_maps[1].any()
    nothing, _ = render_map([empty, constant], SIZE)
    assert not nothing.any()


@pytest.mark.parametrize(
    ("blocks", "gate", "message"),
    [
        ([np.zeros((1, 2, 2), np.float32)], "open", "unknown gate 'open': there are hard, soft"),
        ([], "hard", "block_grids must be"),
        ([np.zeros((2, 2), np.float32)], "hard", "block_grids must be"),
        ([np.zeros((1, 2, 2), np.float32), np.zeros((2, 2, 2), np.float32)], "hard", "for the same N images"),
    ],
)
def test_unusable_records_are_refused(blocks: Any, gate: Any, message: str) -> None:
    with pytest.raises(AttributionError, match=message):
        render_map(blocks, SIZE, gate)
