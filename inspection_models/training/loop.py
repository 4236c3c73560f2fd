"""Fitting a network: first its new last layer on cached features, then the deeper layers epoch by epoch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from inspection_models.calibration import negative_log_likelihood
from inspection_models.networks.build import last_layer
from inspection_models.training.augmentation import augmentation
from inspection_models.training.batches import FittedImages, class_weights, draw_epoch
from inspection_models.training.evaluation import balanced_accuracy
from inspection_models.training.request import EpochFigures, TrainingError, TrainingEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from inspection_models.training.batches import Augment
    from inspection_models.training.request import TrainingRequest

    Progress = Callable[[TrainingEvent], None]

_WEIGHT_DECAY = 1e-2
_HEAD_STEPS = 200
_HEAD_VIEWS = 2
_HEAD_LEARNING_RATE = 5e-3
_PRETRAINED_SHARE = 0.1
_HEAD_SHARE = 0.2
# Pretrained layers on a grid of a finer stride than this stay as they are: they see edges and textures, which ImageNet
# taught well enough, take most of the time and hold few of the parameters.
_FIRST_TRAINED_STRIDE = 16


@dataclass(frozen=True)
class Fit:
    """The course of a fit and the epoch whose weights the network now has."""

    epochs: tuple[EpochFigures, ...]
    best_epoch: int


def fit(
    network: nn.Module,
    train: FittedImages,
    validation: FittedImages,
    request: TrainingRequest,
    *,
    fill: tuple[float, float, float],
    progress: Progress,
) -> Fit:
    """Train a network in place and leave it with the weights that did best on the validation part.

    Args:
        network: on the request's device.
        train: images to learn from.
        validation: images to stop by.
        request: learning rate, epochs and so on.
        fill: RGB, 0 to 255, of what augmentation uncovers.
        progress: told of every step.

    Raises:
        TrainingError: the loss is not finite.
    """
    _, head = last_layer(network)
    pretrained = not request.begins_at_random
    augment = augmentation(flips=request.flips, fill=fill, seed=request.seed)
    course: list[EpochFigures] = []
    best, best_state = None, network.state_dict()
    if pretrained and isinstance(head, nn.Linear):
        loss = _fit_head(network, head, train, augment, request, progress)
        best = _validate(network, validation, request, 0, loss)
        course.append(best)
        progress(TrainingEvent("head", len(train), len(train), balanced_accuracy=best.balanced_accuracy))
        best_state = copy.deepcopy(network.state_dict())
    frozen = _fine_layers(network, request) if pretrained else []
    for layer in frozen:
        layer.requires_grad_(requires_grad=False)
    stepper = _Stepper(network, head, train, request, pretrained=pretrained)
    rng = np.random.default_rng([request.seed, 1])
    for epoch in range(1, request.epochs + 1):
        _set_training(network, keep_statistics=pretrained)
        loss = _run_epoch(stepper, train, augment, rng, epoch, progress)
        figures = _validate(network, validation, request, epoch, loss)
        course.append(figures)
        done = len(train)
        progress(TrainingEvent("epoch", done, done, epoch, request.epochs, figures.balanced_accuracy))
        if best is None or _is_better(figures, best):
            best, best_state = figures, copy.deepcopy(network.state_dict())
        elif epoch - best.epoch >= request.patience:
            break
    network.load_state_dict(best_state)
    network.requires_grad_(requires_grad=True).eval()
    return Fit(tuple(course), best.epoch if best is not None else 0)


def _set_training(network: nn.Module, *, keep_statistics: bool) -> None:
    """Training mode; pretrained normalisation keeps its statistics, which small batches of alike images would spoil."""
    network.train()
    if keep_statistics:
        for layer in network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()


def logits_of(network: nn.Module, images: FittedImages, request: TrainingRequest) -> NDArray[np.float32]:
    """Float32 [N, C] of all images, as they are, in eval mode."""
    network.eval()
    with torch.inference_mode():
        rows = [network(inputs.to(request.device)).float().cpu() for inputs, _ in images.batches(request.batch_size)]
    return torch.cat(rows).numpy()


def _validate(
    network: nn.Module, validation: FittedImages, request: TrainingRequest, epoch: int, training_loss: float
) -> EpochFigures:
    logits = logits_of(network, validation, request)
    loss = negative_log_likelihood(logits, validation.labels)
    if not np.isfinite([loss, training_loss]).all():
        raise TrainingError(f"the loss is no longer finite in epoch {epoch}; lower the learning rate")
    return EpochFigures(epoch, training_loss, loss, balanced_accuracy(logits.argmax(axis=1), validation.labels))


def _is_better(figures: EpochFigures, best: EpochFigures) -> bool:
    return (figures.balanced_accuracy, -figures.validation_loss) > (best.balanced_accuracy, -best.validation_loss)


def _fit_head(
    network: nn.Module,
    head: nn.Linear,
    train: FittedImages,
    augment: Augment,
    request: TrainingRequest,
    progress: Progress,
) -> float:
    """Fit the last linear layer to what enters it, with the rest of the network as it is; returns the last loss.

    Every image is seen as it is and in some augmented views, lest the layer be thrown off by the first that it meets.
    """
    views = (None, *[augment] * _HEAD_VIEWS)
    features = _entering(network, head, train, views, request, progress)
    labels = torch.from_numpy(train.labels).to(request.device).repeat(len(views))
    weights = _loss_weights(train, head.out_features, request, power=2)
    optimiser = torch.optim.AdamW(head.parameters(), lr=_HEAD_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    loss = torch.zeros(())
    for _ in range(_HEAD_STEPS):
        optimiser.zero_grad()
        loss = functional.cross_entropy(head(features), labels, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return float(loss.detach())


def _entering(
    network: nn.Module,
    head: nn.Linear,
    train: FittedImages,
    views: tuple[Augment | None, ...],
    request: TrainingRequest,
    progress: Progress,
) -> torch.Tensor:
    """What enters the head, float32 [views * N, F], view by view."""
    network.eval()
    entering: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, arguments: entering.append(arguments[0].clone()))
    total = len(views) * len(train)
    try:
        with torch.no_grad():
            for view in views:
                for inputs, _ in train.batches(request.batch_size, view):
                    network(inputs.to(request.device))
                    progress(TrainingEvent("head", sum(map(len, entering)), total))
    finally:
        handle.remove()
    return torch.cat(entering)


def _loss_weights(train: FittedImages, classes: int, request: TrainingRequest, power: int) -> torch.Tensor:
    weights = class_weights(train.labels, classes) ** power
    return torch.tensor(weights / weights[train.labels].mean(), dtype=torch.float32, device=request.device)


def _fine_layers(network: nn.Module, request: TrainingRequest) -> list[nn.Module]:
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


class _Stepper:
    """One optimiser step after another, at a learning rate that rises over the first epoch's half and then falls."""

    def __init__(
        self,
        network: nn.Module,
        head: nn.Linear | nn.Conv2d,
        train: FittedImages,
        request: TrainingRequest,
        *,
        pretrained: bool,
    ) -> None:
        self.network, self.request = network, request
        self.classes = head.weight.shape[0]
        self._loss_weights = _loss_weights(train, self.classes, request, power=1)
        new = {id(parameter) for parameter in head.parameters()}
        body = [p for p in network.parameters() if id(p) not in new and p.requires_grad]
        rate = request.learning_rate
        groups = [
            {"params": list(head.parameters()), "lr": rate * (_HEAD_SHARE if pretrained else 1)},
            {"params": body, "lr": rate * (_PRETRAINED_SHARE if pretrained else 1)},
        ]
        self._optimiser = torch.optim.AdamW(groups, weight_decay=_WEIGHT_DECAY)
        steps = max(1, round(len(train) / request.batch_size))
        total, rise = max(1, steps * request.epochs), max(1, steps // 2)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: min((step + 1) / rise, 0.5 * (1 + np.cos(np.pi * step / total)))
        )

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> float:
        """Learn from one batch; returns its loss before."""
        device = self.request.device
        self._optimiser.zero_grad()
        loss = functional.cross_entropy(self.network(inputs.to(device)), labels.to(device), self._loss_weights)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach())


def _run_epoch(
    stepper: _Stepper,
    train: FittedImages,
    augment: Augment,
    rng: np.random.Generator,
    epoch: int,
    progress: Progress,
) -> float:
    request = stepper.request
    drawn = draw_epoch(train.labels, stepper.classes, request.batch_size, rng)
    losses = []
    for number, indices in enumerate(drawn, start=1):
        losses.append(stepper.step(*train.batch(indices.tolist(), augment)))
        done = min(number * request.batch_size, len(train) - 1)
        progress(TrainingEvent("epoch", done, len(train), epoch, request.epochs))
    return float(np.mean(losses))
