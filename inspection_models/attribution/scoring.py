"""What every method that scores masks can be told, and how many it scores at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inspection_models.attribution.engines import ENGINES, EngineName
from inspection_models.attribution.errors import AttributionError

# Pixels scored at once. On a processor a batch whose feature maps pass some 30 MB is slower: the C library then returns
# and asks anew for memory at every layer. A graphics card wants to be filled.
_BATCH_PIXELS = {"cpu": 4 * 224 * 224}
_LARGEST_BATCH = 256
_BATCH_PIXELS_ACCELERATED = 128 * 224 * 224


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """How masks are scored.

    `batch_size`: masks scored at once; chosen by input size and device where None.
    `engine`: "torch" or "onnxruntime"; where None, ONNX Runtime for networks on a processor that it can run and that
    are large enough to be worth it, else torch.
    """

    batch_size: int | None = None
    engine: EngineName | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and (type(self.batch_size) is not int or self.batch_size < 1):
            raise AttributionError(f"batch_size must be a whole number of at least 1, not {self.batch_size!r}")
        if self.engine is not None and self.engine not in ENGINES:
            raise AttributionError(f"unknown engine {self.engine!r}: there are {', '.join(ENGINES)}")


def default_batch_size(input_size: tuple[int, int], device: torch.device) -> int:
    """Masks to score at once, so that the memory for them does not grow with the input: 4 at 224 x 224 on a CPU."""
    pixels = _BATCH_PIXELS.get(device.type, _BATCH_PIXELS_ACCELERATED)
    return max(1, min(pixels // (input_size[0] * input_size[1]), _LARGEST_BATCH))
