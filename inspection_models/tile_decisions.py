"""From what a network says of an image's tiles to what is said of the image: it is as good as its worst tile."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from inspection_models.attribution.engines import open_engine
from inspection_models.attribution.tracing import blank_input, trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from inspection_models.attribution.engines import Engine
    from inspection_models.preprocessing import Preprocessing
    from inspection_models.tiling import Tile

TILE_BATCH = 8
"""Tiles in a forward pass; always so many, the last batch is filled up with zeros."""


def tile_engine(network: nn.Module, preprocessing: Preprocessing) -> Engine:
    """What computes the passes over tiles: ONNX Runtime where it is faster and agrees with torch, else torch itself."""
    blank = blank_input(network, preprocessing.size, 3)
    return open_engine(None, network, trace(network, blank), blank, TILE_BATCH)


def tile_logits(
    engine: Engine, preprocessing: Preprocessing, pixels: NDArray[np.uint8], tiles: Sequence[Tile]
) -> NDArray[np.float32]:
    """What the network says of each tile of an image uint8 [H, W, 3]: float32 [T, C].

    The shape of a batch is always the same and its content follows from image and tiles alone, so the same image gives
    the same bits. Memory does not grow with the number of tiles.
    """
    found = []
    batch = engine.new_batch((TILE_BATCH, 3, *preprocessing.size))
    with torch.inference_mode():
        for start in range(0, len(tiles), TILE_BATCH):
            part = tiles[start : start + TILE_BATCH]
            batch.zero_()
            for place, tile in enumerate(part):
                batch[place] = preprocessing.apply(tile.cut(pixels))[0]
            found.append(engine.logits(batch)[: len(part)].float().cpu().numpy().copy())
    return np.concatenate(found)


def merge_logits(logits: NDArray[np.float32], good: int, activation: str, growth: float) -> NDArray[np.float32]:
    """Logits [C] of an image from those [T, C] of its tiles; of one tile they are the image's as they are.

    "softmax": only differences of logits mean something, so each defect class is measured by its margin over the good
    class, z_d - z_g, and the image has the largest of all tiles; the good class stands at 0. "sigmoid": classes do not
    exclude each other; each defect class has its largest logit, the good class its smallest.

    Before that the tiles are lowered as `handicapped` says.
    """
    if len(logits) == 1:
        return np.asarray(logits[0])
    lowered = handicapped(logits, good, activation, growth)
    merged = lowered.max(axis=0)
    merged[good] = lowered[:, good].min()
    return np.asarray(merged, np.float32)


def handicapped(logits: NDArray[np.float32], good: int, activation: str, growth: float) -> NDArray[np.float64]:
    """Logits [T, C] of an image's tiles as they count for the image: with less said for defects, the more tiles.

    The largest of T margins is larger by chance, too. So the margin of every defect class over the good class (under
    "sigmoid", where there are no margins, every defect's logit and the good class's reversed) is lowered by
    `growth` x ln T, which was fitted to whole images. Under "softmax" the good class is put at 0.
    """
    exact = logits.astype(np.float64)
    handicap = growth * math.log(len(logits))
    raised = handicap
    if activation == "softmax":
        exact, raised = exact - exact[:, [good]], 0.0
    lowered = exact - handicap
    lowered[:, good] = exact[:, good] + raised
    return lowered
