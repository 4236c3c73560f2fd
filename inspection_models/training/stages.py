"""What learns when: the new last layer on cached features, then the deep layers, and the fine ones if they are to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from inspection_models.training.losses import decision_loss, loss_weights
from inspection_models.training.request import TrainingEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection_models.training.augmentation import Augmentation
    from inspection_models.training.batches import FittedImages
    from inspection_models.training.precision import MixedPrecision
    from inspection_models.training.request import Stage, TrainingRequest

    Progress = Callable[[TrainingEvent], None]

WEIGHT_DECAY = 1e-2
_HEAD_STEPS = 200
_HEAD_VIEWS = 2
_HEAD_LEARNING_RATE = 5e-3
# Pretrained layers on a grid of a finer stride than this stay as they are: they see edges and textures, which ImageNet
# taught well enough, take most of the time and hold few of the parameters.
_FIRST_TRAINED_STRIDE = 16


def set_stage(network: nn.Module, fine: list[nn.Module], stage: Stage, *, keeps_statistics: bool) -> None:
    """Training mode for a stage; pretrained normalisation keeps its statistics, which small batches would spoil."""
    network.train()
    network.requires_grad_(requires_grad=True)
    if stage == "deep":
        for layer in fine:
            layer.requires_grad_(requires_grad=False)
    if keeps_statistics:
        for layer in network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()


def fine_layers(network: nn.Module, request: TrainingRequest) -> list[nn.Module]:
    """Layers with parameters whose outputs lie on a grid of a finer stride than `_FIRST_TRAINED_STRIDE`."""
    fine: list[nn.Module] = []
    limit = max(request.size) / _FIRST_TRAINED_STRIDE

    def note(layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and max(output.shape[2:]) > limit + 1:
            fine.append(layer)

    leaves = [
        m for m in network.modules() if next(m.children(), None) is None and next(m.parameters(), None) is not None
    ]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, 3, *request.size, device=request.device))
    finally:
        for handle in handles:
            handle.remove()
    return fine


def fit_head(
    network: nn.Module,
    head: nn.Linear,
    train: FittedImages,
    augment: Augmentation,
    request: TrainingRequest,
    precision: MixedPrecision,
    *,
    several: bool,
    progress: Progress,
) -> tuple[float, float]:
    """Fit the last linear layer to what enters it, with the rest of the network as it is.

    Every image is seen as it is and in some augmented views, lest the layer be thrown off by the first that it meets.

    Returns the last loss and the share of the views decided rightly.
    """
    views = (None, *[augment] * _HEAD_VIEWS)
    features = _entering(network, head, train, views, request, precision, progress)
    targets = torch.from_numpy(train.targets).to(request.device).repeat(len(views), 1)
    weights = loss_weights(train, power=2).to(request.device)
    optimiser = torch.optim.AdamW(head.parameters(), lr=_HEAD_LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    loss, logits = torch.zeros(()), torch.zeros(())
    for _ in range(_HEAD_STEPS):
        optimiser.zero_grad()
        logits = head(features)
        loss = decision_loss(logits, targets, weights, several=several)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return float(loss.detach()), share_right(logits.detach(), targets, several=several)


def share_right(logits: torch.Tensor, targets: torch.Tensor, *, several: bool) -> float:
    """Share of the images [n, C] decided rightly, or of the answers, where an image may show several classes."""
    right = (logits > 0) == (targets > 0) if several else logits.argmax(dim=1) == targets.argmax(dim=1)
    return float(right.float().mean())


def _entering(
    network: nn.Module,
    head: nn.Linear,
    train: FittedImages,
    views: tuple[Augmentation | None, ...],
    request: TrainingRequest,
    precision: MixedPrecision,
    progress: Progress,
) -> torch.Tensor:
    """What enters the head, float32 [views * N, F], view by view."""
    network.eval()
    entering: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, arguments: entering.append(arguments[0].float().clone()))
    total = len(views) * len(train)
    rng = np.random.default_rng([request.seed, 0])
    try:
        with torch.no_grad(), precision.passing():
            for view in views:
                for batch in train.batches(request.batch_size, view, rng):
                    network(batch.inputs.to(request.device))
                    progress(TrainingEvent("head", sum(map(len, entering)), total))
    finally:
        handle.remove()
    return torch.cat(entering)
