"""What each part of Quorum is worth: the method without it, and the two baselines of no masks that stand nearest.

Test parts of magnetic tile and synthetic steel, with the trainings of explanation-quality (EfficientNet-Lite0; trained
here where they are missing). All variants are made of one capture of each picture. A photograph drawn for several
trainings counts once, with the mean of its figures; intervals are over groups of photographs, those of a tile being
alike. The other methods, on the same trainings, are in explanation-quality.

PARTS_SEEDS and PARTS_LIMIT (photographs a training) change how much is measured.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.explanation_quality import STEEL, TILES, Case, data_folder, kept_as, trained_model
from benchmarks.machine import described
from inspection_models.attribution import METHODS, attribute, convolutional_blocks, render_map
from inspection_models.attribution.blurring import gaussian_blur
from inspection_models.attribution.capture import capture
from inspection_models.attribution.confidence import check_activation, log_odds, precise
from inspection_models.attribution.grids import evidence_grid
from inspection_models.data import load_dataset
from inspection_models.metrics import (
    choose_part,
    energy_based_pointing_game,
    mean_interval,
    paired_difference,
    pixel_average_precision,
    ranked_pointing_game,
)
from inspection_models.metrics.cases import prepare_case, select_samples
from inspection_models.metrics.report import SMALL_DEFECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from inspection_models.attribution import ConvolutionalBlock
    from inspection_models.classifier import DefectClassifier
    from inspection_models.metrics.cases import Case as Picture

FULL = "quorum"
REFERENCES = ("layer-cam", "integrated-gradients")
METRICS = {
    "ap": pixel_average_precision,
    "ebpg": energy_based_pointing_game,
    "ebpg_ranked": ranked_pointing_game,
}
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
_BLUR = 14


@dataclass(frozen=True)
class View:
    """What one mirror image says, mirrored back: evidence for and against the class, [h, w] a level, input first."""

    positive: tuple[Tensor, ...]
    negative: tuple[Tensor, ...]


@dataclass(frozen=True)
class Variant:
    """Quorum with or without its parts.

    Attributes:
        mirrored: sum over the four mirror images; else the picture alone.
        at_input: the input is a level.
        positive_parts: of each channel before channels are summed; else signed sums over channels and mirror images,
            whose positive part is taken in the end.
        balanced: the last level is the balance of evidence for and against in the last two blocks; else it is as the
            others.
    """

    mirrored: bool = True
    at_input: bool = True
    positive_parts: bool = True
    balanced: bool = True


VARIANTS = {
    FULL: Variant(),
    "without the mirror images": Variant(mirrored=False),
    "without the input's own level": Variant(at_input=False),
    "without the positive part before the sum": Variant(positive_parts=False),
    "without the balance in the last level": Variant(balanced=False),
}


def run(folder: Path) -> dict[str, Any]:
    """Measure each training, unless its figures are in the folder, and put those of all seeds together."""
    seeds = [int(seed) for seed in os.environ.get("PARTS_SEEDS", "1,2,3").split(",")]
    limit = int(os.environ.get("PARTS_LIMIT", "24"))
    return {
        "machine": described(),
        "narrowed": any(os.environ.get(f"PARTS_{what}") for what in ("SEEDS", "LIMIT")),
        "seeds": seeds,
        "limit": limit,
        "cases": [pooled(case, [_measured(case, seed, limit, folder) for seed in seeds]) for case in (TILES, STEEL)],
    }


def views_of(
    network: nn.Module, blocks: tuple[ConvolutionalBlock, ...], image: Tensor, target: int, activation: str
) -> tuple[View, ...]:
    """The four mirror images of `image` [C, H, W], the picture itself first."""
    known = check_activation(activation, classes=2)
    details = image[None] - gaussian_blur(image[None], max(image.shape[1:]) / _BLUR)
    views = []
    for axes in _MIRRORS:
        captured = capture(network, image[None].flip(axes), blocks)
        gradients = captured.gradients_from_input(log_odds(captured.logits, target, known).sum())
        factors = (details.flip(axes), *(maps.detach() for maps in captured.feature_maps))
        products = [precise((one * other)[0]) for one, other in zip(gradients, factors, strict=True)]
        views.append(
            View(
                positive=tuple(part.clamp_min(0).sum(dim=0).flip(axes) for part in products),
                negative=tuple(part.neg().clamp_min(0).sum(dim=0).flip(axes) for part in products),
            )
        )
    return tuple(views)


def variant_map(views: Sequence[View], variant: Variant) -> Tensor:
    """The map [H, W] of a variant, in [0, 1]."""
    seen = views if variant.mirrored else views[:1]
    positive = [torch.stack(level).sum(dim=0) for level in zip(*(view.positive for view in seen), strict=True)]
    negative = [torch.stack(level).sum(dim=0) for level in zip(*(view.negative for view in seen), strict=True)]
    levels = positive
    if not variant.positive_parts:
        levels = [speaking - against for speaking, against in zip(positive, negative, strict=True)]
    height, width = positive[0].shape
    levels = [_averaged(levels[0], ((height + 1) // 2, (width + 1) // 2)), *levels[1:]]
    if variant.balanced:
        balances = [_balance(*pair) for pair in list(zip(positive, negative, strict=True))[-2:]]
        last = (int(balances[1].shape[0]), int(balances[1].shape[1]))
        levels = [*levels[:-1], _averaged(balances[0], last) + balances[1]]
    if not variant.at_input:
        levels = levels[1:]
    grids = [evidence_grid(level, f"level {number}")[None] for number, level in enumerate(levels)]
    rendered, _ = render_map(grids, (height, width), "product")
    return torch.from_numpy(rendered[0])


def pooled(case: Case, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One case's rows from the reports of its trainings: each method's figures, and what Quorum has more."""
    images = _by_photograph([image for report in reports for image in report["images"]])
    small = [image for image in images if image["defect_share"] < SMALL_DEFECT]
    return {
        "data": case.name,
        "network": case.network,
        "balanced_accuracy": [report["balanced_accuracy"] for report in reports],
        "images": len(images),
        "groups": len({image["group"] for image in images}),
        "small_defects": len(small),
        "rows": [
            {
                "method": method,
                **{key: _compared(images, method, key) for key in METRICS},
                "ap_small": _compared(small, method, "ap") if small else None,
            }
            for method in images[0]["figures"]
        ],
    }


def _measured(case: Case, seed: int, limit: int, folder: Path) -> dict[str, Any]:
    done = folder / f"{kept_as(case, seed, limit, METHODS[FULL].revision)}.json"
    if not done.is_file():
        quality = folder.parent / "explanation-quality"
        quality.mkdir(exist_ok=True)
        data = data_folder(case.name, quality)
        classifier = trained_model(case, seed, data, quality)
        part = choose_part(classifier.card, load_dataset(data), "test")
        blocks = convolutional_blocks(classifier.network, classifier.preprocessing.size)
        samples = select_samples(classifier, part.samples, limit=limit, seed=seed).samples
        report = {
            "balanced_accuracy": classifier.card.metrics["test"]["balanced_accuracy"],
            "images": [_figures(classifier, blocks, prepare_case(classifier, sample)) for sample in samples],
        }
        done.write_text(json.dumps(report), encoding="utf-8")
    report_of_seed: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    return report_of_seed


def _figures(classifier: DefectClassifier, blocks: tuple[ConvolutionalBlock, ...], picture: Picture) -> dict[str, Any]:
    activation = classifier.card.activation
    views = views_of(classifier.network, blocks, picture.inputs, picture.target, activation)
    maps = {name: variant_map(views, variant) for name, variant in VARIANTS.items()}
    for method in REFERENCES:
        target = torch.tensor([picture.target])
        maps[method] = attribute(classifier.network, picture.inputs[None], target, method, activation).map[0]
    stacked = torch.stack(list(maps.values()))
    truth = picture.truth.expand_as(stacked)
    columns = {key: figure(stacked, truth).tolist() for key, figure in METRICS.items()}
    return {
        "sha256": picture.sample.sha256,
        "group": picture.sample.group,
        "defect_share": picture.defect_share,
        "figures": {name: {key: column[place] for key, column in columns.items()} for place, name in enumerate(maps)},
    }


def _averaged(level: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.adaptive_avg_pool2d(level[None, None], size)[0, 0]


def _balance(positive: Tensor, negative: Tensor) -> Tensor:
    mean = (positive + negative).mean()
    return torch.where(mean > 0, (positive - negative) / mean, 0.0)


def _by_photograph(images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    together: dict[str, list[dict[str, Any]]] = {}
    for image in images:
        together.setdefault(image["sha256"], []).append(image["figures"])
    first = {image["sha256"]: image for image in reversed(images)}
    return [
        {
            **first[digest],
            "figures": {
                method: {key: float(np.mean([one[method][key] for one in same])) for key in METRICS}
                for method in same[0]
            },
        }
        for digest, same in together.items()
    ]


def _compared(images: Sequence[dict[str, Any]], method: str, key: str) -> dict[str, Any]:
    groups = [image["group"] for image in images]
    values, full = ([image["figures"][name][key] for image in images] for name in (method, FULL))
    more = None if method == FULL else asdict(paired_difference(full, values, groups=groups))
    return {**asdict(mean_interval(values, groups=groups)), "quorum_has_more": more}
