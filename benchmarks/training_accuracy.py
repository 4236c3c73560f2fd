"""How good models are that `inspection train` makes of real photographs with EfficientNet-Lite0, and how long it takes.

Each training has a seed of its own and with it a split of its own, as `inspection train --seed` has: which few
photographs of a rare class are tested on says more than chance in training does. Magnetic tiles are split in two ways:
by parts, where a tile's other exposures and whatever was photographed next to it stand on the same side, as in service;
and by near-duplicates, where only photographs that look nearly the same do. The recipe was chosen with other seeds,
whose parts share photographs with these.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.explanation_quality import data_folder
from benchmarks.machine import described
from inspection_models.data import load_dataset
from inspection_models.images import read_image
from inspection_models.metrics import choose_part
from inspection_models.metrics.bootstrap import RESAMPLES
from inspection_models.training import TrainingRequest, train
from inspection_models.training.trainer import RECIPE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """A data set and how it is split and trained; `by_near_duplicates`: as an image folder."""

    name: str
    data: str
    epochs: int
    by_near_duplicates: bool = False
    size: int = 224
    batch_size: int = 16
    seeds: tuple[int, ...] = (11, 12, 13)


CASES = (
    Case("magnetic-tile by parts", "magnetic-tile", epochs=12),
    Case("magnetic-tile by near-duplicates", "magnetic-tile", epochs=12, by_near_duplicates=True),
    Case("neu-det", "neu-det", epochs=5),
)


def run(folder: Path) -> dict[str, Any]:
    """Train what is not there yet, decide the test parts, and put the figures of all seeds together."""
    chosen = os.environ.get("TRAINING_CASES", "").split(",")
    stated = os.environ.get("TRAINING_SEEDS")
    cases = [case for case in CASES if chosen == [""] or case.name in chosen]
    seeds = None if stated is None else tuple(map(int, stated.split(",")))
    return {
        "machine": described(),
        "narrowed": chosen != [""] or stated is not None,
        "cases": [pooled(case, [measured(case, seed, folder) for seed in seeds or case.seeds]) for case in cases],
    }


def measured(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """One training and what its model decides on the test part, from the folder where they are there already."""
    recipe = json.dumps([asdict(case) | {"seeds": ()}, RECIPE], sort_keys=True)
    name = f"{case.name.replace(' ', '-')}-{seed}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    done = folder / f"{name}.json"
    if not done.is_file():
        data = as_image_folder(folder) if case.by_near_duplicates else data_folder(case.data, folder)
        request = TrainingRequest(
            data=data,
            output=folder / "models" / name,
            epochs=case.epochs,
            size=(case.size, case.size),
            batch_size=case.batch_size,
            seed=seed,
            overwrite=True,
        )
        begun, spent = time.monotonic(), _processor_seconds()
        report = train(request)
        wall, spent = time.monotonic() - begun, _processor_seconds() - spent
        classifier = report.classifier
        part = choose_part(classifier.card, load_dataset(data), "test")
        kept = {
            "classes": list(classifier.classes),
            "good_class": classifier.good_class,
            "files": [sample.sha256 for sample in part.samples],
            "groups": [sample.group for sample in part.samples],
            "labels": [classifier.classes.index(sample.label) for sample in part.samples],
            "logits": [
                [round(float(z), 5) for z in classifier.predict([read_image(sample.path).pixels])[0].logits]
                for sample in part.samples
            ],
            "calibration_error": report.test.calibration_error,
            "validation_balanced_accuracy": report.validation.balanced_accuracy,
            "counts": report.counts,
            "threads": torch.get_num_threads(),
            "wall_minutes": wall / 60,
            "core_minutes": spent / 60,
            "continued_after": list(report.continued_after),
        }
        done.write_text(json.dumps(kept), encoding="utf-8")
    found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    return found


def pooled(case: Case, trainings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A case's figures by training, and their means with intervals over the test parts' groups.

    Groups are resampled whole, those of each test part by themselves. The balanced accuracy of a resample that lacks a
    class is that of the others.
    """
    first = trainings[0]
    good = None if first["good_class"] is None else first["classes"].index(first["good_class"])
    parts = [_Decided.of(training) for training in trainings]
    wanted: dict[str, Callable[[NDArray[np.int64], NDArray[np.int64]], float]] = {
        "balanced_accuracy": _balanced,
        "accuracy": lambda truth, said: float((truth == said).mean()),
    }
    if good is not None:
        wanted["escapes"] = lambda truth, said: _share(said[truth != good] == good)
        wanted["overkill"] = lambda truth, said: _share(said[truth == good] != good)
    return {
        "case": case.name,
        "epochs": case.epochs,
        "input": [case.size, case.size],
        "counts": [training["counts"] for training in trainings],
        "test_images": [len(part.labels) for part in parts],
        "test_groups": [len(part.members) for part in parts],
        "figures": {
            name: {
                "by_training": [round(figure(part.labels, part.said), 4) for part in parts],
                **_interval(figure, parts),
            }
            for name, figure in wanted.items()
        },
        "right": {
            name: [
                f"{int((part.said[part.labels == place] == place).sum())} of {int((part.labels == place).sum())}"
                for part in parts
            ]
            for place, name in enumerate(first["classes"])
        },
        "calibration_error": [round(training["calibration_error"], 4) for training in trainings],
        "validation_balanced_accuracy": [round(t["validation_balanced_accuracy"], 4) for t in trainings],
        "threads": [training["threads"] for training in trainings],
        "wall_minutes": [round(training["wall_minutes"], 1) for training in trainings],
        "core_minutes": [round(training["core_minutes"], 1) for training in trainings],
        "broken_off": [training["continued_after"] for training in trainings],
    }


@dataclass(frozen=True, eq=False)
class _Decided:
    """A test part: true and decided classes [N], and the images of each group."""

    labels: NDArray[np.int64]
    said: NDArray[np.int64]
    members: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, training: dict[str, Any]) -> _Decided:
        groups = np.array(training["groups"])
        return cls(
            np.array(training["labels"]),
            np.array(training["logits"]).argmax(axis=1),
            tuple(np.flatnonzero(groups == name) for name in sorted(set(training["groups"]))),
        )


def _interval(
    figure: Callable[[NDArray[np.int64], NDArray[np.int64]], float], parts: Sequence[_Decided]
) -> dict[str, float]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        each = []
        for part in parts:
            drawn = rng.integers(0, len(part.members), len(part.members))
            cases = np.concatenate([part.members[place] for place in drawn])
            each.append(figure(part.labels[cases], part.said[cases]))
        found.append(np.mean(each))
    low, high = np.nanpercentile(found, (2.5, 97.5))
    mean = np.mean([figure(part.labels, part.said) for part in parts])
    return {"mean": round(float(mean), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _balanced(truth: NDArray[np.int64], said: NDArray[np.int64]) -> float:
    return float(np.mean([(said[truth == label] == label).mean() for label in np.unique(truth)]))


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")


def as_image_folder(folder: Path) -> Path:
    """The magnetic tiles as an image folder, a layout that does not tell which photographs are of one tile."""
    target = folder / "magnetic-tile-as-image-folder"
    if not target.is_dir():
        making = folder / "magnetic-tile-as-image-folder.making"
        shutil.rmtree(making, ignore_errors=True)
        for sample in load_dataset(data_folder("magnetic-tile", folder)).samples:
            for kind, path in (("images", sample.path), ("masks", sample.mask_path)):
                if path is not None:
                    place = making / kind / sample.label
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place / path.name)
        making.rename(target)
    return target


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
