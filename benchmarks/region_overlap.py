"""How well regions cover what is marked, on photographs: cut from the map, snapped, and drawn by a head that learned.

Three trainings of EfficientNet-Lite0 on the magnetic tiles as `inspection train` does it where there are no masks, one
split by near-duplicates, as of an image folder. Of each model the defects of the test part are explained by their true
class, whatever it decided, and their regions drawn in three ways: the map cut at the usual share for its method, once
chosen on training parts of this set and of synthetic steel; snapped, whose recipe was chosen on training and validation
parts of another split of this set; and by a head from 100 masked images of the training part, drawn at random for each
seed, its threshold from the validation part, whose masks it sees beside the 100. The head's recipe was chosen on
another split, too, whose validation part holds a quarter of this test part. A photograph counts once, with the mean
over the trainings. The test part chooses nothing else.

Needs ../shared/data/magnetic-tile (or MAGNETIC_TILE); the photographs are for research only, so no model leaves the
folder. REGION_SEEDS and REGION_MASKS narrow a run down, whose figures are then not published.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import described
from benchmarks.statistics import rounded
from benchmarks.training_accuracy import as_image_folder
from inspection_models.classifier import DefectClassifier
from inspection_models.data import is_marked, load_dataset
from inspection_models.metrics import choose_part
from inspection_models.metrics.bootstrap import mean_interval, paired_difference
from inspection_models.metrics.report import SMALL_DEFECT
from inspection_models.model_card import RegionThresholds
from inspection_models.region_head import REVISION
from inspection_models.region_learning import WAYS, head_maps_of, learn_regions, marked_images, overlaps_of
from inspection_models.training import TrainingRequest, train
from inspection_models.training.trainer import RECIPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from inspection_models.data import Sample
    from inspection_models.region_settings import DrawnBy

LARGE_DEFECT = 0.05
"""Share of the picture above which a defect is large."""
_SPLIT_SEED = 1
_SIZES: dict[str, Callable[[float], bool]] = {
    "all": lambda _share: True,
    "small": lambda share: share < SMALL_DEFECT,
    "large": lambda share: share > LARGE_DEFECT,
}


@dataclass(frozen=True)
class Case:
    """The data set, how it is trained on, and how many masked images a head learns from."""

    data: str = "magnetic-tile-as-image-folder"
    architecture: str = "efficientnet-lite0"
    epochs: int = 12
    masks: int = 100
    seeds: tuple[int, ...] = (1, 2, 3)


def run(folder: Path) -> dict[str, Any]:
    """Train what is not there yet, draw, and put the figures of all seeds together."""
    seeds, masks = os.environ.get("REGION_SEEDS"), os.environ.get("REGION_MASKS")
    case = Case()
    if seeds is not None:
        case = replace(case, seeds=tuple(map(int, seeds.split(","))))
    if masks is not None:
        case = replace(case, masks=int(masks))
    return {
        "machine": described(),
        "narrowed": case != Case(),
        **asdict(case),
        **pooled([measured(case, seed, folder) for seed in case.seeds]),
    }


def measured(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """One training's overlaps on the test part, from the folder where they are there already."""
    done = folder / f"{_kept_as(case, seed)}-{case.masks}-masks-drawn-{REVISION}.json"
    if not done.is_file():
        done.write_text(json.dumps(_overlaps(case, seed, folder)), encoding="utf-8")
    found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    return found


def _overlaps(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    data = as_image_folder(folder)
    classifier = _trained(case, seed, data, folder)
    dataset = load_dataset(data)
    learning, validation, test = (
        choose_part(classifier.card, dataset, part).samples for part in ("train", "validation", "test")
    )
    shown = with_masks(learning, case.masks, classifier.good_class, seed)
    learned = learn_regions(classifier, shown, validation, data_sha256=dataset.sha256, seed=seed).classifier
    images = marked_images(classifier, test)
    usual = RegionThresholds.usual(classifier.explanation.method)
    head_maps = head_maps_of(learned, images)
    drawing = learned.card.regions
    return {
        "balanced_accuracy": classifier.card.metrics["test"]["balanced_accuracy"],
        "threshold": usual.relative,
        "head_threshold": None if drawing.head is None else drawing.head.threshold,
        "chosen": drawing.drawn_by,
        "masks": drawing.origin["marked_images"]["train"],
        "groups": [one.group for one in images],
        "labels": [one.label for one in images],
        "shares": [float(one.truth.mean()) for one in images],
        "right": [one.right for one in images],
        "overlaps": {
            way: overlaps_of(images, usual, replace(drawing, drawn_by=way), head_maps)
            for way in WAYS
            if way != "learned" or drawing.head is not None
        },
    }


def with_masks(samples: Sequence[Sample], number: int, good_class: str | None, seed: int) -> list[Sample]:
    """Good samples, and `number` of the defective ones that are marked, drawn at random; all in their order."""
    marked = [place for place, one in enumerate(samples) if one.label != good_class and is_marked(one)]
    kept = set(np.random.default_rng(seed).permutation(marked)[:number].tolist())
    return [one for place, one in enumerate(samples) if place in kept or one.label == good_class]


def pooled(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures over all trainings, by size of the defect: each way's overlap, and what it has more than the map.

    Raises:
        ValueError: the trainings were not tested on the same images, or lack a way of drawing.
    """
    first = trainings[0]
    if any(one["groups"] != first["groups"] or one["shares"] != first["shares"] for one in trainings):
        raise ValueError("the trainings were tested on different images; remove their reports and run again")
    missing = [way for way in WAYS if any(way not in one["overlaps"] for one in trainings)]
    if missing:
        raise ValueError(f"a training has no regions that are {missing[0]}; it needs more images with masks")
    shares = np.array(first["shares"])
    by_training = {way: np.array([one["overlaps"][way] for one in trainings]) for way in WAYS}
    return {
        "balanced_accuracy": [round(one["balanced_accuracy"], 4) for one in trainings],
        "decided_rightly": [int(sum(one["right"])) for one in trainings],
        "thresholds": [one["threshold"] for one in trainings],
        "head_thresholds": [one["head_threshold"] for one in trainings],
        "chosen": [one["chosen"] for one in trainings],
        "sizes": {
            name: _figures(by_training, first["groups"], np.flatnonzero([belongs(share) for share in shares]))
            for name, belongs in _SIZES.items()
        },
        "by_class": {
            label: {
                way: round(float(values[:, np.array(first["labels"]) == label].mean()), 4)
                for way, values in by_training.items()
            }
            for label in sorted(set(first["labels"]))
        },
    }


def _figures(by_training: Mapping[DrawnBy, Any], groups: Sequence[str], places: Any) -> dict[str, Any]:
    if not len(places):
        return {"images": 0, "groups": 0, "ways": {}}
    members = [groups[place] for place in places]
    means = {way: values[:, places].mean(axis=0) for way, values in by_training.items()}
    return {
        "images": len(members),
        "groups": len(set(members)),
        "ways": {
            way: {
                **rounded(mean_interval(mean, groups=members)),
                "by_training": [round(float(value), 4) for value in by_training[way][:, places].mean(axis=1)],
            }
            for way, mean in means.items()
        },
        "more_than_the_map": {
            way: rounded(paired_difference(mean, means["map"], groups=members))
            for way, mean in means.items()
            if way != "map"
        },
        "learned_more_than_snapped": rounded(paired_difference(means["learned"], means["snapped"], groups=members)),
    }


def _trained(case: Case, seed: int, data: Path, folder: Path) -> DefectClassifier:
    directory = folder / "models" / _kept_as(case, seed)
    if not directory.is_dir():
        train(
            TrainingRequest(
                data=data,
                output=directory,
                architecture=case.architecture,
                epochs=case.epochs,
                marks=False,
                seed=seed,
                split_seed=_SPLIT_SEED,
            )
        )
    return DefectClassifier.load(directory)


def _kept_as(case: Case, seed: int) -> str:
    """The name of a training: another one for another recipe."""
    recipe = json.dumps([asdict(case) | {"seeds": (), "masks": 0}, _SPLIT_SEED, RECIPE], sort_keys=True)
    return f"{case.data}-{case.architecture}-{seed}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
