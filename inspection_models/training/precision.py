"""In which numbers a training computes its passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from inspection_models.training.request import TrainingError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from inspection_models.training.request import Precision

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class MixedPrecision:
    """Autocasting, and the scaling of gradients that float16 needs lest small ones become zero.

    Weights, their gradients, the optimiser and the losses stay float32.
    """

    def __init__(self, device: str, precision: Precision) -> None:
        """Raises `TrainingError` where the device does not compute so."""
        self._kind = torch.device(device).type
        self.name = _chosen(self._kind) if precision == "auto" else precision
        if self.name == "float16" and self._kind != "cuda":
            raise TrainingError("float16 is for CUDA devices; use bfloat16 or float32")
        if self.name == "bfloat16" and self._kind == "cuda" and not torch.cuda.is_bf16_supported():
            raise TrainingError("this GPU has no bfloat16; use float16 or float32")
        self._scaler = torch.amp.GradScaler(self._kind, enabled=self.name == "float16")

    def passing(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        kind = _TYPES.get(self.name)
        return torch.autocast(self._kind, dtype=kind or torch.bfloat16, enabled=kind is not None)

    def step(self, loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Backward pass and step; a step whose scaled gradients are not finite is left out, and the scale lowered."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(optimiser)
        self._scaler.update()

    @property
    def state(self) -> dict[str, Any]:
        """To go on with, as JSON gives it back."""
        state: dict[str, Any] = self._scaler.state_dict()
        return state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._scaler.load_state_dict(state)


def _chosen(kind: str) -> Precision:
    if kind != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
