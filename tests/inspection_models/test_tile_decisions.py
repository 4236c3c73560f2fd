"""An image of many tiles is as good as its worst one, and an image of one tile is what it always was."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from inspection_models import DefectClassifier
from inspection_models.images import ImageError
from inspection_models.model_card import ModelCard
from inspection_models.preprocessing import Preprocessing
from inspection_models.tile_decisions import TILE_BATCH, merge_logits, tile_engine, tile_logits
from inspection_models.tiling import Tiling

CLASSES = ("dent", "good", "stain")
GOOD = 1
SIDE = 32
PREPROCESSING = Preprocessing("letterbox", (SIDE, SIDE), (0.0,) * 3, (255.0,) * 3)
LOGITS = arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-20, 20, width=32))


class ColourNetwork(nn.Module):
    """Speaks for dent by the reddest place of an 8 x 8 grid, for stain by the bluest; good stands at 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 3, 4, stride=4, bias=False)
        with torch.no_grad():
            self.cells.weight[:] = torch.eye(3)[:, :, None, None] / 16

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        highest = self.cells(inputs).amax(dim=(2, 3))
        return torch.stack([6 * highest[:, 0], highest[:, 1] * 0 + 0.5, 6 * highest[:, 2]], dim=1)


def classifier(tiling: Tiling | None, **changes: Any) -> DefectClassifier:
    fields: dict[str, Any] = {
        "name": "colours",
        "architecture": "colours",
        "classes": CLASSES,
        "good_class": "good",
        "preprocessing": PREPROCESSING,
        "tiling": tiling,
    }
    return DefectClassifier.assemble(ColourNetwork(), **fields | changes)


def picture(height: int, width: int, *spots: tuple[int, int, int]) -> np.ndarray:
    """Black, with spots of 5 x 5 pixels at (row, column) in a channel."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for row, column, channel in spots:
        pixels[row : row + 5, column : column + 5, channel] = 255
    return pixels


@pytest.mark.slow
@given(LOGITS, st.floats(0, 2))
def test_merged_margins_are_the_largest_of_all_tiles_less_the_handicap(logits: np.ndarray, growth: float) -> None:
    merged = merge_logits(logits, GOOD, "softmax", growth)
    margins = logits.astype(np.float64) - logits[:, [GOOD]]
    expected = margins.max(axis=0) - growth * np.log(len(logits))
    for index in (0, 2):
        assert merged[index] - merged[GOOD] == pytest.approx(expected[index], abs=1e-5)


@given(LOGITS, st.floats(0, 2))
def test_classes_that_do_not_exclude_each_other_are_merged_by_themselves(logits: np.ndarray, growth: float) -> None:
    merged = merge_logits(logits, GOOD, "sigmoid", growth)
    handicap = growth * np.log(len(logits))
    expected = [logits[:, 0].max() - handicap, logits[:, GOOD].min() + handicap, logits[:, 2].max() - handicap]
    np.testing.assert_allclose(merged, expected, atol=1e-5)


@given(LOGITS, st.sampled_from(["softmax", "sigmoid"]))
def test_one_tile_is_the_image_and_order_does_not_matter(logits: np.ndarray, activation: str) -> None:
    alone = merge_logits(logits[:1], GOOD, activation, 0.7)
    assert alone.tobytes() == logits[0].tobytes()
    turned = merge_logits(logits[::-1], GOOD, activation, 0.7)
    np.testing.assert_array_equal(turned, merge_logits(logits, GOOD, activation, 0.7))


@given(LOGITS)
def test_a_worse_tile_never_makes_an_image_better(logits: np.ndarray) -> None:
    worse = np.concatenate([logits, logits[-1:] + np.array([[3, -1, 0]], np.float32)])
    for activation in ("softmax", "sigmoid"):
        before, after = (merge_logits(rows, GOOD, activation, 0.0) for rows in (logits, worse))
        if len(logits) > 1:
            assert (after - after[GOOD] >= before - before[GOOD] - 1e-5)[[0, 2]].all()


def test_a_spot_that_a_plain_resize_loses_is_found_in_a_tile() -> None:
    image = picture(600, 800, (431, 655, 0))
    plain, tiled = classifier(None).predict([image])[0], classifier(Tiling((64, 64), 16)).predict([image])[0]
    assert (plain.label, tiled.label) == ("good", "dent")
    assert plain.tile_logits is None and tiled.tile_logits is not None
    views = Tiling((64, 64), 16).views((600, 800))
    assert tiled.tile_logits.shape == (len(views), 3)
    seen = {place for place, tile in enumerate(views) if tile.top < 436 > 431 - 64 and tile.cut(image).any()}
    convinced = set(np.flatnonzero(tiled.tile_logits[:, 0] > tiled.tile_logits[:, GOOD]).tolist())
    assert convinced and convinced <= seen


def test_two_defects_in_two_tiles_are_both_in_the_scores() -> None:
    image = picture(300, 300, (20, 30, 0), (250, 260, 2))
    prediction = classifier(Tiling((64, 64), 16)).predict([image])[0]
    assert min(prediction.probabilities[0], prediction.probabilities[2]) > 0.3 > prediction.probabilities[GOOD]


def test_an_image_of_one_tile_is_decided_to_the_bit_as_without_tiling() -> None:
    image = picture(60, 64, (20, 30, 0))
    plain = classifier(None).predict([image])[0]
    tiled = classifier(Tiling((64, 64), 16, overview=True, growth=1.0)).predict([image])[0]
    assert tiled.logits.tobytes() == plain.logits.tobytes()
    assert tiled.probabilities.tobytes() == plain.probabilities.tobytes()


def test_the_same_image_gives_the_same_bits_whatever_the_neighbours() -> None:
    model = classifier(Tiling((64, 64), 16, growth=0.3))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, 200, 3), np.uint8) for height in (90, 300, 170)]
    for prediction, image in zip(model.predict(images), images, strict=True):
        alone = model.predict([image])[0]
        assert alone.tile_logits is not None and prediction.tile_logits is not None
        assert alone.logits.tobytes() == prediction.logits.tobytes()
        assert alone.tile_logits.tobytes() == prediction.tile_logits.tobytes()


@pytest.mark.parametrize("count", [1, TILE_BATCH - 1, TILE_BATCH, TILE_BATCH + 1])
def test_tiles_get_the_logits_that_they_have_by_themselves(count: int) -> None:
    network = ColourNetwork().eval()
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (64, 48 * count + 16, 3), np.uint8)
    tiles = Tiling((64, 64), 16).tiles((64, 48 * count + 16))
    assert len(tiles) == count
    found = tile_logits(tile_engine(network, PREPROCESSING), PREPROCESSING, pixels, tiles)
    for row, tile in zip(found, tiles, strict=True):
        inputs, _ = PREPROCESSING.apply(np.ascontiguousarray(tile.cut(pixels)))
        with torch.inference_mode():
            np.testing.assert_allclose(row, network(inputs[None])[0].numpy(), rtol=1e-5)


def test_an_image_beyond_all_bounds_is_refused_with_what_to_do() -> None:
    with pytest.raises(ImageError, match="shrink it"):
        classifier(Tiling((32, 32), 4)).predict([np.zeros((4000, 4000, 3), np.uint8)])
    with pytest.raises(ImageError, match="uint8"):
        classifier(Tiling((32, 32), 4)).predict([np.zeros((40, 40), np.uint8)])


def test_tiling_is_part_of_what_a_model_is() -> None:
    plain, tiled = classifier(None).card, classifier(Tiling((64, 64), 16)).card
    assert plain.fingerprint != tiled.fingerprint
    assert json.loads(tiled.to_json())["tiling"] == {
        "size": [64, 64],
        "overlap": 16,
        "overview": False,
        "growth": 0.0,
    }
    with pytest.raises(ValueError, match="tiles need a good class"):
        dataclasses.replace(tiled, good_class=None)
    assert isinstance(plain, ModelCard) and plain.tiling is None
