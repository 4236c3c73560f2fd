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

import numpy as np
import torch

from benchmarks import straightforward_sise
from benchmarks.machine import described
from inspection_models._torchvision import models  # noqa: F401  peers import torchvision, which needs the door
from inspection_models.attribution import attribute, convolutional_blocks
from inspection_models.data.synthetic_steel import make_steel
from inspection_models.networks import build_network
from inspection_models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

_TARGET = 1
_REPETITIONS = 5


@dataclass(frozen=True)
class Case:
    """A network, the share `mu` of SISE's selection, and the block that ScoreCAM gets (all of them where None)."""

    network: str
    mu: float = 0.0
    score_cam_block: int | None = None
    repetitions: int = _REPETITIONS


CASES = (
    Case("efficientnet-lite0"),
    Case("mobilenet_v3_large"),
    Case("resnet18"),
    Case("resnet50", mu=0.5, score_cam_block=1, repetitions=3),
)


def run(_folder: Path) -> dict[str, Any]:
    """Measure every case at 224 x 224."""
    return {"machine": described(), "cases": [_measured(case) for case in CASES]}


def _measured(case: Case) -> dict[str, Any]:
    torch.manual_seed(0)
    network = build_network(case.network, 6, pretrained=case.network == "efficientnet-lite0").eval()
    network.requires_grad_(requires_grad=False)
    grey = make_steel("scratches", 224, seed=1, index=0).pixels
    # Normalised as EfficientNet-Lite wants it; the random networks do not care.
    preprocessing = Preprocessing("resize", (224, 224), (127.0,) * 3, (128.0,) * 3)
    image = preprocessing.apply(np.repeat(grey[..., None], 3, axis=2))[0][None]
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
        _, masks["straightforward"] = straightforward_sise.explain(network, layers, image, _TARGET, case.mu)

    cam_blocks = blocks if case.score_cam_block is None else (blocks[case.score_cam_block],)
    masks["score-cam"] = sum(block.channels for block in cam_blocks)
    contestants: dict[str, Callable[[], None]] = {
        "straightforward": straightforward,
        "score-cam": lambda: _score_cam(network, [modules[block.name] for block in cam_blocks], image),
        "sise": ours("sise", mu=case.mu),
        "sise, torch": ours("sise", mu=case.mu, engine="torch"),
        "ada-sise": ours("ada-sise"),
    }
    contestants["sise"]()  # exports the network, once for all that follow
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(case.repetitions):
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
        "repetitions": case.repetitions,
        "contestants": {
            name: {
                "masks": masks[name],
                "seconds": round(statistics.median(runs), 3),
                "milliseconds_a_mask": round(1000 * statistics.median(runs) / masks[name], 2),
                "faster_than_straightforward": _ratio(seconds["straightforward"], runs),
                "faster_than_straightforward_a_mask": _ratio(
                    seconds["straightforward"], runs, masks["straightforward"], masks[name]
                ),
                "faster_than_score_cam": _ratio(seconds["score-cam"], runs) if case.score_cam_block is None else None,
                "faster_than_score_cam_a_mask": _ratio(seconds["score-cam"], runs, masks["score-cam"], masks[name]),
            }
            for name, runs in seconds.items()
        },
    }


def _score_cam(network: nn.Module, layers: list[nn.Module], image: Tensor) -> None:
    from pytorch_grad_cam import ScoreCAM  # noqa: PLC0415
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget  # noqa: PLC0415

    with ScoreCAM(network, layers) as cam:
        cam.batch_size = straightforward_sise.BATCH_SIZE
        cam(image, [ClassifierOutputSoftmaxTarget(_TARGET)])


def _ratio(slow: list[float], fast: list[float], slow_masks: int = 1, fast_masks: int = 1) -> dict[str, float]:
    share = fast_masks / slow_masks
    pairs = [a / b * share for a, b in zip(slow, fast, strict=True)]
    return {
        "median": round(statistics.median(slow) / statistics.median(fast) * share, 2),
        "lowest": round(min(pairs), 2),
        "highest": round(max(pairs), 2),
    }
