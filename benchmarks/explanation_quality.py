"""All attribution methods side by side on photographs with masks and on synthetic steel, three trainings each.

For each data set and network: train with the product's own trainer (kept in the folder; done once), draw some of the
test part's defects that the model decides rightly, as even over the classes as they allow, explain their true class
with every method, and measure. All trainings share one split, whose training and validation parts the product's method
was chosen on; they differ in their seed, and so does what is drawn. A photograph drawn for several trainings counts
once, with the mean of its figures. Intervals are over groups of photographs, those of a tile being alike.

NEU-DET's boxes surround whole textures, so they do not measure an explanation: it has one training, to be read beside
the control that knows no model.

Needs ../shared/data/magnetic-tile and neu-det (or MAGNETIC_TILE and NEU_DET); the photographs are for research only, so
no picture and no model leaves the folder. QUALITY_CASES, QUALITY_SEEDS and QUALITY_LIMIT narrow a run down, whose
figures are then not published.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.imitated_weights import NETWORK, Imitation, imitate
from benchmarks.machine import described
from inspection_models.attribution import METHODS
from inspection_models.classifier import DefectClassifier
from inspection_models.data import load_dataset, split_dataset, write_synthetic_steel
from inspection_models.images import read_image
from inspection_models.metrics import EvaluationSettings, choose_part, evaluate_explanations
from inspection_models.metrics.bootstrap import paired_difference
from inspection_models.metrics.report import METRICS, SMALL_DEFECT, ImageFigures, MapFigures, method_rows
from inspection_models.training import TrainingRequest, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

OWN, PAPER = "quorum", "sise"
NO_PROOF = ("neu-det",)
"""Data sets whose boxes do not measure an explanation."""
_ROOT = Path(__file__).parents[1]
_SHARED = _ROOT / ".." / "shared" / "data"
_PHOTOGRAPHS = {
    "magnetic-tile": Path(os.environ.get("MAGNETIC_TILE", _SHARED / "magnetic-tile")),
    "neu-det": Path(os.environ.get("NEU_DET", _SHARED / "neu-det")),
}
_STEPS, _SPLIT_SEED = 10, 0


@dataclass(frozen=True)
class Case:
    """A data set, a network, how it is trained and with which seeds, and how many photographs each is measured on.

    `begins_with`: what the network learned before; None: the installed weights, if any.
    """

    name: str
    network: str
    epochs: int
    limit: int
    size: int = 224
    batch_size: int = 32
    learning_rate: float = 1e-3
    begins_with: Imitation | None = None
    seeds: tuple[int, ...] = (1, 2, 3)


# Tiles are looked at most: they have the smallest defects, and without this ResNet-18 finds none of them. Steel at the
# size at which an epoch takes half a minute, for its defects are large.
_IMITATED = Imitation((("magnetic-tile", 0.5), ("neu-det", 0.3), ("synthetic-steel", 0.2)), views=48_000)
_RESNET = Case("", NETWORK, epochs=8, limit=6, begins_with=_IMITATED)
TILES = Case("magnetic-tile", "efficientnet-lite0", epochs=5, limit=9)
STEEL = Case("synthetic-steel", "efficientnet-lite0", epochs=3, limit=6)
CASES = (
    TILES,
    STEEL,
    replace(_RESNET, name="magnetic-tile"),
    replace(_RESNET, name="synthetic-steel", epochs=4, size=128),
    Case("neu-det", "efficientnet-lite0", epochs=3, limit=4, seeds=(1,)),
)


def run(folder: Path) -> dict[str, Any]:
    """Train what is not there yet, measure, and put the figures of all seeds together."""
    chosen = os.environ.get("QUALITY_CASES", "").split(",")
    stated = os.environ.get("QUALITY_SEEDS")
    cases = [
        case if stated is None else replace(case, seeds=tuple(map(int, stated.split(","))))
        for case in CASES
        if chosen == [""] or f"{case.name}/{case.network}" in chosen
    ]
    return {
        "machine": described(),
        "steps": _STEPS,
        "narrowed": any(os.environ.get(f"QUALITY_{what}") for what in ("CASES", "SEEDS", "LIMIT")),
        "cases": [pooled(case, [_measured(case, seed, folder) for seed in case.seeds]) for case in cases],
    }


def _measured(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """One training's figures, from the folder where they are there already."""
    limit = int(os.environ.get("QUALITY_LIMIT", case.limit))
    revisions = {name: method.revision for name, method in METHODS.items()}
    done = folder / f"{kept_as(case, seed, limit, _STEPS, revisions)}.json"
    if not done.is_file():
        data = data_folder(case.name, folder)
        classifier = trained_model(case, seed, data, folder)
        part = choose_part(classifier.card, load_dataset(data), "test")
        settings = EvaluationSettings(limit=limit, seed=seed, steps=_STEPS)
        report = evaluate_explanations(classifier, part.samples, settings)
        accuracy = classifier.card.metrics["test"]["balanced_accuracy"]
        done.write_text(json.dumps({**report.to_dict(), "balanced_accuracy": accuracy}), encoding="utf-8")
    report_of_seed: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    return report_of_seed


def synthetic_model(case: Case, seed: int, folder: Path) -> DefectClassifier:
    """The model of a case on synthetic steel, trained if it is not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return trained_model(case, seed, data_folder(case.name, folder), folder)


def data_folder(name: str, folder: Path) -> Path:
    """Where a data set is; synthetic steel is made in the folder if it is not there yet."""
    if photographs := _PHOTOGRAPHS.get(name):
        if not photographs.is_dir():
            variable = name.replace("-", "_").upper()
            raise SystemExit(f"{photographs} is not here; set {variable} to the data set's folder")
        return photographs
    steel = folder / "synthetic-steel"
    if not steel.is_dir():
        write_synthetic_steel(steel, per_class=120, seed=5)
    return steel


def trained_model(case: Case, seed: int, data: Path, folder: Path) -> DefectClassifier:
    """A case's model of a seed, trained on `data` if it is not in the folder yet."""
    directory = folder / "models" / kept_as(case, seed)
    if not directory.is_dir():
        weights = None if case.begins_with is None else _imitated(case.begins_with, folder)
        train(
            TrainingRequest(
                data=data,
                output=directory,
                architecture=case.network,
                epochs=case.epochs,
                batch_size=case.batch_size,
                learning_rate=case.learning_rate,
                weights=weights,
                size=(case.size, case.size),
                seed=seed,
                split_seed=_SPLIT_SEED,
            )
        )
    return DefectClassifier.load(directory)


def _imitated(recipe: Imitation, folder: Path) -> Path:
    """The weights a network begins with, made of the training parts' photographs if not in the folder yet."""
    name = hashlib.sha256(json.dumps([asdict(recipe), _SPLIT_SEED]).encode()).hexdigest()[:8]
    path = folder / "models" / f"imitated-{recipe.seed}-{name}.safetensors"
    if not path.is_file():
        photographs = []
        for source, _ in recipe.sources:
            split = split_dataset(load_dataset(data_folder(source, folder)), seed=_SPLIT_SEED)
            photographs.append([read_image(sample.path).pixels for sample in split.train])
        path.parent.mkdir(parents=True, exist_ok=True)
        imitate(recipe, photographs, path, _tell)
    return path


def _tell(step: int, steps: int, errors: tuple[float, ...]) -> None:
    if step % 100 == 0 or step == steps:
        told = ", ".join(f"{error:.2f}" for error in errors)
        print(f"imitation, step {step} of {steps}: squared error {told}", file=sys.stderr)


def kept_as(case: Case, seed: int, *settings: object) -> str:
    """The name of what was made of a case and a seed: another one for another recipe or other `settings`."""
    recipe = json.dumps([asdict(replace(case, limit=0, seeds=())), _SPLIT_SEED, *settings], sort_keys=True)
    return f"{case.name}-{case.network}-{seed}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"


def pooled(case: Case, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A case's figures over all of its trainings' reports, with what the product's method has more than each other."""
    images = _by_photograph([_image(image) for report in reports for image in report["images"]])
    small = [image for image in images if image.defect_share < SMALL_DEFECT]
    return {
        "data": case.name,
        "network": case.network,
        "seeds": list(case.seeds),
        "input": [case.size, case.size],
        "balanced_accuracy": [report["balanced_accuracy"] for report in reports],
        "images": len(images),
        "groups": len({image.group for image in images}),
        "small_defects": len(small),
        "small_groups": len({image.group for image in small}),
        "left_out": [report["left_out"] for report in reports],
        "rows": [asdict(row) for row in method_rows(images, PAPER, seed=0)],
        "rows_small": [asdict(row) for row in method_rows(small, PAPER, seed=0)],
        "own_against": _own_against(images),
        "own_against_small": _own_against(small),
    }


def _image(fields: dict[str, Any]) -> ImageFigures:
    return ImageFigures(**{**fields, "maps": tuple(MapFigures(**one) for one in fields["maps"])})


def _by_photograph(images: Sequence[ImageFigures]) -> list[ImageFigures]:
    """One entry a photograph: the mean of its figures over the trainings that were measured on it."""
    together: dict[str, list[ImageFigures]] = {}
    for image in images:
        together.setdefault(image.sha256, []).append(image)
    return [
        replace(same[0], maps=tuple(map(_mean, zip(*(one.maps for one in same), strict=True))))
        for same in together.values()
    ]


def _mean(maps: tuple[MapFigures, ...]) -> MapFigures:
    values = {key: float(np.mean([one.values[key] for one in maps])) for key in maps[0].values}
    return replace(maps[0], values=values, masks_scored=round(float(np.mean([one.masks_scored for one in maps]))))


def _own_against(images: Sequence[ImageFigures]) -> dict[str, Any]:
    """The product's method less each other one, on the same images, with 95 % intervals."""
    if not images:
        return {}
    places = {one.method: place for place, one in enumerate(images[0].maps)}

    groups = [image.group for image in images]

    def column(method: str, key: str) -> NDArray[np.float64]:
        return np.array([image.maps[places[method]].values[key] for image in images])

    return {
        method: {
            metric.key: asdict(
                paired_difference(column(OWN, metric.key), column(method, metric.key), groups=groups, seed=0)
            )
            for metric in METRICS
        }
        for method in places
        if method != OWN
    }
