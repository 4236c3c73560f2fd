"""The figure of an explanation."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from inspection_models.overlay import OverlayContent, blend, draw_overlay
from inspection_models.regions import regions


def content(height: int, width: int) -> OverlayContent:
    attribution_map = np.zeros((height, width), np.float32)
    attribution_map[height // 4 : height // 2, width // 4 : width // 2] = 1.0
    return OverlayContent(
        pixels=np.full((height, width, 3), 120, np.uint8),
        attribution_map=attribution_map,
        regions=regions(attribution_map, 0.5),
        classes=[(f"class {n}", 1 / (n + 2)) for n in range(12)],
        explained="class 0",
        title="a photograph with $pecial_{signs}",
        footnote="model",
    )


@pytest.mark.parametrize("size", [(40, 60), (2000, 300), (1, 1), (900, 2500)])
def test_any_size_becomes_a_figure_of_bounded_size(size: tuple[int, int]) -> None:
    figure = Image.open(io.BytesIO(draw_overlay(content(*size))))
    assert figure.format == "PNG"
    assert 400 < figure.width < 2400
    assert 400 < figure.height < 1000


def test_the_same_content_gives_the_same_bytes() -> None:
    assert draw_overlay(content(40, 60)) == draw_overlay(content(40, 60))


def test_the_photograph_stays_where_nothing_speaks_and_glows_where_all_does() -> None:
    pixels = np.full((2, 2, 3), 100, np.uint8)
    mixed = blend(pixels, np.array([[0, 1], [0, 0]], np.float32))
    assert (mixed[0, 0] == 100).all()
    assert mixed[0, 1].max() > 150


@pytest.mark.slow
def test_the_absolute_scale_has_a_panel_of_its_own_and_is_dark_on_a_good_part() -> None:
    glowing, dark = (
        np.asarray(Image.open(io.BytesIO(draw_overlay(replace(content(60, 60), strength=value)))).convert("RGB"))
        for value in (1.0, 0.0)
    )
    assert glowing.shape == dark.shape
    assert glowing.shape[1] > Image.open(io.BytesIO(draw_overlay(content(60, 60)))).width
    changed = (glowing != dark).any(axis=(0, 2))
    assert changed.any()
    # Only the panel beside the relative map changes, not the photograph nor the relative map.
    assert not changed[: glowing.shape[1] // 3].any()
