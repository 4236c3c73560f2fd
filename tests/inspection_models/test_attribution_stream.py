"""Masks go to the device without a wait for what it has still to do; on an accelerator each would empty its queue.

On a processor the tests see operations that would wait anywhere. They do not see `.cpu()` or `.to(device)`, which do
nothing there; only the test on a graphics card does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inspection_models.attribution import attribute
from inspection_models.attribution.errors import AttributionError
from inspection_models.attribution.masks import attribution_masks
from inspection_models.attribution.rise import RandomMasks, RiseOptions
from inspection_models.attribution.stream import MaskStream, Scores
from tests.inspection_models.attribution_networks import Plain, built, images

# What has to know a number on the device, or the place of an index in the host's memory, before it can go on.
_WAITS = ("_local_scalar_dense", "nonzero", "index.Tensor", "index_put", "equal", "masked_select", "unique")


class Waiting(TorchDispatchMode):
    """Notes every operation that would wait for an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if any(name in str(func) for name in _WAITS):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Means:
    """An engine that scores the means of the channels."""

    name = "means"

    def new_batch(self, shape: tuple[int, int, int, int]) -> Tensor:
        return torch.zeros(shape)

    def logits(self, batch: Tensor) -> Tensor:
        return batch.mean(dim=(2, 3)) @ torch.linspace(-1, 1, 15).reshape(3, 5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_pushing_and_scoring_masks_waits_for_nothing(activation: Any) -> None:
    torch.manual_seed(0)
    stream = MaskStream(Means(), (4, 3, 16, 16), activation)
    image, scores = torch.randn(3, 16, 16), Scores((3, 1))
    maps = torch.rand(10, 4, 4)
    with Waiting() as waiting:
        for start in range(0, 10, 2):
            stream.push(image, attribution_masks(maps[start : start + 2], (16, 16)).values, scores)
        stream.push_inputs(image.expand(2, -1, -1, -1), scores)
        stream.close()
        scores.unchecked()
    assert waiting.seen == []
    assert scores.values().shape == (12, 2)
    with waiting:
        scores.values()
    assert waiting.seen  # the mode does see what waits


class CardMeans(Means):
    """The same on a graphics card, its weights there from the start."""

    def __init__(self) -> None:
        self._weights = torch.linspace(-1, 1, 15).reshape(3, 5).cuda()

    def new_batch(self, shape: tuple[int, int, int, int]) -> Tensor:
        return torch.zeros(shape, device="cuda")

    def logits(self, batch: Tensor) -> Tensor:
        return batch.mean(dim=(2, 3)) @ self._weights


@pytest.mark.gpu
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_pushing_and_scoring_masks_on_a_graphics_card_waits_for_nothing(activation: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    stream = MaskStream(CardMeans(), (4, 3, 16, 16), activation)
    image, scores = torch.randn(3, 16, 16).cuda(), Scores((3, 1))
    maps = torch.rand(10, 4, 4).cuda()
    drawn = RandomMasks.drawn(RiseOptions(masks=10), (16, 16))
    drawn = replace(drawn, cells=drawn.cells.cuda())
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for start in range(0, 10, 2):
            stream.push(image, attribution_masks(maps[start : start + 2], (16, 16)).values, scores)
            stream.push(image, drawn.made(start, start + 2, image), scores)
        stream.push_inputs(image.expand(2, -1, -1, -1), scores)
        stream.close()
        scores.unchecked()
        with pytest.raises(RuntimeError, match="synchronizing"):
            scores.values()  # the mode does see what waits
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert scores.values().shape == (22, 2)


def test_what_waits_in_rise_does_not_grow_with_the_masks() -> None:
    network = built(Plain, 0, torch.float32)
    image, target = images(1, 0, torch.float32), torch.tensor([1])

    def waits(masks: int) -> int:
        with Waiting() as waiting:
            attribute(network, image, target, "rise", masks=masks, batch_size=4, engine="torch")
        return len(waiting.seen)

    assert waits(8) == waits(64)


def test_answers_that_are_not_finite_are_told_of_in_the_end() -> None:
    class Breaks(Plain):
        """Overflows where most of the picture is masked."""

        def forward(self, inputs: Tensor) -> Tensor:
            masked = (inputs == 0).float().mean(dim=(1, 2, 3)) > 0.3
            return torch.where(masked[:, None], torch.nan, super().forward(inputs))

    network = built(Breaks, 0, torch.float32)
    options = {"masks": 32, "keep": 0.1, "engine": "torch"}
    with pytest.raises(AttributionError, match="not finite for a masked input"):
        attribute(network, images(1, 0, torch.float32), torch.tensor([1]), "rise", **options)
