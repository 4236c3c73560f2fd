"""Photographs of 4,000 pixels with defects of 20: judged in tiles, and resized whole.

Synthetic strip only, made here, so the picture may stand in the repository. Both models are EfficientNet-Lite0 at
224 pixels, trained by `train` on the same photographs; one chooses its tiles from the data, the other has none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from backend.pipeline import DecisionPipeline
from benchmarks.large_steel import CLASSES, SIZE, write_photographs
from benchmarks.machine import described
from benchmarks.statistics import mean, ratio, rounded
from inspection_models import DefectClassifier
from inspection_models.data import load_dataset, truth_of
from inspection_models.metrics.bootstrap import bootstrap
from inspection_models.overlay import blend
from inspection_models.training import TrainingRequest, train

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from backend.pipeline import ExplainedImage
    from inspection_models.data import Sample

# Photographs of each defect class, and good ones; MAKE_FEWER=n takes an nth of them, to see that it works.
_TRAINED, _TRAINED_GOOD = 16, 24
_TESTED, _TESTED_GOOD = 8, 20
_EPOCHS = {"tiles": 2, "whole": 12}
_PICTURE = Path(__file__).parents[1] / "docs" / "images" / "large-image.jpg"
_HIT = 0.5


@dataclass(frozen=True)
class Judged:
    """What a model said of one test photograph.

    Attributes:
        probability: of any defect.
        defective: whether it was called defective.
        found: share of the defect's pixels that lie in regions; None for good photographs.
        excess: pixels of all regions, as a multiple of the defect's; None where there is no defect or no region.
        seconds: of the decision alone, without decoding and explaining.
        explained: seconds of decision, explanation and regions.
    """

    probability: float
    defective: bool
    found: float | None
    excess: float | None
    seconds: float
    explained: float


def run(folder: Path) -> dict[str, Any]:
    """Train both, judge the test photographs with both, and draw the picture."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    fewer = int(os.environ.get("MAKE_FEWER", "1"))
    parts = {"train": (_TRAINED, _TRAINED_GOOD), "test": (_TESTED, _TESTED_GOOD)}
    for seed, (part, (defects, good)) in enumerate(parts.items()):
        counts = [(label, defects // fewer) for label in CLASSES if label != "good"]
        write_photographs(folder / part, [*counts, ("good", good // fewer)], seed)
    models = {name: _model(folder, name) for name in ("tiles", "whole")}
    samples = load_dataset(folder / "test").samples
    judged = {name: [_judge(DecisionPipeline(model), sample) for sample in samples] for name, model in models.items()}
    _draw(models["tiles"], samples, judged["tiles"], folder if fewer > 1 else _PICTURE.parent)
    defective = np.array([sample.label != "good" for sample in samples])
    tiling = models["tiles"].card.tiling
    return {
        "machine": described(),
        "narrowed": fewer > 1,
        "network": models["tiles"].card.architecture,
        "input_size": models["tiles"].preprocessing.size,
        "image_size": SIZE,
        "chosen": models["tiles"].card.training["tiling"],
        "tiles_an_image": 0 if tiling is None else len(tiling.views(SIZE)),
        "test": {"good": int((~defective).sum()), "defective": int(defective.sum())},
        "models": {name: _figures(found, defective) for name, found in judged.items()},
        "times_slower": {
            "deciding": _ratio(judged, "seconds"),
            "deciding and explaining a defective one": _ratio(
                {name: [one for one in found if one.found is not None] for name, found in judged.items()}, "explained"
            ),
        },
    }


def _model(folder: Path, name: str) -> DefectClassifier:
    """The trained model, or the one that an earlier run trained."""
    directory = folder / f"model-{name}"
    if directory.is_dir():
        return DefectClassifier.load(directory)
    request = TrainingRequest(
        data=folder / "train",
        output=directory,
        epochs=_EPOCHS[name],
        validation=0.2,
        test=0.03,
        tiling="auto" if name == "tiles" else "off",
    )
    return train(request).classifier


def _judge(pipeline: DecisionPipeline, sample: Sample) -> Judged:
    explained = pipeline.explain(sample.path.read_bytes())
    steps, pixels = explained.timings_ms, explained.image.pixels
    truth = None if sample.label == "good" else truth_of(sample, (pixels.shape[0], pixels.shape[1]))
    found, excess = (None, None) if truth is None else _drawn(explained, truth)
    return Judged(
        probability=explained.prediction.defect_probability,
        defective=explained.prediction.is_defect,
        found=found,
        excess=excess,
        seconds=steps["classify"] / 1000,
        explained=(steps["classify"] + steps["attribute"] + steps["regions"]) / 1000,
    )


def _drawn(explained: ExplainedImage, truth: NDArray[np.bool_]) -> tuple[float, float | None]:
    drawn = np.zeros_like(truth)
    if explained.explanations and explained.prediction.is_defect:
        for region in explained.explanations[0].regions:
            x, y, width, height = region.box
            drawn[y : y + height, x : x + width] |= region.mask
    return float(drawn[truth].mean()), float(drawn.sum() / truth.sum()) if drawn.any() else None


def _figures(judged: Sequence[Judged], defective: NDArray[np.bool_]) -> dict[str, Any]:
    scores = np.array([one.probability for one in judged])

    def auroc(cases: NDArray[np.int64]) -> float:
        truth = defective[cases]
        return float(roc_auc_score(truth, scores[cases])) if truth.any() and not truth.all() else float("nan")

    bad, good = ([one for one, d in zip(judged, defective, strict=True) if d == kind] for kind in (True, False))
    called = [one for one in bad if one.defective]
    excess = [one.excess for one in called if one.excess is not None]
    return {
        "auroc": rounded(bootstrap(auroc, len(judged))),
        "escapes": mean([float(not one.defective) for one in bad]),
        "overkill": mean([float(one.defective) for one in good]),
        # A defect that was passed as good has no region.
        "hit": mean([float((one.found or 0.0) >= _HIT) for one in bad]),
        "excess": round(float(np.median(excess)), 2) if excess else None,
        "seconds_deciding": round(float(np.median([one.seconds for one in judged])), 3),
        "seconds_explaining_a_called_one": round(float(np.median([one.explained for one in called])), 3)
        if called
        else None,
    }


def _ratio(judged: Mapping[str, Sequence[Judged]], what: str) -> dict[str, float]:
    tiles, whole = ([float(getattr(one, what)) for one in judged[name]] for name in ("tiles", "whole"))
    return ratio(tiles, whole)


def _draw(classifier: DefectClassifier, samples: Sequence[Sample], judged: Sequence[Judged], folder: Path) -> None:
    """The first defect of the middle class that was found: the photograph, its map, and what lies about the defect."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    found = [sample for sample, one in zip(samples, judged, strict=True) if (one.found or 0) >= _HIT]
    if not found:
        return
    sample = found[len(found) // 2]
    explained = DecisionPipeline(classifier).explain(sample.path.read_bytes())
    pixels, [first, *_] = explained.image.pixels, explained.explanations
    truth = truth_of(sample, (pixels.shape[0], pixels.shape[1]))
    rows, columns = np.nonzero(truth)
    centre = int(rows.mean()), int(columns.mean())
    figure = Figure(figsize=(12.6, 4.4), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    whole, heat, close = figure.subplots(1, 3, width_ratios=[4, 4, 3])
    size = (1200, round(1200 * pixels.shape[0] / pixels.shape[1]))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    # The largest value of what a shown pixel covers, for a mean would hide a map of 20 pixels.
    step = pixels.shape[1] / size[0]
    grown = cv2.dilate(first.attribution_map, np.ones((2 * round(step) + 1,) * 2))
    whole.imshow(small)
    heat.imshow(blend(small, cv2.resize(grown, size, interpolation=cv2.INTER_NEAREST).astype(np.float32)))
    half = 110
    top = int(np.clip(centre[0] - half, 0, pixels.shape[0] - 2 * half))
    left = int(np.clip(centre[1] - half, 0, pixels.shape[1] - 2 * half))
    near = slice(top, top + 2 * half), slice(left, left + 2 * half)
    close.imshow(blend(pixels[near], first.attribution_map[near]), extent=(left, left + 2 * half, top + 2 * half, top))
    close.contour(
        np.arange(left, left + 2 * half) + 0.5,
        np.arange(top, top + 2 * half) + 0.5,
        truth[near],
        levels=[0.5],
        colors="#ff00ff",
        linewidths=1.2,
    )
    for axes, scale in ((whole, 1 / step), (heat, 1 / step), (close, 1.0)):
        for region in first.regions:
            outline = np.vstack([region.polygon, region.polygon[:1]]) * scale
            axes.plot(outline[:, 0], outline[:, 1], color="#00dc00", linewidth=1.4)
    for axes in (whole, heat):
        corner = (left / step, top / step)
        axes.add_patch(_rectangle(corner, 2 * half / step))
        axes.set_axis_off()
    close.set_xlim(left, left + 2 * half)
    close.set_ylim(top + 2 * half, top)
    close.tick_params(labelsize=8)
    tiles = first.tiles
    told = "" if tiles is None else f" of {len(tiles.shown)} of {tiles.looked_at} tiles"
    whole.set_title(f"{pixels.shape[1]} × {pixels.shape[0]} pixels", fontsize=10)
    heat.set_title(f"stitched map{told}", fontsize=10)
    close.set_title("220 × 220 pixels of it", fontsize=10)
    name = first.label.replace("_", " ")
    figure.suptitle(
        f"{name}, {first.probability:.0%}: region (green), true outline (magenta)", fontsize=11, x=0.02, ha="left"
    )
    figure.subplots_adjust(left=0.01, right=0.98, top=0.86, bottom=0.06, wspace=0.08)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / _PICTURE.name, pil_kwargs={"quality": 88})


def _rectangle(corner: tuple[float, float], side: float) -> Any:
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    return Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=0.9)
