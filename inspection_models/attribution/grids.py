"""The grid that is kept of a map: only what speaks for the class, as a share of the strongest evidence."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inspection_models.attribution.blocks import ConvolutionalBlock
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.request import Request
from inspection_models.attribution.tracing import Trace

# A map that varies by less is constant but for the rounding of the network's float32.
_CONSTANT = 8 * float(np.finfo(np.float32).eps)


def evidence_grid(values: Tensor, block: str) -> NDArray[np.float32]:
    """max(values, 0) of a map [h, w], divided by its maximum: float32 [h, w] in [0, 1].

    Zero where nothing is positive and where the map is constant up to rounding, for then no place speaks more than
    another. Raises `AttributionError`, naming the `block`, where a value is not finite.
    """
    if not bool(torch.isfinite(values).all()):
        raise AttributionError(f"block {block}: the map is not finite; check the input and the weights")
    positive = values.detach().clamp_min(0).cpu().double().numpy()
    highest = float(positive.max())
    if highest - float(positive.min()) <= _CONSTANT * highest:
        return np.zeros(positive.shape, dtype=np.float32)
    return (positive / highest).astype(np.float32)


def input_block(request: Request, traced: Trace) -> ConvolutionalBlock:
    """What stands for a block where a method finds its evidence in the input itself."""
    return ConvolutionalBlock("input", request.inputs.shape[1], request.input_size, traced.nodes[0].site)
