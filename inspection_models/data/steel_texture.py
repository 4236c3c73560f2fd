"""Painting of synthetic steel strip: the sound surface and, layer on layer, the defects on it.

Canvases are float32 [S, S] grey values of about 0 to 255; the rolling direction is horizontal. Lengths are written for
a canvas of 256 pixels and scaled to its size. Each painter returns its layer's opacity, float32 [S, S] in [0, 1], from
which the mask is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Canvas = NDArray[np.float32]


def fractal_noise(rng: Generator, size: int, *, finest: float, coarsest: float, stretch: float = 1.0) -> Canvas:
    """Noise of zero mean and unit deviation whose octaves have grains from `finest` to `coarsest` (parts of the size).

    Args:
        rng: source of randomness.
        size: side of the canvas in pixels.
        finest: grain of the last octave.
        coarsest: grain of the first octave, which is the strongest.
        stretch: how many times longer than high the grains are.
    """
    noise = np.zeros((size, size), np.float32)
    grain, weight = coarsest, 1.0
    while grain >= finest:
        rows = max(2, round(1 / grain))
        columns = max(2, round(1 / (grain * stretch)))
        octave = rng.standard_normal((rows + 2, columns + 2)).astype(np.float32)
        noise += weight * cv2.resize(octave, (size, size), interpolation=cv2.INTER_CUBIC)
        grain, weight = grain / 2, weight * 0.6
    noise -= noise.mean()
    return noise / max(float(noise.std()), 1e-6)


def sound_surface(rng: Generator, size: int) -> Canvas:
    """Hot-rolled strip without a defect: oxide mottle, rolling streaks, lamp falloff and a few specks of dust."""
    canvas = np.full((size, size), rng.uniform(105, 160), np.float32)
    canvas += rng.uniform(3, 8) * fractal_noise(rng, size, finest=0.01, coarsest=0.25, stretch=rng.uniform(1.0, 2.0))
    streaks = cv2.GaussianBlur(rng.standard_normal((size, 1)).astype(np.float32), (1, 0), 0, sigmaY=rng.uniform(0.6, 2))
    fading = 1 + 0.5 * fractal_noise(rng, size, finest=0.2, coarsest=0.5, stretch=3.0)
    canvas += rng.uniform(2, 6) * streaks / max(float(streaks.std()), 1e-6) * fading
    canvas += _lamp(rng, size)
    for _ in range(rng.poisson(2.5)):
        x, y = rng.uniform(0, size, 2)
        speck = _ellipse_distance(size, (x, y), rng.uniform(0.8, 1.6) * size / 256, 1.0, 0.0)
        canvas += rng.choice([-1, 1]) * rng.uniform(10, 30) * np.exp(-(speck**2))
    return canvas


def photograph(rng: Generator, canvas: Canvas) -> NDArray[np.uint8]:
    """What a camera makes of a canvas: slight blur, sensor noise and eight bits."""
    blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 0.8) * canvas.shape[0] / 256 + 0.1)
    noisy = blurred + rng.normal(0, rng.uniform(1.5, 4), canvas.shape).astype(np.float32)
    grey: NDArray[np.uint8] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return grey


def paint_crazing(rng: Generator, canvas: Canvas, strength: float) -> Canvas:
    """Net of fine dark cracks: the borders of warped, flattened Voronoi cells within an area that fades out."""
    size = canvas.shape[0]
    area = _area(rng, size, length=(0.35, 0.7), slimness=(1.0, 1.8))
    cell = rng.uniform(11, 17) * size / 256
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    x += 0.25 * cell * fractal_noise(rng, size, finest=0.03, coarsest=0.1)
    y += 0.25 * cell * fractal_noise(rng, size, finest=0.03, coarsest=0.1)
    x /= 1.6  # cells are longer along the rolling direction
    crack = np.exp(-((_voronoi_border(rng, x, y, cell) / (0.9 * size / 256)) ** 2))
    fading = np.clip(0.8 + 0.35 * fractal_noise(rng, size, finest=0.05, coarsest=0.2), 0.15, 1)
    opacity: Canvas = (crack * fading * area).astype(np.float32)
    canvas -= 62 * strength * opacity
    canvas -= 7 * strength * area
    return opacity


def paint_inclusion(rng: Generator, canvas: Canvas, strength: float) -> Canvas:
    """One to three dark slivers along the rolling direction with ragged edges."""
    size = canvas.shape[0]
    opacity = np.zeros_like(canvas)
    for _ in range(rng.integers(1, 4)):
        half_length = rng.uniform(20, 55) * size / 256
        distance = _ellipse_distance(
            size, _somewhere(rng, size), half_length, rng.uniform(0.07, 0.17), rng.normal(0, 0.06)
        )
        ragged = distance + 0.22 * fractal_noise(rng, size, finest=0.01, coarsest=0.08, stretch=3.0)
        opacity = np.maximum(opacity, _step(1 - ragged, 0.15))
    grain = 1 + 0.18 * fractal_noise(rng, size, finest=0.008, coarsest=0.03, stretch=2.0)
    canvas -= 75 * strength * opacity * grain
    return opacity


def paint_patches(rng: Generator, canvas: Canvas, strength: float) -> Canvas:
    """One to three blotches of another oxide, mostly darker, with a soft uneven edge and a mottled inside."""
    size = canvas.shape[0]
    opacity = np.zeros_like(canvas)
    for _ in range(rng.integers(1, 4)):
        half_length = rng.uniform(20, 46) * size / 256
        distance = _ellipse_distance(
            size, _somewhere(rng, size), half_length, rng.uniform(0.55, 1.0), rng.uniform(-1.5, 1.5)
        )
        uneven = distance + 0.26 * fractal_noise(rng, size, finest=0.03, coarsest=0.16)
        opacity = np.maximum(opacity, _step(1 - uneven, 0.3))
    sign = -1.0 if rng.random() < 0.75 else 0.75
    mottle = 1 + 0.16 * fractal_noise(rng, size, finest=0.015, coarsest=0.08)
    canvas += sign * 52 * strength * opacity * mottle
    return opacity


def paint_pitted_surface(rng: Generator, canvas: Canvas, strength: float) -> Canvas:
    """One or two clusters of small pits: dark floor, bright rim on the side away from the lamp."""
    size = canvas.shape[0]
    opacity = np.zeros_like(canvas)
    for _ in range(rng.integers(1, 3)):
        centre = np.array(_somewhere(rng, size))
        spread = rng.uniform(11, 24) * size / 256
        for _ in range(rng.integers(22, 50)):
            radius = float(np.clip(rng.lognormal(0.75, 0.4), 1.1, 5)) * size / 256
            place = centre + rng.normal(0, spread, 2) * (1.3, 1.0)
            _stamp(opacity, place, radius, rng.uniform(0.6, 1.0), rng.uniform(0, np.pi))
    shift = 1.3 * size / 256
    rim = np.clip(_shifted(opacity, shift, shift) - opacity, 0, 1)
    canvas -= 70 * strength * opacity
    canvas += 42 * strength * rim
    return opacity


def paint_rolled_in_scale(rng: Generator, canvas: Canvas, strength: float) -> Canvas:
    """A field of dark flakes pressed into the strip: thresholded flat noise with an embossed edge."""
    size = canvas.shape[0]
    area = _area(rng, size, length=(0.35, 0.7), slimness=(1.3, 2.2))
    flakes = fractal_noise(rng, size, finest=0.018, coarsest=0.055, stretch=2.4)
    opacity = _step(flakes - 0.45, 0.35) * _step(area - 0.15, 0.5)
    relief = opacity - _shifted(opacity, 0, 1.6 * size / 256)
    canvas -= 58 * strength * opacity
    canvas -= 26 * strength * relief
    return opacity


def paint_scratches(rng: Generator, canvas: Canvas, strength: float) -> Canvas:
    """One to three bent lines, mostly near the rolling direction, bright with a dark side, fading along their way."""
    size = canvas.shape[0]
    opacity = np.zeros_like(canvas)
    for _ in range(rng.integers(1, 4)):
        angle = rng.normal(0, 0.25) if rng.random() < 0.7 else rng.uniform(-1.5, 1.5)
        length = rng.uniform(60, 170) * size / 256
        steps = np.linspace(-0.5, 0.5, 24)
        across = length * 0.06 * (rng.normal() * (steps**2 - 0.08) * 4 + 0.5 * rng.normal() * np.sin(6 * steps))
        points = np.stack([steps * length, across], axis=1) @ _rotation(angle).T + _somewhere(rng, size)
        opacity = np.maximum(opacity, _line(size, points, rng.uniform(1.2, 2.6) * size / 256))
    opacity *= np.clip(0.85 + 0.3 * fractal_noise(rng, size, finest=0.03, coarsest=0.15), 0.25, 1)
    shadow = np.clip(_shifted(opacity, 0, 1.6 * size / 256) - opacity, 0, 1)
    canvas += 78 * strength * opacity
    canvas -= 34 * strength * shadow
    return opacity


def _lamp(rng: Generator, size: int) -> Canvas:
    y, x = np.mgrid[-1 : 1 : complex(size), -1 : 1 : complex(size)].astype(np.float32)
    gradient = rng.uniform(-8, 8) * x + rng.uniform(-8, 8) * y
    lamp: Canvas = (gradient - rng.uniform(2, 10) * (x**2 + y**2)).astype(np.float32)
    return lamp


def _somewhere(rng: Generator, size: int) -> tuple[float, float]:
    return float(rng.uniform(0.18, 0.82) * size), float(rng.uniform(0.18, 0.82) * size)


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _ellipse_distance(size: int, centre: tuple[float, float], half_length: float, ratio: float, angle: float) -> Canvas:
    """Distance from the centre in units of the ellipse's radius: 1 on its outline; `ratio` is height to length."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    distance: Canvas = np.hypot(along / half_length, across / (half_length * ratio)).astype(np.float32)
    return distance


def _area(rng: Generator, size: int, *, length: tuple[float, float], slimness: tuple[float, float]) -> Canvas:
    """A soft-edged, uneven area, 1 inside and 0 outside, whose length is the given part of the size."""
    distance = _ellipse_distance(
        size, _somewhere(rng, size), rng.uniform(*length) * size / 2, 1 / rng.uniform(*slimness), rng.normal(0, 0.2)
    )
    return _step(1 - distance - 0.15 * fractal_noise(rng, size, finest=0.05, coarsest=0.2), 0.35)


def _step(height: Canvas, softness: float) -> Canvas:
    """Smooth step from 0 at height 0 to 1 at height `softness`."""
    ramp = np.clip(height / softness, 0, 1)
    step: Canvas = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    return step


def _voronoi_border(rng: Generator, x: Canvas, y: Canvas, cell: float) -> Canvas:
    """Distance to the nearest border of jittered cells: second-nearest minus nearest seed, halved (Worley, 1996)."""
    column, row = np.floor(x / cell).astype(int), np.floor(y / cell).astype(int)
    column, row = column - column.min() + 1, row - row.min() + 1
    origin = (np.floor(x.min() / cell) - 1, np.floor(y.min() / cell) - 1)
    seeds = rng.uniform(0, 1, (row.max() + 2, column.max() + 2, 2))
    nearest = np.full(x.shape, np.inf, np.float32)
    second = nearest.copy()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            at_row, at_column = row + down, column + right
            seed = seeds[at_row, at_column]
            distance = np.hypot(
                (at_column + origin[0] + seed[..., 0]) * cell - x, (at_row + origin[1] + seed[..., 1]) * cell - y
            ).astype(np.float32)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    border: Canvas = ((second - nearest) / 2).astype(np.float32)
    return border


def _stamp(opacity: Canvas, centre: NDArray[np.float64], radius: float, ratio: float, angle: float) -> None:
    """Lay one soft elliptical pit onto the opacity, in place; what falls outside the canvas is cut."""
    size = opacity.shape[0]
    reach = int(np.ceil(radius)) + 2
    left, top = (int(np.floor(value)) - reach for value in centre)
    rows = slice(max(top, 0), min(top + 2 * reach + 1, size))
    columns = slice(max(left, 0), min(left + 2 * reach + 1, size))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    y, x = np.mgrid[rows, columns].astype(np.float32) + 0.5
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    distance = np.hypot(along / radius, across / (radius * ratio))
    opacity[rows, columns] = np.maximum(opacity[rows, columns], _step(1.25 - distance, 0.5))


def _line(size: int, points: NDArray[np.float64], width: float) -> Canvas:
    """Opacity of an anti-aliased polyline, drawn at four times the size and averaged down, so that 1 px lines fade."""
    fine = np.zeros((4 * size, 4 * size), np.uint8)
    corners = np.rint(points * 4).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(fine, [corners], isClosed=False, color=255, thickness=max(1, round(4 * width)))
    line: Canvas = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return line


def _shifted(canvas: Canvas, right: float, down: float) -> Canvas:
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    moved: Canvas = cv2.warpAffine(canvas, matrix, canvas.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    return moved
