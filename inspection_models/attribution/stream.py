"""One stream of masks: laid over their images, scored in batches of one shape, answered where they came from."""

from __future__ import annotations

import torch
from torch import Tensor

from inspection_models.attribution.confidence import Activation, columns, confidences, precise
from inspection_models.attribution.engines import Engine
from inspection_models.attribution.errors import AttributionError


class Scores:
    """Confidences of the masks pushed with it, in their order, for the classes `targets`; kept on the device."""

    def __init__(self, targets: tuple[int, ...]) -> None:
        self.targets = targets
        self.count = 0
        self._parts: list[Tensor] = []

    def add(self, part: Tensor) -> None:
        """Take the confidences [k, T] of the next k masks."""
        self._parts.append(part)
        self.count += len(part)

    def values(self) -> Tensor:
        """What was scored so far: float64 [K, T] on the CPU. Raises `AttributionError` where it is not finite."""
        if not self._parts:
            return torch.zeros((0, len(self.targets)), dtype=torch.float64)
        values = torch.cat(self._parts).cpu().double()
        check_scored(values)
        return values

    def unchecked(self) -> Tensor:
        """What was scored so far, [K, T] with K of at least 1, on the device, without waiting for it."""
        return precise(torch.cat(self._parts))


def check_scored(values: Tensor) -> None:
    """Raise `AttributionError` where what is made of scores is not finite."""
    if not bool(torch.isfinite(values).all()):
        raise AttributionError("the network's output is not finite for a masked input; check the weights")


class MaskStream:
    """Scores s_k = Psi(I * m_k) of masks, whatever image, block or class they belong to.

    Only the last batch has empty places: it is filled up with zeros, for the network always sees one shape. Nothing
    waits for the device before `Scores.values` does.

    `batch_shape`: [B, C, H, W]. `activation`: what Psi is; the logit itself where it is None.
    """

    def __init__(self, engine: Engine, batch_shape: tuple[int, int, int, int], activation: Activation | None) -> None:
        self._engine = engine
        self._activation = activation
        self._batch = engine.new_batch(batch_shape)
        self._waiting: list[tuple[Scores, int, int]] = []
        self._filled = 0

    @property
    def room(self) -> int:
        """Masks that can be pushed before the next batch is scored, at least 1."""
        return len(self._batch) - self._filled

    def push(self, image: Tensor, masks: Tensor, scores: Scores) -> None:
        """Lay `masks` [k, H, W], at most `room` of them, over `image` [C, H, W]: where a mask is 0 the input is 0."""
        start, stop = self._filled, self._filled + len(masks)
        with torch.inference_mode():
            torch.mul(image, masks[:, None], out=self._batch[start:stop])
        self._waiting.append((scores, start, stop))
        self._filled = stop
        if not self.room:
            self._score()

    def push_inputs(self, inputs: Tensor, scores: Scores) -> None:
        """The same for inputs [k, C, H, W] that are filled in another way than with zeros."""
        start, stop = self._filled, self._filled + len(inputs)
        with torch.inference_mode():
            self._batch[start:stop] = inputs
        self._waiting.append((scores, start, stop))
        self._filled = stop
        if not self.room:
            self._score()

    def close(self) -> None:
        """Score what still waits."""
        if self._waiting:
            with torch.inference_mode():
                self._batch[self._filled :] = 0
            self._score()

    def _score(self) -> None:
        with torch.inference_mode():
            logits = self._engine.logits(self._batch)
            for scores, start, stop in self._waiting:
                scores.add(_psi(logits[start:stop], scores.targets, self._activation))
        self._waiting = []
        self._filled = 0


def _psi(logits: Tensor, targets: tuple[int, ...], activation: Activation | None) -> Tensor:
    return columns(logits, targets) if activation is None else confidences(logits, targets, activation)
