"""Sends the masks of one image after another through one stream, and hands out previews while it does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Protocol

from torch import Tensor

from inspection_models.attribution.blocks import ConvolutionalBlock
from inspection_models.attribution.confidence import Activation
from inspection_models.attribution.engines import open_engine
from inspection_models.attribution.fusion import Gate
from inspection_models.attribution.request import Attribution, Evidence, Request, answer
from inspection_models.attribution.scoring import ScoringOptions, default_batch_size
from inspection_models.attribution.stream import MaskStream
from inspection_models.attribution.tracing import Trace

_PREVIEWS = 8


class Sampling(Protocol):
    """One image on its way."""

    @property
    def masks(self) -> int:
        """How many masks it has."""

    @property
    def complete(self) -> bool:
        """Whether all of them are scored."""

    def push_to(self, stream: MaskStream) -> Iterator[int]:
        """Push all masks, as many at a time as the stream has room for; yields how many were pushed so far."""

    def evidence(self) -> Evidence:
        """What the masks say that are scored so far."""


def explain_by_sampling(
    request: Request,
    traced: Trace,
    options: ScoringOptions,
    begin: Callable[[Tensor, tuple[int, ...]], Sampling],
    *,
    method: str,
    blocks: tuple[ConvolutionalBlock, ...],
    activation: Activation | None,
    gate: Gate = "none",
) -> Attribution:
    """Maps at the `blocks`, fused by `gate`, from the masks that `begin` makes of each image [C, H, W] and its targets.

    `activation`: what makes scores of logits; they are scores themselves where it is None.
    """
    batch_size = options.batch_size or default_batch_size(request.input_size, request.inputs.device)
    engine = open_engine(options.engine, request.network, traced, request.inputs[:1], batch_size)
    stated = {"method": method, **asdict(options), "batch_size": batch_size, "engine": engine.name}
    stream = MaskStream(engine, (batch_size, *request.inputs.shape[1:]), activation)
    waiting: deque[Sampling] = deque()
    found: list[Evidence] = []
    for image, targets in zip(request.inputs, request.targets, strict=True):
        sampling = begin(image, targets)
        waiting.append(sampling)
        step = max(1, sampling.masks // _PREVIEWS)
        due = 0
        for pushed in sampling.push_to(stream):
            if request.watch is not None and pushed > due and not sampling.complete:
                request.watch(answer(request, blocks, [sampling.evidence()], gate, stated))
                due += step
        while waiting and waiting[0].complete:
            found.append(waiting.popleft().evidence())
    stream.close()
    found += [sampling.evidence() for sampling in waiting]
    return answer(request, blocks, found, gate, stated)
