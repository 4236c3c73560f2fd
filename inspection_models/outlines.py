"""Outlines of masks as polygons, and polygons as masks.

Coordinates are continuous: pixel (x, y) covers [x, x + 1] x [y, y + 1], its centre is at (x + 0.5, y + 0.5). A ring is
an array [K, 2] of x, y without repetition of its first point. On the screen, where y points down, outer rings run
clockwise and holes counter-clockwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outline:
    """Outer ring and holes of one connected area."""

    outer: Ring
    holes: tuple[Ring, ...]


def exact_outline(mask: NDArray[np.bool_], smallest_hole: float = 1) -> Outline:
    """Outline of a mask [h, w] that is one 8-connected area, along the edges of its pixels.

    Vertices are the corners only. Where two pixels touch at a corner alone, the ring passes that corner twice. Holes of
    less than `smallest_hole` square pixels are left out.
    Raises `ValueError` where the mask is empty or falls into several areas.
    """
    runs, cycles = _horizontal_runs(mask)
    lengths = np.array([len(cycle) for cycle in cycles], dtype=np.int64)
    ordered = runs[np.concatenate([*cycles, np.empty(0, dtype=np.int64)]).astype(np.int64)]
    # The area of a ring is minus the sum of y dx, and only horizontal runs have dx.
    shares = np.cumsum((ordered[:, 0] - ordered[:, 1]) * ordered[:, 2])
    areas = np.diff(shares[np.cumsum(lengths) - 1], prepend=0)
    if (outer := np.flatnonzero(areas > 0)).size != 1:
        raise ValueError(f"an outline needs a mask that is one connected area, not {outer.size}")
    holes = np.flatnonzero(-areas >= smallest_hole)
    return Outline(_corners(runs[cycles[outer[0]]]), tuple(_corners(runs[cycles[hole]]) for hole in holes))


def simplified(outline: Outline, tolerance: float) -> Outline:
    """An outline with fewer vertices, at most `tolerance` + 0.5 pixels away from the exact one.

    First the corners are cut (less than 0.5 pixels), which keeps every pixel centre on its side and turns staircases
    into straight lines; then vertices are left out (Douglas-Peucker).
    Where rings would cross or vanish by that, half the tolerance is tried, then a quarter, then none. Rings have at
    least three vertices, an area, and no crossing, and stay within the exact outline's bounding box.
    """
    cut = [_cut_corners(ring) for ring in (outline.outer, *outline.holes)]
    for part in (1.0, 0.5, 0.25):
        rings = [_thinned(ring, tolerance * part) for ring in cut]
        if all(len(ring) >= 3 and signed_area(ring) for ring in rings) and not rings_cross(rings):
            return Outline(rings[0], tuple(rings[1:]))
    return Outline(cut[0], tuple(cut[1:]))


def signed_area(ring: Ring) -> float:
    """Area in square pixels; positive where the ring runs clockwise on the screen."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def perimeter(ring: Ring) -> float:
    """Length in pixels."""
    return float(np.hypot(*(np.roll(ring, -1, axis=0) - ring).T).sum())


def polygon_mask(polygon: Ring, size: tuple[int, int], holes: Iterable[Ring] = ()) -> NDArray[np.bool_]:
    """The pixels of an image of `size` (height, width) whose centres lie inside `polygon` and outside its `holes`.

    Even-odd rule. A centre exactly on an edge belongs to the area at its right or below it.
    """
    height, width = size
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for ring in (polygon, *holes):
        start, end = np.asarray(ring, dtype=np.float64), np.roll(np.asarray(ring, dtype=np.float64), -1, axis=0)
        swap = start[:, 1] > end[:, 1]
        upper, lower = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
        first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
        count = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64) - first
        edge = np.repeat(np.arange(len(start)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        along = (row + 0.5 - upper[edge, 1]) / (lower[edge, 1] - upper[edge, 1])
        x = upper[edge, 0] + along * (lower[edge, 0] - upper[edge, 0])
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(crossings, (row, column), 1)
    return np.asarray(np.cumsum(crossings[:, :width], axis=1) % 2 == 1)


def rings_cross(rings: Sequence[Ring]) -> bool:
    """Whether any two edges of the rings cross or touch, other than neighbours at their common vertex."""
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    order = np.argsort(np.minimum(start[:, 0], end[:, 0]), kind="stable")
    start, end = start[order], end[order]
    left, right = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    # Only edges whose x ranges overlap can meet: of the edges sorted by their left end, a run behind each.
    count = np.searchsorted(left, right, side="right") - np.arange(len(left)) - 1
    a = np.repeat(np.arange(len(left)), count)
    b = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count) + a + 1
    bottom, top = np.maximum(start[:, 1], end[:, 1]), np.minimum(start[:, 1], end[:, 1])
    near = (top[a] <= bottom[b]) & (top[b] <= bottom[a])
    a, b = a[near], b[near]
    neighbours = (start[a] == end[b]).all(axis=1) | (end[a] == start[b]).all(axis=1)
    a, b = a[~neighbours], b[~neighbours]
    sides = [_side(start[a], end[a], start[b]), _side(start[a], end[a], end[b])]
    other = [_side(start[b], end[b], start[a]), _side(start[b], end[b], end[a])]
    return bool(((sides[0] * sides[1] <= 0) & (other[0] * other[1] <= 0)).any())


def _side(start: Ring, end: Ring, point: Ring) -> NDArray[np.float64]:
    along, across = end - start, point - start
    return np.asarray(np.sign(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]))


def _horizontal_runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[list[int]]]:
    """All horizontal boundary runs, [R, 3] of (x of start, x of end, y), and the cycles of them that are rings.

    Runs above the area go right, runs below it go left: the area is on the right-hand side. Between two runs of a
    cycle lies a vertical one.
    """
    padded = np.pad(mask.astype(np.int8), 1)
    step = np.diff(padded, axis=0)  # step[y, x + 1]: from pixel (x, y - 1) to (x, y); 1 enters the area, -1 leaves it
    y, x = np.nonzero(step[:, 1:] != step[:, :-1])  # corners: a run starts, ends or turns into its opposite at (x, y)
    before, after = step[y, x], step[y, x + 1]
    ends_run, starts_run = before != 0, after != 0
    left, right, row, way = x[starts_run], x[ends_run], y[starts_run], after[starts_run]
    begin, finish = np.where(way > 0, left, right), np.where(way > 0, right, left)

    # Going right, the ring turns up where the pixel above and ahead is in the area, so that pixels that touch at a
    # corner stay in one ring; else down. Going left, it turns down where the pixel below and ahead is in the area.
    down = np.where(way > 0, padded[row, finish + 1] == 0, padded[row + 1, finish] == 1)
    # A vertical run leads to the next corner of its column.
    tall = len(step)
    corners = np.sort(x * tall + y)
    reached = np.searchsorted(corners, finish * tall + row) + np.where(down, 1, -1)

    started = {sign: np.full(len(corners), -1, dtype=np.int64) for sign in (1, -1)}
    for sign, run_at in started.items():
        own = np.flatnonzero(way == sign)
        run_at[np.searchsorted(corners, begin[own] * tall + row[own])] = own
    # A corner where two runs start joins two pixels: who comes from above goes right, who comes from below goes left.
    preferred = np.where(down, started[1][reached], started[-1][reached])
    follower = np.where(preferred >= 0, preferred, np.where(down, started[-1][reached], started[1][reached]))
    return np.stack([begin, finish, row], axis=1).astype(np.int64), _cycles(follower.tolist())


def _cycles(follower: list[int]) -> list[list[int]]:
    seen = bytearray(len(follower))
    cycles = []
    for first in range(len(follower)):
        if seen[first]:
            continue
        cycle = []
        run = first
        while not seen[run]:
            seen[run] = 1
            cycle.append(run)
            run = follower[run]
        cycles.append(cycle)
    return cycles


def _corners(runs: NDArray[np.int64]) -> Ring:
    starts, ends = runs[:, [0, 2]], runs[:, [1, 2]]
    return np.stack([starts, ends], axis=1).reshape(-1, 2).astype(np.float64)


def _cut_corners(ring: Ring) -> Ring:
    """Two points on each edge instead of the corners: half a pixel from its ends, or halfway beside a step.

    A step is an edge of one pixel between a left and a right turn. Halfway to halfway, a staircase of any slope becomes
    a straight line; as one leg of each cut is half a pixel long, no pixel centre changes its side.
    """
    edges = np.roll(ring, -1, axis=0) - ring
    lengths = np.abs(edges).sum(axis=1)
    before = np.roll(edges, 1, axis=0)
    turns = before[:, 0] * edges[:, 1] - before[:, 1] * edges[:, 0]
    steps = (lengths == 1) & (turns * np.roll(turns, -1) < 0)
    along = edges / lengths[:, None]
    first = ring + along * np.where(np.roll(steps, 1), lengths / 2, 0.5)[:, None]
    last = ring + edges - along * np.where(np.roll(steps, -1), lengths / 2, 0.5)[:, None]
    points = np.stack([first, last], axis=1).reshape(-1, 2)
    return np.asarray(points[(points != np.roll(points, 1, axis=0)).any(axis=1)])


def _thinned(ring: Ring, tolerance: float) -> Ring:
    thinned = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)
    return np.asarray(thinned[:, 0], dtype=np.float64)
