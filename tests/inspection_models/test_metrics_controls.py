"""Controls know no model and follow from the picture alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from inspection_models.metrics.controls import CONTROLS, control_map
from inspection_models.metrics.errors import MetricError


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("size", [(1, 1), (24, 40), (97, 63)])
def test_a_control_is_a_map_of_the_picture_without_negative_values(name: str, size: tuple[int, int]) -> None:
    picture = torch.randn((3, *size), generator=torch.Generator().manual_seed(0))
    found = control_map(name, picture)
    assert found.shape == size
    assert torch.isfinite(found).all()
    assert found.min() >= 0


def test_uniform_is_flat() -> None:
    assert control_map("uniform", torch.randn(3, 8, 9)).unique().tolist() == [1]


def test_the_centre_gaussian_falls_off_by_the_share_of_each_side() -> None:
    found = control_map("centre-gaussian", torch.zeros((3, 40, 80), dtype=torch.float64))
    for row, column in ((20, 40), (5, 3), (39, 79)):
        y, x = (row + 0.5) / 40 - 0.5, (column + 0.5) / 80 - 0.5
        assert found[row, column].item() == pytest.approx(math.exp(-(x * x + y * y) / (2 * 0.25**2)))
    assert torch.allclose(found, found.flip(0, 1))


def test_local_contrast_is_the_weighted_deviation_about_each_pixel() -> None:
    picture = 50 + torch.randn((2, 21, 21), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = control_map("local-contrast", picture)
    offsets = np.arange(-3, 4)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 2)
    weights /= weights.sum()
    window = picture[:, 7:14, 7:14].numpy()
    mean = (weights * window).sum(axis=(1, 2), keepdims=True)
    variance = (weights * (window - mean) ** 2).sum(axis=(1, 2))
    assert found[10, 10].item() == pytest.approx(math.sqrt(variance.mean()), rel=1e-9)


def test_local_contrast_stands_out_at_a_defect() -> None:
    picture = torch.zeros((3, 100, 100))
    picture[:, 60:64, 30:34] = 2
    row, column = divmod(int(control_map("local-contrast", picture).argmax()), 100)
    assert 58 <= row <= 65
    assert 28 <= column <= 35


def test_unknown_controls_and_batches_are_refused() -> None:
    with pytest.raises(MetricError, match="uniform, centre-gaussian, local-contrast"):
        control_map("edges", torch.zeros(3, 4, 4))
    with pytest.raises(MetricError, match="one float image"):
        control_map("uniform", torch.zeros(1, 3, 4, 4))
