"""One comparison from beginning to end: read, decide, explain, judge, draw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.gate.pictures import ChangePicture, picture_of
from backend.pipeline import DecisionPipeline
from inspection_models import DefectClassifier
from inspection_models.data import DatasetError, load_dataset
from inspection_models.environment import environment
from inspection_models.gate import (
    Contender,
    Evidence,
    GateError,
    answers_of,
    choose_golden,
    compare,
    compare_explanations,
    judge,
)
from inspection_models.metrics import choose_part
from inspection_models.training_record import seen_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inspection_models.data import Dataset, Sample
    from inspection_models.gate import Comparison, ExplanationComparison, GateVerdict, GoldenSet, Rules
    from inspection_models.model_card import ModelCard


@dataclass(frozen=True)
class GateRequest:
    """One comparison.

    Attributes:
        candidate: directory of the model that would be released.
        service: directory of the model in service.
        data: directory of the frozen set.
        rules: of release.
        layout: see `load_dataset`.
        with_seen: keep images that a model was trained or tuned on.
        limit: explain at most so many images for the figures of the maps.
        pictures: draw at most so many of the images that changed sides.
        seed: of drawing images and of the resampling.
        device: torch's name of where to compute.
    """

    candidate: Path
    service: Path
    data: Path
    rules: Rules
    layout: str | None = None
    with_seen: bool = False
    limit: int = 60
    pictures: int = 24
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class GateResult:
    """What came out.

    Attributes:
        request: what was asked for.
        candidate: the card of the model that would be released.
        service: the card of the model in service.
        dataset: the frozen set.
        golden: which of its images were compared on.
        comparison: of the decisions.
        explanations: of the maps.
        verdict: by the rules.
        pictures: of images that changed sides, the worst first.
        software: versions, processor and numerical settings.
    """

    request: GateRequest
    candidate: ModelCard
    service: ModelCard
    dataset: Dataset
    golden: GoldenSet
    comparison: Comparison
    explanations: ExplanationComparison
    verdict: GateVerdict
    pictures: tuple[ChangePicture, ...]
    software: dict[str, Any]


def run_gate(
    request: GateRequest, progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None
) -> GateResult:
    """Compare two model directories on a data set and judge by the rules.

    Raises:
        ModelError: a model directory cannot be used.
        DatasetError: the data set cannot be read, or a mask of it.
        GateError: the two cannot be compared on it.
        ImageError: a file is damaged.
        AttributionError: a model's attribution method cannot explain it.
    """
    classifiers = [
        DefectClassifier.load(folder, device=request.device) for folder in (request.candidate, request.service)
    ]
    # Which class is good is the models' to say, not the data set's.
    dataset = load_dataset(request.data, layout=request.layout, good_class="")
    contenders = [
        Contender(classifier.card, _seen(folder, classifier.card, dataset))
        for folder, classifier in zip((request.candidate, request.service), classifiers, strict=True)
    ]
    golden = choose_golden(contenders[0], contenders[1], dataset, with_seen=request.with_seen)
    sides = [
        answers_of(classifier, golden.samples, golden.good_name, partial(progress, f"{what} decides"))
        for what, classifier in zip(("candidate", "model in service"), classifiers, strict=True)
    ]
    confidence = request.rules.confidence
    comparison = compare(sides[0], sides[1], golden.images, confidence=confidence, seed=request.seed)
    pipelines = [DecisionPipeline(classifier) for classifier in classifiers]
    explanations = compare_explanations(
        golden,
        (sides[0], _explainer(pipelines[0])),
        (sides[1], _explainer(pipelines[1])),
        limit=request.limit,
        confidence=confidence,
        seed=request.seed,
        progress=partial(progress, "both explain"),
    )
    drawn = comparison.changed[: request.pictures]
    pictures = []
    for number, change in enumerate(drawn, start=1):
        pictures.append(picture_of(golden.samples[change.place], golden.images[change.place], change, pipelines))
        progress("drawing what changed sides", number, len(drawn))
    return GateResult(
        request=request,
        candidate=classifiers[0].card,
        service=classifiers[1].card,
        dataset=dataset,
        golden=golden,
        comparison=comparison,
        explanations=explanations,
        verdict=judge(request.rules, comparison, golden, explanations, dataset.sha256),
        pictures=tuple(pictures),
        software=environment(request.device),
    )


def _seen(folder: Path, card: ModelCard, dataset: Dataset) -> frozenset[str] | None:
    """Image files that a model was trained or tuned on: by the list beside it, or by the split of its own data set."""
    listed = seen_images(folder, card)
    if listed is not None or card.training.get("data_sha256") != dataset.sha256:
        return listed
    try:
        parts = [choose_part(card, dataset, part) for part in ("train", "validation")]
    except DatasetError:
        return None
    # A note says that the card records no split.
    if any(part.notes for part in parts):
        return None
    return frozenset(sample.sha256 for part in parts for sample in part.samples)


def _explainer(pipeline: DecisionPipeline) -> Callable[[Sample, str], Evidence]:
    def explain(sample: Sample, label: str) -> Evidence:
        try:
            data = sample.path.read_bytes()
        except OSError as error:
            raise GateError(f"{sample.path}: cannot be read any more ({error.strerror or error})") from error
        found = pipeline.explain(data, classes=[label]).explanations[0]
        inside = np.zeros(found.attribution_map.shape, np.bool_)
        for region in found.regions:
            x, y, width, height = region.box
            inside[y : y + height, x : x + width] |= region.mask
        return Evidence(found.attribution_map, inside)

    return explain
