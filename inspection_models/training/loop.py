"""Fitting a network stage by stage and epoch by epoch, so that it can be broken off after each and go on."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from inspection_models.networks.build import last_layer
from inspection_models.training.augmentation import Augmentation
from inspection_models.training.averaging import AveragedWeights
from inspection_models.training.batches import draw_epoch
from inspection_models.training.checkpoint import Checkpoint
from inspection_models.training.curves import CURVES_FILE, curves_csv
from inspection_models.training.losses import MarkedPlaces, decision_loss, loss_weights
from inspection_models.training.precision import MixedPrecision
from inspection_models.training.request import EpochFigures, TrainingError, TrainingEvent
from inspection_models.training.stages import WEIGHT_DECAY, fine_layers, fit_head, set_stage, share_right
from inspection_models.training.validation import validation_figures

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from inspection_models.training.batches import FittedImages
    from inspection_models.training.checkpoint import Workplace
    from inspection_models.training.request import TrainingRequest

    Progress = Callable[[TrainingEvent], None]

_PRETRAINED_SHARE = 0.1
_HEAD_SHARE = 0.2
_MARKS_SHARE = 0.2


@dataclass(frozen=True)
class Fit:
    """The course of a fit, and where it had been broken off."""

    epochs: tuple[EpochFigures, ...]
    continued_after: tuple[int, ...]
    precision: str


def fit(
    network: nn.Module,
    train: FittedImages,
    validation: FittedImages,
    request: TrainingRequest,
    place: Workplace,
    *,
    several: bool,
    good: int | None,
    fill: tuple[float, float, float],
    progress: Progress,
) -> Fit:
    """Train a network in place and leave it with its averaged weights.

    Which epoch's are kept is not chosen: of twelve epochs one has the luckiest validation images of rare classes.

    All chance in an epoch follows from the seed and its number, so a training that goes on from the checkpoint of the
    epoch before ends with the same weights.

    Args:
        network: on the request's device.
        train: images to learn from.
        validation: images to measure each epoch on.
        request: learning rate, epochs and so on.
        place: where checkpoints are kept.
        several: whether an image may show several classes.
        good: index of the class without a defect, if there is one.
        fill: RGB, 0 to 255, of what augmentation uncovers.
        progress: told of every step.

    Raises:
        TrainingError: the loss is not finite, or a checkpoint cannot be read or written.
    """
    with ExitStack() as stack:
        fitting = _Fitting(network, train, validation, request, several=several, good=good, fill=fill, stack=stack)
        if not fitting.take_up(place.latest()):
            fitting.begin(progress)
            fitting.keep(place)
        while not fitting.is_done:
            fitting.pass_through(progress)
            fitting.keep(place)
        return fitting.finish()


def logits_of(network: nn.Module, images: FittedImages, request: TrainingRequest) -> NDArray[np.float32]:
    """Float32 [N, C] of all images, as they are, in eval mode."""
    network.eval()
    with torch.inference_mode():
        rows = [network(b.inputs.to(request.device)).float().cpu() for b in images.batches(request.batch_size)]
    return torch.cat(rows).numpy()


class _Fitting:
    """A fit between two epochs."""

    def __init__(
        self,
        network: nn.Module,
        train: FittedImages,
        validation: FittedImages,
        request: TrainingRequest,
        *,
        several: bool,
        good: int | None,
        fill: tuple[float, float, float],
        stack: ExitStack,
    ) -> None:
        self._network, self._train, self._validation, self._request = network, train, validation, request
        self._several = several
        self._precision = MixedPrecision(request.device, request.precision)
        self._augment = Augmentation(flips=request.flips, fill=fill)
        self._weights = loss_weights(train, power=1).to(request.device)
        self._fine = fine_layers(network, request) if request.keeps_statistics else []
        self._average = AveragedWeights(network)
        self._marks: MarkedPlaces | None = None
        if request.marks and train.are_marked:
            marks = MarkedPlaces(network, request.size, train.targets.shape[1], good)
            self._marks = stack.enter_context(marks).to(request.device)
        _, self._head = last_layer(network)
        self._optimiser = self._new_optimiser()
        self._steps = max(1, round(len(train) / request.batch_size))
        self._course: list[EpochFigures] = []
        self._continued_after: tuple[int, ...] = ()
        self._epoch = 0

    @property
    def is_done(self) -> bool:
        """Whether all epochs are passed."""
        return self._epoch >= self._request.epochs

    @property
    def _readers_only(self) -> bool:
        """Whether the marks are not to teach the network yet: what random readers want would harm what it knows."""
        return self._epoch == 1 and not self._request.begins_at_random

    def begin(self, progress: Progress) -> None:
        """Fit the head, if the layers before it know something."""
        if self._request.begins_at_random or not isinstance(self._head, nn.Linear):
            return
        started = time.monotonic()
        loss, right = fit_head(
            self._network,
            self._head,
            self._train,
            self._augment,
            self._request,
            self._precision,
            several=self._several,
            progress=progress,
        )
        self._average.network.load_state_dict(self._network.state_dict())
        figures = self._validated(loss, None, right, 0.0, started)
        total = len(self._train)
        progress(TrainingEvent("head", total, total, balanced_accuracy=figures.balanced_accuracy))

    def pass_through(self, progress: Progress) -> None:
        """Learn for one epoch, and see what it was good for."""
        started = time.monotonic()
        request, epoch = self._request, self._epoch + 1
        self._epoch = epoch
        set_stage(self._network, self._fine, request.stage(epoch), keeps_statistics=request.keeps_statistics)
        torch.manual_seed(_chance(request.seed, epoch))
        rng = np.random.default_rng([request.seed, epoch])
        sums = np.zeros(3)
        drawn = draw_epoch(self._train.labels, self._train.targets.shape[1], request.batch_size, rng)
        for number, indices in enumerate(drawn, start=1):
            step = (epoch - 1) * self._steps + number
            self._set_rate(step - 1)
            sums += self._step(indices, rng)
            self._average.update(self._network, step)
            done = min(number * request.batch_size, len(self._train) - 1)
            progress(TrainingEvent("epoch", done, len(self._train), epoch, request.epochs))
        loss, marks_loss, right = (sums / len(drawn)).tolist()
        rate = max(
            request.learning_rate * self._factor((epoch - 1) * self._steps + step) for step in range(self._steps)
        )
        figures = self._validated(loss, marks_loss if self._marks is not None else None, right, rate, started)
        done = len(self._train)
        progress(TrainingEvent("epoch", done, done, epoch, request.epochs, figures.balanced_accuracy))

    def keep(self, place: Workplace) -> None:
        """Write the checkpoint of the epoch."""
        tensors = {f"network.{name}": tensor for name, tensor in self._network.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self._average.network.state_dict().items()}
        if self._marks is not None:
            tensors |= {f"marks.{name}": tensor for name, tensor in self._marks.state_dict().items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in moments.items()}
        state = {
            "course": [asdict(figures) for figures in self._course],
            "precision": self._precision.state,
            "continued_after": list(self._continued_after),
        }
        place.write(Checkpoint(self._epoch, tensors, state))
        place.show(CURVES_FILE, curves_csv(self._course))

    def take_up(self, checkpoint: Checkpoint | None) -> bool:
        """Go on from a checkpoint, if there is one."""
        if checkpoint is None:
            return False
        parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in ("network", "average", "marks", "optimiser")}
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self._network.load_state_dict(parts["network"])
        self._average.network.load_state_dict(parts["average"])
        if self._marks is not None:
            self._marks.load_state_dict(parts["marks"])
        self._take_up_moments(parts["optimiser"])
        self._course = [EpochFigures(**fields) for fields in checkpoint.state["course"]]
        self._precision.state = checkpoint.state["precision"]
        self._continued_after = (*checkpoint.state["continued_after"], checkpoint.epoch)
        self._epoch = checkpoint.epoch
        return True

    def finish(self) -> Fit:
        """Give the network its averaged weights."""
        self._network.load_state_dict(self._average.network.state_dict())
        self._network.requires_grad_(requires_grad=True).eval()
        return Fit(tuple(self._course), self._continued_after, self._precision.name)

    def _new_optimiser(self) -> torch.optim.AdamW:
        new = {id(parameter) for parameter in self._head.parameters()}
        body = [parameter for parameter in self._network.parameters() if id(parameter) not in new]
        rate, pretrained = self._request.learning_rate, not self._request.begins_at_random
        groups: list[dict[str, Any]] = [
            {"params": list(self._head.parameters()), "highest": rate * (_HEAD_SHARE if pretrained else 1)},
            {"params": body, "highest": rate * (_PRETRAINED_SHARE if pretrained else 1)},
        ]
        if self._marks is not None:
            groups.append({"params": list(self._marks.parameters()), "highest": rate})
        return torch.optim.AdamW(groups, lr=rate, weight_decay=WEIGHT_DECAY)

    def _take_up_moments(self, tensors: dict[str, torch.Tensor]) -> None:
        state = self._optimiser.state_dict()
        parameters = [parameter for group in self._optimiser.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            number, _, kind = name.partition(".")
            like = parameters[int(number)]
            # In the layout of its parameter, which a file does not keep: kernels may depend on it.
            laid_out = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            moments.setdefault(int(number), {})[kind] = laid_out.detach()
        self._optimiser.load_state_dict({"state": moments, "param_groups": state["param_groups"]})

    def _factor(self, step: int) -> float:
        """Share of the highest learning rate in a step, from 0: it rises over half an epoch, then falls as a cosine."""
        total, rise = max(1, self._steps * self._request.epochs), max(1, self._steps // 2)
        return float(min((step + 1) / rise, 0.5 * (1 + np.cos(np.pi * step / total))))

    def _set_rate(self, step: int) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = group["highest"] * self._factor(step)

    def _step(self, indices: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Learn from one batch; returns loss of the decisions, loss of the marks and share decided rightly before."""
        device = self._request.device
        batch = self._train.batch(indices.tolist(), self._augment, rng)
        targets = batch.targets.to(device)
        self._optimiser.zero_grad()
        with self._precision.passing():
            logits = self._network(batch.inputs.to(device))
        logits = logits.float()
        decided = decision_loss(logits, targets, self._weights, several=self._several)
        marked = torch.zeros((), device=device)
        if self._marks is not None:
            marked = self._marks.loss(batch, readers_only=self._readers_only)
        self._precision.step(decided + _MARKS_SHARE * marked, self._optimiser)
        right = share_right(logits.detach(), targets, several=self._several)
        return np.array([float(decided.detach()), float(marked.detach()), right])

    def _validated(
        self, loss: float, marks_loss: float | None, right: float, rate: float, started: float
    ) -> EpochFigures:
        logits = logits_of(self._average.network, self._validation, self._request)
        found = validation_figures(logits, self._validation.targets, several=self._several)
        if not np.isfinite([found.loss, loss, marks_loss or 0.0]).all():
            raise TrainingError(f"the loss is no longer finite in epoch {self._epoch}; lower the learning rate")
        figures = EpochFigures(
            epoch=self._epoch,
            stage=self._request.stage(self._epoch),
            learning_rate=rate,
            training_loss=loss,
            marks_loss=marks_loss,
            training_accuracy=right,
            validation_loss=found.loss,
            validation_accuracy=found.accuracy,
            balanced_accuracy=found.balanced_accuracy,
            seconds=round(time.monotonic() - started, 3),
        )
        self._course.append(figures)
        return figures


def _chance(seed: int, epoch: int) -> int:
    """A seed for torch, of its own for every epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
