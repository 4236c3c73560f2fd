"""How sure the network is of a class, as SISE's score and as the quantity whose gradient selects feature maps."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from inspection_models.attribution.errors import AttributionError

Activation = Literal["softmax", "sigmoid"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


def probability(logits: Tensor, target: int, activation: Activation) -> Tensor:
    """Confidence Psi of class `target` for logits [N, classes]: float64 [N] on the CPU, in [0, 1]."""
    exact = logits.cpu().double()
    return torch.softmax(exact, dim=1)[:, target] if activation == "softmax" else torch.sigmoid(exact[:, target])


def log_odds(logits: Tensor, target: int, activation: Activation) -> Tensor:
    """Log-odds ln(Psi / (1 - Psi)) of class `target` for logits [N, classes]: float64 [N] on the CPU.

    Its gradient is the gradient of the confidence times 1 / (Psi (1 - Psi)), one positive number for the whole image:
    both select the same feature maps, but this one neither underflows nor saturates where Psi is close to 0 or 1.
    """
    exact = logits.cpu().double()
    if activation == "sigmoid":
        return exact[:, target]
    others = torch.cat((exact[:, :target], exact[:, target + 1 :]), dim=1)
    return exact[:, target] - torch.logsumexp(others, dim=1)


def check_activation(activation: str, classes: int) -> Activation:
    """The activation, if it can tell classes apart; else `AttributionError`."""
    if activation == "sigmoid":
        return "sigmoid"
    if activation != "softmax":
        raise AttributionError(f"unknown activation {activation!r}: there are {', '.join(ACTIVATIONS)}")
    if classes < 2:
        raise AttributionError("softmax over a single class is always 1: use activation='sigmoid'")
    return "softmax"
