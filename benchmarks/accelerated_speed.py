"""How long an explanation takes on an NVIDIA card and what memory it wants, beside the ScoreCAM of two libraries.

All of them compute in float32 (no TF32, as the product does) on one picture of a scratch. They run in turn, first once
unmeasured; reported are the ratios of the medians and, as spread, the lowest and highest ratio of runs that stood next
to each other. Peak memory is what a run adds to the weights and the picture, which are there before.

Both peers score every map at the ends of the blocks that `sise` finds, block by block: the hooks of pytorch-grad-cam
keep, in the host's memory, what every pass makes there, which for all blocks of ResNet-50 at once is 36 GB at
224 x 224. At 1024 x 1024 they get a single block, one for which that stays under 5 GB, and are compared mask by mask.
Who runs out of the card's memory is left out and reported as such.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.machine import described
from benchmarks.score_cam_peers import GRAD_CAM_BATCH, TORCH_CAM_BATCH, pytorch_grad_cam, torch_cam
from benchmarks.scratched_steel import frozen, scratch
from benchmarks.statistics import ratio
from inspection_models.attribution import attribute, convolutional_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

BATCHES = {"pytorch-grad-cam": GRAD_CAM_BATCH, "torch-cam": TORCH_CAM_BATCH}
_TARGET = 1
_REPETITIONS = 3


@dataclass(frozen=True)
class Case:
    """A network, the side of its square input, and the block that the peers get (all of them where None)."""

    network: str
    size: int
    peers_block: int | None = None


CASES = (
    Case("resnet50", 224),
    Case("resnet50", 512),
    Case("resnet50", 1024, peers_block=0),
    Case("vgg16", 224),
    Case("vgg16", 512),
    Case("vgg16", 1024, peers_block=4),
    Case("efficientnet-lite0", 224),
    Case("efficientnet-lite0", 512),
    Case("efficientnet-lite0", 1024, peers_block=3),
)


@dataclass(frozen=True)
class Work:
    """What was done for a map: `masks` scored, `batch_size` of them at once (None where there are none)."""

    masks: int
    batch_size: int | None


@dataclass(frozen=True)
class Timing:
    """One run: its seconds, and the bytes it took at most beyond those held before (None on a processor)."""

    seconds: float
    peak_memory: int | None
    work: Work


def run(device: str = "cuda") -> dict[str, Any]:
    """Measure every case on `device`."""
    cases = []
    for case in CASES:
        network, image = frozen(case.network).to(device), scratch(case.size).to(device)
        cases.append({"network": case.network, **compared(network, image, case.peers_block)})
    return {
        "machine": described(device),
        "repetitions": _REPETITIONS,
        "tf32": False,
        "batches_of_peers": BATCHES,
        "cases": cases,
    }


def compared(network: nn.Module, image: Tensor, peers_block: int | None = None) -> dict[str, Any]:
    """Figures of every contestant for `image` [1, 3, H, W], on the device where it and the network are."""
    size = (image.shape[2], image.shape[3])
    blocks = convolutional_blocks(network, size)
    chosen = blocks if peers_block is None else (blocks[peers_block],)
    layers = [network.get_submodule(block.name) for block in chosen]
    channels = sum(block.channels for block in chosen)
    target = torch.tensor([_TARGET])

    def ours(method: str) -> Callable[[], Work]:
        def call() -> Work:
            made = attribute(network, image, target, method)
            return Work(int(made.masks_scored[0]), made.settings.get("batch_size"))

        return call

    def peer(name: str, score_cam: Callable[[nn.Module, list[nn.Module], Tensor, int], Tensor]) -> Callable[[], Work]:
        def call() -> Work:
            for layer in layers:
                score_cam(network, [layer], image, _TARGET)
            return Work(channels, BATCHES[name])

        return call

    contestants = {
        "pytorch-grad-cam": peer("pytorch-grad-cam", pytorch_grad_cam),
        "torch-cam": peer("torch-cam", torch_cam),
        "sise": ours("sise"),
        "quorum": ours("quorum"),
    }
    if find_spec("torchcam") is None:  # it needs Python 3.11
        del contestants["torch-cam"]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        timings = in_turn(contestants, image.device, _REPETITIONS)
    return {
        "input": list(size),
        "blocks_of_peers": [block.name for block in chosen],
        "contestants": {name: figures(timings, name, whole=peers_block is None) for name in timings},
    }


def in_turn(
    contestants: Mapping[str, Callable[[], Work]], device: torch.device, repetitions: int
) -> dict[str, list[Timing]]:
    """Timings of the contestants, one a repetition after one that is not counted; none of who ran out of memory."""
    timings: dict[str, list[Timing]] = {name: [] for name in contestants}
    running = dict(contestants)
    for repetition in range(repetitions + 1):
        for name, call in list(running.items()):
            try:
                timing = _timed(call, device)
            except torch.OutOfMemoryError:
                del running[name]
                timings[name] = []
                continue
            if repetition:
                timings[name].append(timing)
    return timings


def _timed(call: Callable[[], Work], device: torch.device) -> Timing:
    if device.type != "cuda":
        started = time.perf_counter()
        work = call()
        return Timing(time.perf_counter() - started, None, work)
    # What earlier runs left in cycles would be freed during this one and hide a part of what it takes.
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    started = time.perf_counter()
    work = call()
    torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    return Timing(seconds, torch.cuda.max_memory_allocated(device) - held, work)


def figures(timings: Mapping[str, list[Timing]], name: str, *, whole: bool) -> dict[str, Any]:
    """One contestant's figures; `whole`: whether the peers ran over all blocks, so that pictures can be compared.

    A map by Quorum takes no masks, so there is nothing to compare a mask.
    """
    runs = timings[name]
    if not runs:
        return {"out_of_memory": True}
    work = runs[0].work
    seconds = statistics.median(run.seconds for run in runs)
    peaks = [run.peak_memory for run in runs if run.peak_memory is not None]
    return {
        "out_of_memory": False,
        "masks": work.masks,
        "batch_size": work.batch_size,
        "seconds": round(seconds, 4),
        "masks_a_second": round(work.masks / seconds, 1) if work.masks else None,
        "peak_megabytes": round(max(peaks) / 1e6) if peaks else None,
        "faster_than": {peer: _faster(timings, peer, runs) if whole else None for peer in BATCHES},
        "faster_than_a_mask": {peer: _faster(timings, peer, runs, by_mask=True) for peer in BATCHES},
    }


def _faster(
    timings: Mapping[str, list[Timing]], peer: str, runs: list[Timing], *, by_mask: bool = False
) -> dict[str, float] | None:
    slow = timings.get(peer)
    if not slow or (by_mask and not runs[0].work.masks):
        return None
    share = runs[0].work.masks / slow[0].work.masks if by_mask else 1.0
    return ratio([run.seconds for run in slow], [run.seconds for run in runs], share)
