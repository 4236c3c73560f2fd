"""How long an explanation takes, beside a straightforward SISE and pytorch-grad-cam's ScoreCAM at the same block ends.

Runs are interleaved and repeated; what is reported is the ratio of the medians and, as spread, the lowest and highest
ratio of runs that stood next to each other. The picture is a synthetic scratch; weights are ImageNet's where they can
be installed, else random: they do not change what a pass costs. The straightforward SISE also scores maps that are zero
everywhere, which ours leaves out without changing the map. ScoreCAM knows no selection by gradient and scores every
map; where that would take an hour (ResNet-50) it gets one block, and the ratio is taken a mask. `mu` keeps ResNet-50
within minutes: both implementations score the same masks.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import accelerated_speed, straightforward_sise
from benchmarks.machine import described
from benchmarks.score_cam_peers import pytorch_grad_cam
from benchmarks.scratched_steel import frozen, scratch
from benchmarks.statistics import ratio
from inspection_models.attribution import attribute, convolutional_blocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TARGET = 1
_STRAIGHTFORWARD, _SCORE_CAM = "straightforward SISE", "ScoreCAM of pytorch-grad-cam"
_REPETITIONS = 3


@dataclass(frozen=True)
class Case:
    """A network, the share `mu` of SISE's selection, and the block that ScoreCAM gets (all of them where None)."""

    network: str
    mu: float = 0.0
    score_cam_block: int | None = None


CASES = (
    Case("efficientnet-lite0"),
    Case("mobilenet_v3_large"),
    Case("resnet18"),
    Case("resnet50", mu=0.5, score_cam_block=1),
)


def run(_folder: Path) -> dict[str, Any]:
    """Measure every case at 224 x 224; with an NVIDIA card also those of `accelerated_speed`, under "accelerated"."""
    report = {"machine": described(), "cases": [_measured(case) for case in CASES]}
    if torch.cuda.is_available():
        report["accelerated"] = accelerated_speed.run()
    return report


def _measured(case: Case) -> dict[str, Any]:
    network, image = frozen(case.network), scratch(224)
    target = torch.tensor([_TARGET])
    blocks = convolutional_blocks(network)
    modules = dict(network.named_modules())
    layers = [modules[block.name] for block in blocks]
    masks: dict[str, int] = {}

    def ours(method: str, **options: Any) -> Callable[[], None]:
        def call() -> None:
            masks[method] = int(attribute(network, image, target, method, **options).masks_scored[0])

        return call

    def straightforward() -> None:
        _, masks[_STRAIGHTFORWARD] = straightforward_sise.explain(network, layers, image, _TARGET, case.mu)

    cam_blocks = blocks if case.score_cam_block is None else (blocks[case.score_cam_block],)
    cam_layers = [modules[block.name] for block in cam_blocks]
    masks[_SCORE_CAM] = sum(block.channels for block in cam_blocks)
    contestants: dict[str, Callable[[], object]] = {
        _STRAIGHTFORWARD: straightforward,
        _SCORE_CAM: lambda: pytorch_grad_cam(network, cam_layers, image, _TARGET),
        "sise": ours("sise", mu=case.mu),
        "sise, torch": ours("sise", mu=case.mu, engine="torch"),
        "ada-sise": ours("ada-sise"),
        "layer-cam": ours("layer-cam"),
        "quorum": ours("quorum"),
    }
    contestants["sise"]()  # exports the network, once for all that follow
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(_REPETITIONS):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    masks["sise, torch"] = masks["sise"]
    return {
        "network": case.network,
        "input": [224, 224],
        "mu": case.mu,
        "blocks_of_score_cam": [block.name for block in cam_blocks],
        "repetitions": _REPETITIONS,
        "contestants": {name: _figures(name, seconds, masks, whole=case.score_cam_block is None) for name in seconds},
    }


def _figures(name: str, seconds: dict[str, list[float]], masks: dict[str, int], *, whole: bool) -> dict[str, Any]:
    """One contestant's figures; `whole`: whether ScoreCAM ran over all blocks, so that it compares picture by picture.

    A picture by LayerCAM or Quorum takes no masks, so there is nothing to compare a mask.
    """
    runs, count = seconds[name], masks[name]
    against = {
        peer: ratio(seconds[peer], runs) if whole or peer == _STRAIGHTFORWARD else None
        for peer in (_STRAIGHTFORWARD, _SCORE_CAM)
    }
    by_mask = {
        peer: ratio(seconds[peer], runs, count / masks[peer]) if count else None
        for peer in (_STRAIGHTFORWARD, _SCORE_CAM)
    }
    return {
        "masks": count,
        "seconds": round(statistics.median(runs), 3),
        "milliseconds_a_mask": round(1000 * statistics.median(runs) / count, 2) if count else None,
        "faster_than_straightforward": against[_STRAIGHTFORWARD],
        "faster_than_straightforward_a_mask": by_mask[_STRAIGHTFORWARD],
        "faster_than_score_cam": against[_SCORE_CAM],
        "faster_than_score_cam_a_mask": by_mask[_SCORE_CAM],
    }
