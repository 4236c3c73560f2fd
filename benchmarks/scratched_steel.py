"""What speed is measured on: the picture of a scratch, and a network that has never seen one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from inspection_models.data.synthetic_steel import make_steel
from inspection_models.networks import DEFAULT_NETWORK, build_network
from inspection_models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

CLASSES = 6


def scratch(size: int) -> Tensor:
    """The picture [1, 3, size, size], normalised as EfficientNet-Lite wants it; random networks do not care."""
    grey = make_steel("scratches", size, seed=1, index=0).pixels
    preprocessing = Preprocessing("resize", (size, size), (127.0,) * 3, (128.0,) * 3)
    return preprocessing.apply(np.repeat(grey[..., None], 3, axis=2))[0][None]


def frozen(name: str) -> nn.Module:
    """The network in evaluation mode: ImageNet's weights where they can be installed, else random ones."""
    torch.manual_seed(0)
    network = build_network(name, CLASSES, pretrained=name == DEFAULT_NETWORK).eval()
    return network.requires_grad_(requires_grad=False)
