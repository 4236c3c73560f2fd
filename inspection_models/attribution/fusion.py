"""From the blocks' visualization maps to the attribution map (SISE, figure 5): normalise, add, gate.

Plain elementwise numpy in a fixed order, so that a stored record renders to the same bits on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inspection_models.attribution.errors import AttributionError

Gate = Literal["hard", "soft", "none", "product"]
GATES: tuple[str, ...] = get_args(Gate)

_BINS = 256
_SOFT_STEEPNESS = 100.0
_SOFT_RAISE = 1.5
_SOFT_SHARE = 0.1
# Least share of its maximum that a level can leave a place with, lest a single one veto it. The last one tells classes
# apart and may all but veto.
_FLOOR, _LAST_FLOOR = 0.01, 0.0001


def render_map(
    block_grids: Sequence[ArrayLike], input_size: tuple[int, int], gate: Gate = "hard"
) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], ...]]:
    """Attribution map and blocks' visualization maps of stored grids.

    `block_grids`: the visualization maps at feature resolution, shallow to deep, [..., h, w] each; `input_size`: the
    network's input (H, W). Returns the map [..., H, W] in [0, 1], divided by its maximum, and each block's upsampled
    and min-max normalised map [..., H, W] in [0, 1]. A map without any evidence is zero. Raises `AttributionError` for
    an unknown gate and for grids that do not belong together.
    """
    if gate not in GATES:
        raise AttributionError(f"unknown gate {gate!r}: there are {', '.join(GATES)}")
    blocks = [np.asarray(grids, dtype=np.float32) for grids in block_grids]
    if not blocks or any(grids.ndim < 3 or grids.shape[:-2] != blocks[0].shape[:-2] for grids in blocks):
        raise AttributionError("block_grids must be one array [N, h, w] a block, all for the same N images")
    maps = np.zeros((*blocks[0].shape[:-2], *input_size), dtype=np.float32)
    block_maps = tuple(np.zeros_like(maps) for _ in blocks)
    for image in np.ndindex(maps.shape[:-2]):
        rendered = [visualization_map(grids[image], input_size) for grids in blocks]
        for block, visualization in zip(block_maps, rendered, strict=True):
            block[image] = visualization
        fused = fuse(rendered, gate)
        if fused.max() > 0:
            maps[image] = fused / fused.max()
    return maps, block_maps


def visualization_map(grid: NDArray[np.float32], input_size: tuple[int, int]) -> NDArray[np.float64]:
    """One grid [h, w], upsampled to `input_size` (H, W) and min-max normalised to [0, 1]; zero where it is constant."""
    if grid.min() == grid.max():
        return np.zeros(input_size)
    upsampled = upsample_bilinear(grid.astype(np.float64), input_size)
    return np.asarray((upsampled - upsampled.min()) / (upsampled.max() - upsampled.min()))


def fuse(visualization_maps: Sequence[NDArray[np.float64]], gate: Gate) -> NDArray[np.float64]:
    """E = V_1; then for each deeper block E = (E + V_b) * gate(V_b). Maps [H, W] in [0, 1]; the sum is not normalised.

    A constant map says nothing about places: it is zero after normalisation, and its gate is skipped. With the gate
    "none" the maps are only added. With "product" they are multiplied: E = sqrt(prod_b max(V_b, f_b)), f being 0.0001
    for the last map and 0.01 for the others, less what remains where all stand at f. Of six maps that is the third
    power of their geometric mean, but takes only operations that every processor rounds alike.
    """
    if gate == "product":
        return _product(visualization_maps)
    fused = visualization_maps[0]
    for deeper in visualization_maps[1:]:
        fused = fused + deeper
        if gate != "none" and deeper.max() > 0:
            fused = fused * gate_map(deeper, gate)
    return fused


def _product(visualization_maps: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    floors = [_FLOOR] * (len(visualization_maps) - 1) + [_LAST_FLOOR]
    speaking = [(level, floor) for level, floor in zip(visualization_maps, floors, strict=True) if level.max() > 0]
    product, lowest = np.ones_like(visualization_maps[0]), 1.0
    for level, floor in speaking:
        product = product * np.maximum(level, floor)
        lowest *= floor
    return np.sqrt(product) - math.sqrt(lowest) if speaking else np.zeros_like(product)


def gate_map(visualization_map: NDArray[np.float64], gate: Literal["hard", "soft"]) -> NDArray[np.float64]:
    """How much of each pixel passes, [H, W] in [0, 1], for a map that is not constant.

    "hard", the paper's: 1 where the pixel's bin lies above Otsu's, that is V >= `otsu_threshold`, else 0.
    "soft": sigmoid(100 (V - t)), with Otsu's t raised to 1.5 t where fewer than a tenth of the pixels reach that (and
    where 1.5 t < 1, for otherwise nothing would pass).
    """
    threshold = otsu_threshold(visualization_map)
    if gate == "hard":
        return (visualization_map >= threshold).astype(np.float64)
    raised = _SOFT_RAISE * threshold
    if raised < 1 and np.mean(visualization_map >= raised) < _SOFT_SHARE:
        threshold = raised
    return np.asarray(1.0 / (1.0 + np.exp(-_SOFT_STEEPNESS * (visualization_map - threshold))))


def otsu_threshold(values: NDArray[np.float64]) -> float:
    """Otsu's threshold of values in [0, 1]: the lowest value of the upper class.

    Bin i of 256 holds floor(256 v) = i (v = 1 belongs to the last). Of all k, the first that maximises the variance
    between the bins up to k and those above k wins; the upper class is "bin > k", so the threshold is (k + 1) / 256.
    """
    bins = np.minimum((values * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins.ravel(), minlength=_BINS)
    below, moment = np.cumsum(counts), np.cumsum(counts * np.arange(_BINS))
    total, total_moment = int(below[-1]), int(moment[-1])
    above = total - below
    # Variance between classes, times total squared: (m_T w_0 - m_0 n)^2 / (w_0 w_1) with whole-number sums.
    difference = (total_moment * below - moment * total).astype(np.float64)
    product = below.astype(np.float64) * above
    variance = np.divide(difference * difference, product, out=np.zeros(_BINS), where=product > 0)
    return (int(np.argmax(variance)) + 1) / _BINS


def upsample_bilinear(grid: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear resize of [h, w] to `size` (H, W) with half-pixel centres; borders repeat the outermost cells."""
    top, bottom, down = _neighbours(grid.shape[0], size[0])
    left, right, across = _neighbours(grid.shape[1], size[1])
    rows = grid[top] * (1 - down)[:, None] + grid[bottom] * down[:, None]
    return np.asarray(rows[:, left] * (1 - across) + rows[:, right] * across)


def _neighbours(count: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    place = np.clip((np.arange(size) + 0.5) * (count / size) - 0.5, 0.0, count - 1.0)
    before = np.floor(place).astype(np.int64)
    return before, np.minimum(before + 1, count - 1), place - before
