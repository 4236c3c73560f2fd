"""The guided filter against straight lines fitted window by window in float64, and by what it must do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from inspection_models.guided_filter import guided


def literal(values: np.ndarray, grey: np.ndarray, reach: tuple[int, int], noise: float) -> np.ndarray:
    """Ridge regression in each window, then the mean of the lines over each window; borders mirrored."""
    height, width = values.shape

    def window(image: np.ndarray, row: int, column: int) -> np.ndarray:
        padded = np.pad(image.astype(np.float64), [(side, side) for side in reach], mode="symmetric")
        return padded[row : row + 2 * reach[0] + 1, column : column + 2 * reach[1] + 1]

    slopes, levels = np.zeros((2, height, width))
    for row in range(height):
        for column in range(width):
            x, y = window(grey, row, column).ravel(), window(values, row, column).ravel()
            slopes[row, column] = ((x - x.mean()) * (y - y.mean())).mean() / (x.var() + noise)
            levels[row, column] = y.mean() - slopes[row, column] * x.mean()
    found = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            found[row, column] = (
                window(slopes, row, column).mean() * grey[row, column] + window(levels, row, column).mean()
            )
    return found


@pytest.mark.parametrize(("reach", "noise"), [((1, 1), 20.0), ((3, 3), 20.0), ((1, 4), 0.5)])
def test_it_is_the_literal_filter(reach: tuple[int, int], noise: float) -> None:
    rng = np.random.default_rng(reach)
    grey = cv2.GaussianBlur(rng.uniform(0, 255, (17, 23)).astype(np.float32), (0, 0), 1.5)
    values = cv2.GaussianBlur(rng.random((17, 23), np.float32), (0, 0), 2)
    found = guided(values, grey, reach, noise)
    assert found.dtype == np.float32 and found.shape == values.shape
    # The lines' levels are as in the paper; brightness about its mean changes them, not what the lines say.
    np.testing.assert_allclose(found, literal(values, grey, reach, noise), atol=2e-4)


def test_a_blurred_border_moves_to_the_edge_of_the_photograph() -> None:
    truth = np.zeros((60, 80), np.bool_)
    truth[20:40, 30:55] = True
    grey = np.where(truth, 90, 160).astype(np.float32)
    coarse = cv2.resize(cv2.resize(truth.astype(np.float32), (13, 10), interpolation=cv2.INTER_AREA), (80, 60))

    def overlap(values: np.ndarray) -> float:
        return float(((values >= 0.5) & truth).sum() / ((values >= 0.5) | truth).sum())

    assert overlap(coarse) < 0.95
    assert overlap(guided(coarse, grey, (6, 6), 20.0)) == 1.0


def test_where_the_photograph_is_flat_the_map_is_only_smoothed() -> None:
    values = np.zeros((30, 30), np.float32)
    values[10:20, 10:20] = 1
    flat = np.full((30, 30), 117, np.float32)
    twice = cv2.blur(cv2.blur(values, (5, 5), borderType=cv2.BORDER_REFLECT), (5, 5), borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(guided(values, flat, (2, 2), 20.0), twice, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40), (300, 2)])
def test_windows_larger_than_the_image_do_no_harm(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    found = guided(rng.random(size, np.float32), rng.uniform(0, 255, size).astype(np.float32), (50, 9), 20.0)
    assert found.shape == size and np.isfinite(found).all()
