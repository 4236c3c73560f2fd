"""The whole desk on real photographs: train on magnetic tiles, judge a part kept for testing through Label Studio.

Needs `../shared/data/magnetic-tile` (or MAGNETIC_TILE=folder) and both virtual environments. The photographs are for
research only: reports, overlays and models made here stay out of the repository.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from rich.console import Console

from backend.demo.processes import free_port
from backend.demo.progress import DemoProgress
from backend.demo.session import DemoOptions, DemoSession
from backend.label_studio.shapes import rasterise
from backend.pipeline import DecisionPipeline
from benchmarks.statistics import balanced_accuracy, mean
from inspection_models.classifier import DefectClassifier
from inspection_models.data import Sample, load_dataset, split_dataset, truth_of
from inspection_models.images import decode_image
from inspection_models.overlay import blend
from inspection_models.training import TrainingRequest, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("MAGNETIC_TILE", ROOT / ".." / "shared" / "data" / "magnetic-tile"))
LABEL_STUDIO = ROOT / ".venv-label-studio" / "bin" / "label-studio"
_SEED = 0
_EPOCHS = 5
_TILE = 180


@dataclass(frozen=True)
class Case:
    """One test photograph, what it is, what was said of it, and where."""

    sample: Sample
    said: str
    probability: float
    drawn: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    pixels: NDArray[np.uint8]


def run(folder: Path) -> dict[str, Any]:
    """Train, predict through Label Studio, measure; overlays and a contact sheet go to `folder`."""
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not here; set MAGNETIC_TILE to the folder with MT_Blowhole … MT_Uneven")
    model = folder / "model"
    trained = None
    if not model.is_dir():
        report = train(TrainingRequest(data=DATA, output=model, name="magnetic-tile", seed=_SEED, epochs=_EPOCHS))
        trained = round(report.seconds, 1)
    dataset = load_dataset(DATA)
    test = split_dataset(dataset, seed=_SEED).test
    with tempfile.TemporaryDirectory(prefix="inspection-tiles-") as scratch:
        cases, seconds = _through_label_studio(test, model, Path(scratch))
    _contact_sheet(cases, model, folder / "contact-sheet.png")
    return {"training_seconds": trained, "test_images": len(test), **_figures(cases), "seconds_an_image": seconds}


def _through_label_studio(test: tuple[Sample, ...], model: Path, scratch: Path) -> tuple[list[Case], float]:
    photographs = scratch / "photographs"
    photographs.mkdir()
    by_name = {}
    for number, sample in enumerate(test):
        name = f"tile_{number:04d}{sample.path.suffix}"
        shutil.copyfile(sample.path, photographs / name)
        by_name[name] = sample
    options = DemoOptions(scratch / "desk", LABEL_STUDIO, free_port(), free_port(), images=photographs, model=model)
    with DemoSession(options, DemoProgress(Console(stderr=True))) as session:
        cases = []
        for task in session.client.tasks(session.project.project_id):
            sample = by_name[str(task["data"]["image"]).rsplit("/", 1)[-1].partition("-")[2]]
            [prediction] = task["predictions"]
            cases.append(_case(sample, prediction))
        return cases, round(session.timings["predict"] / len(test), 2)


def _case(sample: Sample, prediction: dict[str, Any]) -> Case:
    pixels = decode_image(sample.path.read_bytes()).pixels
    drawn = np.zeros(pixels.shape[:2], dtype=bool)
    said = ""
    for item in prediction["result"]:
        if item["type"] == "choices":
            said = item["value"]["choices"][0]
        else:
            drawn |= rasterise(item)
    truth = truth_of(sample, (pixels.shape[0], pixels.shape[1]))
    return Case(sample, said, float(prediction["score"]), drawn, truth, pixels)


def _figures(cases: list[Case]) -> dict[str, Any]:
    truth = [case.sample.label for case in cases]
    said = [case.said for case in cases]
    found = [case for case in cases if case.truth.any() and case.said == case.sample.label]
    overlap = [_iou(case) for case in found]
    touched = [float((case.drawn & case.truth).any()) for case in found]
    covered = [float((case.drawn & case.truth).sum() / case.truth.sum()) for case in found]
    defects = [case for case in cases if case.sample.label != "Free"]
    good = [case for case in cases if case.sample.label == "Free"]
    return {
        "balanced_accuracy": balanced_accuracy(truth, said),
        "accuracy": mean([float(a == b) for a, b in zip(truth, said, strict=True)]),
        "escapes": {"count": sum(c.said == "Free" for c in defects), "of": len(defects)},
        "overkill": {"count": sum(c.said != "Free" for c in good), "of": len(good)},
        "confusion": {f"{a} -> {b}": n for (a, b), n in sorted(Counter(zip(truth, said, strict=True)).items())},
        "region_touches_defect": mean(touched),
        "share_of_defect_covered": mean(covered),
        "region_iou": mean(overlap),
        "region_iou_by_class": {
            label: round(float(np.mean([_iou(c) for c in found if c.sample.label == label])), 3)
            for label in sorted({c.sample.label for c in found})
        },
        "regions_off_the_defect": sorted(c.sample.path.name for c in found if not (c.drawn & c.truth).any()),
    }


def _iou(case: Case) -> float:
    return float((case.drawn & case.truth).sum() / max(1, (case.drawn | case.truth).sum()))


def _contact_sheet(cases: list[Case], model: Path, path: Path) -> None:
    """Defects in rows of photograph, map with region, true mask; green is drawn, magenta is true."""
    pipeline = DecisionPipeline(DefectClassifier.load(model))
    rows = []
    for label in sorted({case.sample.label for case in cases if case.sample.label != "Free"}):
        for case in [one for one in cases if one.sample.label == label][:6]:
            explained = pipeline.explain(case.sample.path.read_bytes(), classes=[case.sample.label])
            heat = blend(case.pixels, explained.explanations[0].attribution_map)
            for mask, colour in ((case.truth, (255, 0, 255)), (case.drawn, (0, 255, 0))):
                outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(heat, outlines, -1, colour, max(1, round(max(heat.shape) / 200)))
            cell = np.hstack([_fit(case.pixels), _fit(heat)])
            cv2.putText(cell, f"{label} / {case.said} {case.probability:.2f}", (4, 14), 0, 0.42, (255, 255, 0), 1)
            rows.append(cell)
    columns = 3
    rows += [np.zeros_like(rows[0])] * (-len(rows) % columns)
    sheet = np.vstack([np.hstack(rows[i : i + columns]) for i in range(0, len(rows), columns)])
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def _fit(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = _TILE / max(pixels.shape[:2])
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cell = np.zeros((_TILE, _TILE, 3), dtype=np.uint8)
    cell[: small.shape[0], : small.shape[1]] = small
    return cell
