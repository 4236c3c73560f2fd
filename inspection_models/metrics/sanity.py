"""Sanity checks (Adebayo et al. 2018): a map that stays the same for another network shows the picture only.

Both take `explain`, a function from a network to the maps [N, H, W] of the same N pictures and classes each time, such
as `lambda network: attribute(network, inputs, targets, method="sise").map`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from inspection_models.metrics.errors import MetricError
from inspection_models.metrics.similarity import Similarity, similarity

Explain = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class RandomisedStage:
    """All layers from the last one to `layers`' last are random.

    Attributes:
        layers: names of the layers randomised at this stage, from the last on.
        similarities: of each picture's map to the map of the untouched network.
    """

    layers: tuple[str, ...]
    similarities: tuple[Similarity, ...]

    @property
    def mean(self) -> Similarity:
        """Mean over the pictures."""
        return Similarity(
            spearman=float(np.mean([one.spearman for one in self.similarities])),
            ssim=float(np.mean([one.ssim for one in self.similarities])),
        )


def cascading_randomisation(
    network: nn.Module, explain: Explain, *, stages: int | None = None, seed: int = 0
) -> tuple[RandomisedStage, ...]:
    """Randomise a network's layers from the last to the first and see how far each stage's maps still look the same.

    A layer is a module with parameters of its own; layers are taken from the last one to the first in the order of
    their registration, which for the common networks is that of the forward pass. A layer is set back by its own
    `reset_parameters` (to random weights, and batch normalisation to its beginning), or, where it has none, its
    parameters are drawn from the normal distribution that has their mean and standard deviation.

    Args:
        network: left as it is; copies are randomised, in the mode (training or evaluation) it is in.
        explain: see above; it may not keep anything between calls.
        stages: number of explanations, over which the layers are spread evenly; None: one a layer.
        seed: of the random weights.

    Raises:
        MetricError: the network has no parameters, fewer layers than stages, or maps are not [N, H, W] throughout.
    """
    names = [name for name, module in network.named_modules() if _own_parameters(module)][::-1]
    if not names:
        raise MetricError(f"{type(network).__name__} has no parameters that could be randomised")
    if stages is not None and not 1 <= stages <= len(names):
        raise MetricError(f"stages must lie from 1 to the {len(names)} layers of the network, not {stages}")
    original = explain(copy.deepcopy(network))
    randomised = copy.deepcopy(network)
    results = []
    for number, part in enumerate(np.array_split(np.array(names, dtype=object), stages or len(names))):
        with torch.random.fork_rng():
            torch.manual_seed(seed + number)
            for name in part:
                _randomise(randomised.get_submodule(name))
        # A copy again: an explanation may leave hooks or caches on the network that it is given.
        results.append(RandomisedStage(tuple(part), _similarities(original, explain(copy.deepcopy(randomised)))))
    return tuple(results)


def label_randomisation(trained: nn.Module, permuted: nn.Module, explain: Explain) -> tuple[Similarity, ...]:
    """Similarity, picture by picture, of the maps of two networks: trained on true labels and on permuted labels.

    The second network has learned the training pictures by heart and nothing about defects: where a method's maps look
    the same for both, they do not show what the first one learned.
    Raises `MetricError` where `explain` does not give [N, H, W] for both.
    """
    return _similarities(explain(trained), explain(permuted))


def _similarities(original: Tensor, changed: Tensor) -> tuple[Similarity, ...]:
    if original.ndim != 3 or not len(original) or changed.shape != original.shape:
        raise MetricError(
            f"explain must give maps [N, H, W] of the same pictures each time, not {tuple(original.shape)} and "
            f"{tuple(changed.shape)}"
        )
    return tuple(similarity(one, other) for one, other in zip(original, changed, strict=True))


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _randomise(layer: nn.Module) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    with torch.no_grad():
        for parameter in _own_parameters(layer):
            spread = float(parameter.std(correction=0))
            parameter.normal_(float(parameter.mean()), spread) if spread > 0 else None
