"""The average of a network's weights over the latest steps, which decides better than the weights of any one step."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# About the last fifty steps; of a shorter course about its last tenth, lest the beginning weigh too much.
_KEPT = 0.98
_WARM_UP = 9


class AveragedWeights:
    """An exponential moving average of a network's weights, and of the statistics of its normalisation.

    Attributes:
        network: a copy of the network with the averaged weights, in eval mode; before the first step with its own.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 1; what is no floating-point number is copied."""
        latest = network.state_dict()
        new = 1 - min(_KEPT, step / (step + _WARM_UP))
        for name, averaged in self.network.state_dict().items():
            if averaged.is_floating_point():
                averaged.lerp_(latest[name], new)
            else:
                averaged.copy_(latest[name])
