"""How far an image is from all that a model was trained on, in what its network makes of it before the last layer.

The distance is one minus the mean cosine similarity to the nearest training images (Sun et al., "Out-of-distribution
detection with deep nearest neighbors", ICML 2022, with the mean of the nearest instead of the k-th).
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.numpy
import torch

from inspection_models.networks.build import last_layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

FAMILIAR_FILE = "familiar.safetensors"
NEIGHBOURS = 5
# As many training images are remembered; 2.5 MB of a network with 1,280 features.
MOST_REMEMBERED = 1000
# Of parts like those trained on, so many may be sent to review as unlike them, on average.
_UNLIKE_RATE = 0.01


class Familiarity:
    """The features of training images.

    Attributes:
        content: them as a safetensors file: float16 [M, F] of unit length, named ``features``.

    Raises:
        ValueError: the content is no such file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        try:
            stored = safetensors.numpy.load(content)["features"]
        except (KeyError, safetensors.SafetensorError) as error:
            raise ValueError(f"these are no remembered features ({error})") from error
        self._features: NDArray[np.float32] = stored.astype(np.float32)

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> Familiarity:
        """Remember features [N, F], evenly chosen where there are more than `MOST_REMEMBERED`."""
        chosen = np.unique(np.linspace(0, len(features) - 1, min(len(features), MOST_REMEMBERED)).round().astype(int))
        return cls(safetensors.numpy.save({"features": _unit(features[chosen]).astype(np.float16)}))

    @property
    def sha256(self) -> str:
        """Hex digest of the content."""
        return hashlib.sha256(self.content).hexdigest()

    def distance(self, feature: NDArray[np.float32]) -> float:
        """Of one image's feature [F], 0 to 2."""
        similar = self._features @ _unit(feature)
        nearest = np.sort(similar)[-NEIGHBOURS:]
        return float(np.float32(min(2.0, max(0.0, 1.0 - float(nearest.mean())))))


def line_of(distances: Sequence[float], groups: Sequence[str]) -> tuple[float, int]:
    """The line above which an image is unlike, from held-out images, and the number of their parts.

    A further part has an image above it with a chance of 1 % at most, on average (split conformal prediction); of under
    99 parts it is the largest distance.
    """
    keys, part = np.unique(np.asarray(groups), return_inverse=True)
    furthest = np.zeros(len(keys))
    np.maximum.at(furthest, part, distances)
    place = min(len(keys), int(np.ceil((len(keys) + 1) * (1 - _UNLIKE_RATE))))
    return float(np.sort(furthest)[place - 1]), len(keys)


@contextmanager
def entering(network: nn.Module) -> Iterator[list[NDArray[np.float32]]]:
    """What enters the last layer, one [F] for each image of each forward pass meanwhile, means over places of maps."""
    caught: list[NDArray[np.float32]] = []

    def catch(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        found = arguments[0].detach().float()
        caught.extend((found.mean(dim=(2, 3)) if found.ndim == 4 else found.flatten(1)).cpu().numpy())

    handle = last_layer(network)[1].register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), np.float32)
