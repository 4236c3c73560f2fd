"""How sure the network is of a class, as SISE's score and as the quantity whose gradient selects feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from inspection_models.attribution.errors import AttributionError

Activation = Literal["softmax", "sigmoid"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


def confidences(logits: Tensor, targets: Sequence[int], activation: Activation) -> Tensor:
    """Confidences Psi of the classes `targets` for logits [N, classes]: [N, T] in [0, 1], on the logits' device."""
    exact = precise(logits)
    return columns(torch.softmax(exact, dim=1) if activation == "softmax" else torch.sigmoid(exact), targets)


def columns(values: Tensor, places: Sequence[int]) -> Tensor:
    """Columns `places` of values [N, C]: [N, T].

    By slices: indices in a list would be copied to the device, which waits for all that it has still to do.
    """
    return torch.stack([values[:, place] for place in places], dim=1)


def log_odds(logits: Tensor, target: int, activation: Activation) -> Tensor:
    """Log-odds ln(Psi / (1 - Psi)) of class `target` for logits [N, classes]: [N], on the logits' device.

    Its gradient is the gradient of the confidence times 1 / (Psi (1 - Psi)), one positive number for the whole image:
    both select the same feature maps, but this one neither underflows nor saturates where Psi is close to 0 or 1.
    """
    exact = precise(logits)
    if activation == "sigmoid":
        return exact[:, target]
    others = torch.cat((exact[:, :target], exact[:, target + 1 :]), dim=1)
    return exact[:, target] - torch.logsumexp(others, dim=1)


def precise(values: Tensor) -> Tensor:
    """The values in float64, or in float32 on a device that has no float64 (Apple's)."""
    return values.float() if values.device.type == "mps" else values.double()


def check_activation(activation: str, classes: int) -> Activation:
    """The activation, if it can tell classes apart; else `AttributionError`."""
    if activation == "sigmoid":
        return "sigmoid"
    if activation != "softmax":
        raise AttributionError(f"unknown activation {activation!r}: there are {', '.join(ACTIVATIONS)}")
    if classes < 2:
        raise AttributionError("softmax over a single class is always 1: use activation='sigmoid'")
    return "softmax"
