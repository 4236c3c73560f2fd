"""Do maps depend on what the network learned, and on the class that is asked about? All methods side by side.

Synthetic steel and EfficientNet-Lite0, the first training of explanation-quality, test pictures that it decides
rightly. Three checks, each a similarity with the network's own map of the true class:

* Cascading randomisation (Adebayo et al. 2018): from the last layer on, a third, two thirds and all layers are random.
* Label randomisation: a second network of the same recipe, trained on the same pictures with their labels shuffled. The
  test part is not among them.
* Class dependence: the map of the class that is second most probable.

SANITY_LIMIT is the number of pictures; figures of another number than the usual one are not published. Methods that
sample masks take most of the time, so there are few pictures and RISE gets fewer masks.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.explanation_quality import STEEL, data_folder, kept_as, synthetic_model, trained_model
from benchmarks.machine import described
from inspection_models.attribution import METHODS, attribute
from inspection_models.data import load_dataset
from inspection_models.metrics import (
    Similarity,
    cascading_randomisation,
    choose_part,
    label_randomisation,
    mean_interval,
    similarity,
)
from inspection_models.metrics.cases import prepare_case, select_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample

_CASE, _SEED, _SHUFFLE_SEED = STEEL, 1, 0
_STAGES, _LIMIT = 3, 4
_OPTIONS: dict[str, dict[str, Any]] = {"rise": {"masks": 500}}


@dataclass(frozen=True)
class Questions:
    """Pictures `inputs` [N, 3, H, W], the class `targets` [N] that each shows and its strongest `rivals` [N]."""

    inputs: Tensor
    targets: Tensor
    rivals: Tensor
    activation: str


def run(folder: Path) -> dict[str, Any]:
    """Check every method, unless its figures are in the folder; the networks are trained if they are not there."""
    # Networks of random weights are of no use to anybody else.
    os.environ.setdefault("INSPECTION_ENGINE_CACHE", str((folder / "engines").resolve()))
    limit = int(os.environ.get("SANITY_LIMIT", _LIMIT))
    quality = folder.parent / "explanation-quality"
    trained = synthetic_model(_CASE, _SEED, quality)
    dataset = load_dataset(data_folder(_CASE.name, quality))
    tested = choose_part(trained.card, dataset, "test").samples
    unseen = {sample.path for sample in tested}
    permuted = _permuted([sample for sample in dataset.samples if sample.path not in unseen], folder)
    samples = select_samples(trained, tested, limit=limit, seed=_SEED).samples
    questions = _questions(trained, samples)
    return {
        "machine": described(),
        "narrowed": "SANITY_LIMIT" in os.environ,
        "data": _CASE.name,
        "network": _CASE.network,
        "seed": _SEED,
        "images": len(samples),
        "classes": [sample.label for sample in samples],
        "options": _OPTIONS,
        "layers_randomised": _layers(trained.network),
        "trained": _course(trained),
        "permuted": _course(permuted),
        "rows": [_row(method, trained.network, permuted.network, questions, folder) for method in METHODS],
    }


def write_shuffled(samples: Sequence[Sample], folder: Path, seed: int) -> None:
    """Copy pictures into class folders by their labels in another order, so that each class keeps its number."""
    labels = np.random.default_rng(seed).permutation([sample.label for sample in samples])
    for number, (sample, label) in enumerate(zip(samples, labels, strict=True)):
        destination = folder / str(label) / f"{number:05d}{sample.path.suffix}"
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sample.path, destination)


def checked(method: str, trained: nn.Module, permuted: nn.Module, questions: Questions) -> dict[str, Any]:
    """A method's similarities, picture by picture: a list a stage of randomisation, of labels, and of classes."""

    def explain(network: nn.Module, targets: Tensor = questions.targets) -> Tensor:
        options = _OPTIONS.get(method, {})
        return attribute(network, questions.inputs, targets, method, questions.activation, **options).map

    both = explain(trained, torch.stack([questions.targets, questions.rivals], dim=1))
    own, rival = both[:, 0], both[:, 1]
    # The trained network's maps are there already.
    labels = label_randomisation(trained, permuted, lambda network: own if network is trained else explain(network))
    stages = cascading_randomisation(trained, explain, stages=_STAGES)
    return {
        "method": method,
        "stages": [list(map(asdict, stage.similarities)) for stage in stages],
        "labels": list(map(asdict, labels)),
        "classes": [asdict(similarity(one, other)) for one, other in zip(own, rival, strict=True)],
    }


def summarised(found: dict[str, Any]) -> dict[str, Any]:
    """The means of a method's similarities, with intervals over the pictures."""
    return {
        "method": found["method"],
        "stages": [_means(stage) for stage in found["stages"]],
        "labels": _means(found["labels"]),
        "classes": _means(found["classes"]),
    }


def _row(method: str, trained: nn.Module, permuted: nn.Module, questions: Questions, folder: Path) -> dict[str, Any]:
    settings = (method, METHODS[method].revision, _OPTIONS.get(method), len(questions.inputs), _STAGES)
    done = folder / f"{kept_as(_CASE, _SEED, *settings)}.json"
    if not done.is_file():
        done.write_text(json.dumps(checked(method, trained, permuted, questions)), encoding="utf-8")
    return summarised(json.loads(done.read_text(encoding="utf-8")))


def _means(similarities: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {key: asdict(mean_interval([one[key] for one in similarities])) for key in Similarity.__dataclass_fields__}


def _permuted(samples: Sequence[Sample], folder: Path) -> DefectClassifier:
    shuffled = folder / "shuffled-steel"
    if not shuffled.is_dir():
        unfinished = folder / f".{shuffled.name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        write_shuffled(samples, unfinished, _SHUFFLE_SEED)
        unfinished.rename(shuffled)
    return trained_model(replace(_CASE, name=shuffled.name), _SEED, shuffled, folder)


def _questions(trained: DefectClassifier, samples: Sequence[Sample]) -> Questions:
    cases = [prepare_case(trained, sample) for sample in samples]
    inputs, targets = torch.stack([case.inputs for case in cases]), torch.tensor([case.target for case in cases])
    with torch.inference_mode():
        logits = trained.network(inputs)
    rivals = logits.scatter(1, targets[:, None], -torch.inf).argmax(dim=1)
    return Questions(inputs, targets, rivals, trained.card.activation)


def _layers(network: nn.Module) -> int:
    return sum(any(True for _ in module.parameters(recurse=False)) for module in network.modules())


def _course(classifier: DefectClassifier) -> dict[str, Any]:
    """How well a network tells classes apart, and which epoch's weights were kept (0: only the last layer trained)."""
    return {
        "balanced_accuracy": classifier.card.metrics["test"]["balanced_accuracy"],
    }
