"""How small a defect a network still sees: what the choice of tiles is to be checked by.

EfficientNet-Lite0 is trained on synthetic strip at the network's own size, with defects from 2 to 30 pixels, and asked
about others of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks.large_steel import CLASSES, make_photograph
from benchmarks.machine import described
from benchmarks.statistics import rounded
from inspection_models.images import read_image
from inspection_models.metrics.bootstrap import bootstrap
from inspection_models.training import TrainingRequest, train

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_SIDE = 224
_BINS = (2, 4, 6, 8, 10, 12, 16, 24)
_SCALES = (0.12, 1.6)
_TRAINED, _TESTED = 120, 110
_EPOCHS = 4


def run(folder: Path) -> dict[str, Any]:
    """Train, and measure by the defects' sizes."""
    torch.set_num_threads(1)
    _write(folder / "train", _TRAINED, 0)
    request = TrainingRequest(
        data=folder / "train", output=folder / "model", epochs=_EPOCHS, overwrite=True, test=0.05, seed=0
    )
    classifier = train(request).classifier
    sides = _write(folder / "test", _TESTED, 1)
    scores = {
        path: classifier.predict([read_image(path).pixels])[0].defect_probability
        for path in sorted((folder / "test").rglob("images/*/*.png"))
    }
    good = np.array([score for path, score in scores.items() if path.parent.name == "good"])
    defects = [(sides[path], score) for path, score in scores.items() if path.parent.name != "good"]
    rows = []
    for low, high in pairwise(_BINS):
        found = np.array([score for side, score in defects if low <= side < high])
        if len(found) >= 8:
            rows.append({"from": low, "below": high, "defects": len(found), "auroc": _auroc(found, good)})
    return {
        "machine": described(),
        "network": classifier.card.architecture,
        "good": len(good),
        "epochs": _EPOCHS,
        "trained_on": dict(classifier.card.training["counts"]["train"]),
        "rows": rows,
    }


def _auroc(defects: NDArray[np.float64], good: NDArray[np.float64]) -> dict[str, Any]:
    """Area under the curve with its interval, defects and good pictures resampled alike."""
    values = np.concatenate([defects, good])
    truth = np.arange(len(values)) < len(defects)

    def statistic(cases: NDArray[np.int64]) -> float:
        return float(roc_auc_score(truth[cases], values[cases])) if np.ptp(truth[cases]) else float("nan")

    return rounded(bootstrap(statistic, len(values)))


def _write(directory: Path, per_class: int, seed: int) -> dict[Path, float]:
    """Pictures at the network's size, and the roots of the areas of their defects, by path."""
    sides: dict[Path, float] = {}
    for label in CLASSES:
        count = per_class if label != "good" else per_class * (len(CLASSES) - 1)
        for index in range(count):
            scale = float(np.random.default_rng([seed, index, 7]).uniform(*_SCALES))
            made = make_photograph(label, seed, index, size=(_SIDE, _SIDE), scale=scale)
            path = directory / "images" / label / f"{label}_{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(made.pixels).save(path)
            sides[path] = float(np.sqrt(made.mask.sum()))
    return sides
