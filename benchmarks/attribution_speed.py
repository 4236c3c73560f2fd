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
        _, masks[_STRAIGHTFORWARD] = straightforward_sise.explain(network, layers, image, _TARGET, case.mu)

    cam_blocks = blocks if case.score_cam_block is None else (blocks[case.score_cam_block],)
    masks[_SCORE_CAM] = sum(block.channels for block in cam_blocks)
    contestants: dict[str, Callable[[], None]] = {
        _STRAIGHTFORWARD: straightforward,
        _SCORE_CAM: lambda: _score_cam(network, [modules[block.name] for block in cam_blocks], image),
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
        peer: _ratio(seconds[peer], runs) if whole or peer == _STRAIGHTFORWARD else None
        for peer in (_STRAIGHTFORWARD, _SCORE_CAM)
    }
    by_mask = {
        peer: _ratio(seconds[peer], runs, masks[peer], count) if count else None
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
