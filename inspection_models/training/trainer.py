"""One training from beginning to end."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from inspection_models.calibration import fit_calibration
from inspection_models.classifier import DefectClassifier, check_target
from inspection_models.data import load_dataset, split_dataset
from inspection_models.data.dataset import class_counts, file_sha256
from inspection_models.environment import environment
from inspection_models.model_card import ExplanationSettings, RegionThresholds, Thresholds
from inspection_models.networks import DEFAULT_NETWORK, build_network
from inspection_models.networks.efficientnet_lite import PIXEL_MEAN, PIXEL_STD
from inspection_models.preprocessing import Preprocessing
from inspection_models.region_learning import learn_regions
from inspection_models.training.batches import FittedImages
from inspection_models.training.checkpoint import workplace
from inspection_models.training.curves import CURVES_FILE, CURVES_PICTURE, curves_csv, curves_png
from inspection_models.training.evaluation import evaluate, figures_of_logits, targets_of
from inspection_models.training.figures import confusion_png, reliability_png
from inspection_models.training.lines import distances_of, set_aside, with_familiarity, with_lines
from inspection_models.training.loop import Fit, fit, logits_of
from inspection_models.training.request import TrainingError, TrainingEvent, TrainingReport, TrainingRequest
from inspection_models.training.tile_choice import NO_TILING, choose_tiling, defect_sizes
from inspection_models.training.tiled_training import learning_parts, merged_logits, with_good_class
from inspection_models.training.tiles import tile_counts
from inspection_models.training_record import HASH_KEY, IMAGES_FILE, images_csv, images_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Literal

    from torch import nn

    from inspection_models.data import Dataset, Split
    from inspection_models.model_card import Calibration
    from inspection_models.training.checkpoint import Workplace
    from inspection_models.training.request import Phase
    from inspection_models.training.tile_choice import TilingChoice

SUMMARY_FILE = "training_summary.json"
CONFUSION_FILE = "confusion_matrix.png"
RELIABILITY_FILE = "reliability.png"
# What torchvision's weights were trained with, on the 0..255 scale.
_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)
_RECORDED_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python")
# Raised whenever the same request comes to other weights, or a checkpoint to other contents, than before.
RECIPE = 3
_DECIDING = (
    *(
        "architecture",
        "pretrained",
        "weights_are",
        "size",
        "mode",
        "tiling",
        "flips",
        "marks",
        "epochs",
        "whole_epochs",
    ),
    *("batch_size", "learning_rate", "seed", "device", "precision"),
)


@dataclass(frozen=True)
class Lessons:
    """A data set that was read before, and what a training must know of it.

    Attributes:
        dataset: to split and learn from.
        held: sha256 of its files that may only be tested on.
        about: where it comes from, as plain values; the model's card keeps it under ``training``.
        attachments: files by name that say more of it, to stand beside the model.
    """

    dataset: Dataset
    held: frozenset[str] = frozenset()
    about: Mapping[str, Any] = field(default_factory=dict)
    attachments: Mapping[str, bytes] = field(default_factory=dict)


def train(request: TrainingRequest, progress: Callable[[TrainingEvent], None] = lambda _: None) -> TrainingReport:
    """Read, split, fit, calibrate, measure and save.

    The same request on the same machine gives the same weights to the bit, also where it was killed and asked for
    again: after every epoch its state is kept in the folder `.<output>.training` beside the output.

    Args:
        request: what to train.
        progress: told of every step, from this thread.

    Returns:
        The report; the model directory also holds it as `training_summary.json`, with the test part's confusion matrix
        and reliability diagram as pictures and, where an epoch was learned, the curves as a table and as a picture.

    Raises:
        TrainingError: the request cannot be met, what is to be written cannot, or another training with this output was
            broken off.
        DatasetError: the data set is unusable, or an image in it cannot be opened.
        ImageError: an image that could be opened is damaged after all.
        NetworkError: unknown architecture or unusable weights.
        ModelError: the output directory is taken.
        RiskError: the data cannot show a stated risk to be kept.
    """
    check_target(request.output.absolute(), overwrite=request.overwrite)
    dataset = load_dataset(request.data, layout=request.layout, good_class=request.good_class)
    return train_on(Lessons(dataset), request, progress)


def train_on(
    lessons: Lessons, request: TrainingRequest, progress: Callable[[TrainingEvent], None] = lambda _: None
) -> TrainingReport:
    """As `train`, on a data set that was read before; the request's own data, layout and good class are not looked at.

    Raises:
        TrainingError, DatasetError, ImageError, NetworkError, ModelError, RiskError: as `train`.
    """
    started = time.monotonic()
    output, dataset = request.output.absolute(), lessons.dataset
    check_target(output, overwrite=request.overwrite)
    split_seed = request.seed if request.split_seed is None else request.split_seed
    split = split_dataset(dataset, validation=request.validation, test=request.test, seed=split_seed, held=lessons.held)
    split = set_aside(split, dataset.good_class, request.risks, lessons.held)
    with workplace(output, _identity(request, dataset, split), restart=request.restart) as place:
        report = _trained(request, lessons, split, place, progress, started)
        attachments = {**_attachments(report), **lessons.attachments, IMAGES_FILE: images_csv(split)}
        try:
            report.classifier.save(output, overwrite=request.overwrite, attachments=attachments)
        except OSError as error:
            raise TrainingError(
                f"{output} cannot be written ({error.strerror or error}); the training is done and kept beside it: "
                "make room and start it again"
            ) from error
        place.remove()
    return report


def _trained(
    request: TrainingRequest,
    lessons: Lessons,
    split: Split,
    place: Workplace,
    progress: Callable[[TrainingEvent], None],
    started: float,
) -> TrainingReport:
    dataset = lessons.dataset
    preprocessing = _preprocessing(request)
    choice = _tiling_choice(request, dataset, split, preprocessing, progress)
    if choice.tiling is not None:
        dataset = with_good_class(dataset)
    activation: Literal["softmax", "sigmoid"] = "sigmoid" if dataset.multi_label else "softmax"
    good = None if dataset.good_class is None else dataset.classes.index(dataset.good_class)
    with learning_parts(
        split, choice.tiling, preprocessing, dataset.good_class, request.seed, _told(progress, "tiles")
    ) as parts:
        train_part, validation_part = (
            FittedImages(part, dataset.classes, preprocessing, good=dataset.good_class)
            for part in (parts.train, parts.validation)
        )
        _read(train_part, validation_part, progress)
        with _reproducible(request.seed):
            network = _network(request, len(dataset.classes))
            course = fit(
                network,
                train_part,
                validation_part,
                request,
                place,
                several=dataset.multi_label,
                good=good,
                fill=preprocessing.fill or preprocessing.mean,
                progress=progress,
            )
            logits = logits_of(network, validation_part, request)
    # As a loaded model, on the CPU and in the usual memory layout: the figures are to be those of the model in service.
    network = network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    targets = targets_of(split.validation, dataset.classes)
    if choice.tiling is not None and good is not None:
        seen = merged_logits(
            network, split.validation, targets, choice.tiling, preprocessing, good, activation, _told(progress, "merge")
        )
        logits, choice = seen.logits, choice.with_growth(seen.growth, tile_counts(parts.train, dataset.classes))
    calibration = fit_calibration(logits, targets, activation)
    classifier = _classifier(request, lessons, split, network, preprocessing, calibration, course, choice)
    classifier = _with_lines(request, dataset, split, classifier, progress)
    classifier = learn_regions(
        classifier,
        split.train,
        split.validation,
        data_sha256=dataset.sha256,
        seed=request.seed,
        progress=lambda _what, done, total: progress(TrainingEvent("regions", done, total)),
    ).classifier
    groups, distances = [sample.group for sample in split.validation], distances_of(classifier, split.validation)
    validation = figures_of_logits(classifier.card, logits, targets, groups, distances)
    tested = evaluate(classifier, split.test, _told(progress, "test"))
    classifier = classifier.with_settings(
        version=request.version, metrics={"test": tested.to_dict(), "validation": validation.to_dict()}
    )
    before = course.continued_after[-1] if course.continued_after else -1
    return TrainingReport(
        output=request.output.absolute(),
        classifier=classifier,
        counts=_counts(dataset, split),
        epochs=course.epochs,
        validation=validation,
        test=tested,
        ignored=dataset.ignored,
        seconds=time.monotonic() - started + sum(epoch.seconds for epoch in course.epochs if epoch.epoch <= before),
        continued_after=course.continued_after,
        tiling=choice,
        notes=(*dataset.notes, *split.notes),
    )


def _identity(request: TrainingRequest, dataset: Dataset, split: Split) -> dict[str, Any]:
    """What a training's weights follow from: of another one no checkpoint may be taken."""
    here = environment(request.device)
    digest = hashlib.sha256()
    for part in (split.train, split.validation, split.test):
        digest.update("".join(f"{sample.sha256} {' '.join(sample.labels)}\n" for sample in part).encode() + b"\0")
    return {
        "recipe": RECIPE,
        "request": {name: getattr(request, name) for name in _DECIDING},
        "weights_sha256": None if request.weights is None else file_sha256(request.weights),
        "data_sha256": dataset.sha256,
        "good_class": dataset.good_class,
        "parts_sha256": digest.hexdigest(),
        "surroundings": {
            **{name: here[name] for name in ("torch_build", "torch_threads", "accelerator")},
            "processor": here["cpu"],
            "packages": {name: version(name) for name in _RECORDED_PACKAGES},
        },
    }


def _tiling_choice(
    request: TrainingRequest,
    dataset: Dataset,
    split: Split,
    preprocessing: Preprocessing,
    progress: Callable[[TrainingEvent], None],
) -> TilingChoice:
    if request.tiling == "off":
        return NO_TILING
    sizes = defect_sizes(split.train, dataset.good_class, preprocessing, _told(progress, "sizes"))
    return choose_tiling(sizes, preprocessing, request.tiling)


def _told(progress: Callable[[TrainingEvent], None], phase: Phase) -> Callable[[int, int], None]:
    return lambda done, total: progress(TrainingEvent(phase, done, total))


def _preprocessing(request: TrainingRequest) -> Preprocessing:
    own = request.architecture == DEFAULT_NETWORK
    mean, std = (PIXEL_MEAN, PIXEL_STD) if own else (_IMAGENET_MEAN, _IMAGENET_STD)
    return Preprocessing(request.mode, request.size, mean, std)


def _read(train_part: FittedImages, validation_part: FittedImages, progress: Callable[[TrainingEvent], None]) -> None:
    total, done = len(train_part) + len(validation_part), 0
    for part in (train_part, validation_part):
        for index in range(len(part)):
            part[index]
            done += 1
            progress(TrainingEvent("read", done, total))


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Deterministic kernels and a seeded generator, with the process's own settings restored afterwards."""
    # The matrix kernels of CUDA are deterministic only with a fixed workspace; they read this when they are first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=only_warned)


def _network(request: TrainingRequest, classes: int) -> nn.Module:
    network = build_network(request.architecture, classes, pretrained=request.pretrained, weights=request.weights)
    network.to(request.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *request.size, device=request.device))
    except RuntimeError as error:
        raise TrainingError(
            f"{request.architecture} takes no inputs of {request.size[0]} x {request.size[1]} pixels ({error}); "
            "use a larger size"
        ) from error
    return network


def _classifier(
    request: TrainingRequest,
    lessons: Lessons,
    split: Split,
    network: nn.Module,
    preprocessing: Preprocessing,
    calibration: Calibration,
    course: Fit,
    choice: TilingChoice,
) -> DefectClassifier:
    dataset = lessons.dataset
    training: dict[str, Any] = {
        **lessons.about,
        "data_sha256": dataset.sha256,
        HASH_KEY: images_sha256(images_csv(split)),
        "layout": dataset.layout,
        "lines_from": "half of the test part" if split.lines else "validation part, which calibrated the model, too",
        "counts": _counts(dataset, split),
        "tiling": choice.to_dict(),
        "seed": request.seed,
        "epochs": course.epochs[-1].epoch if course.epochs else 0,
        "settings": {
            key: getattr(request, key)
            for key in (
                "pretrained",
                "weights_are",
                "flips",
                "marks",
                "whole_epochs",
                "batch_size",
                "learning_rate",
                "validation",
                "test",
                "split_seed",
                "device",
            )
        }
        | {"precision": course.precision},
        "versions": {name: version(name) for name in _RECORDED_PACKAGES},
    }
    return DefectClassifier.assemble(
        network,
        name=request.name or request.output.name,
        version=request.version,
        architecture=request.architecture,
        classes=dataset.classes,
        good_class=dataset.good_class,
        activation="sigmoid" if dataset.multi_label else "softmax",
        preprocessing=preprocessing,
        calibration=calibration,
        thresholds=Thresholds(region=RegionThresholds.usual(request.explanation)),
        explanation=_explanation(request),
        tiling=choice.tiling,
        training=training,
    )


def _with_lines(
    request: TrainingRequest,
    dataset: Dataset,
    split: Split,
    classifier: DefectClassifier,
    progress: Callable[[TrainingEvent], None],
) -> DefectClassifier:
    return with_lines(
        with_familiarity(classifier, split.train, split.validation),
        split.lines or split.validation,
        request.risks,
        dataset.sha256,
        lambda done, total: progress(TrainingEvent("lines", done, total)),
    )


def _explanation(request: TrainingRequest) -> ExplanationSettings:
    # Where a mirrored part would be another part, its mirror image must not be asked about either.
    own: dict[str, bool | int | float | str] = {"mirrored": request.flips} if request.explanation == "quorum" else {}
    return ExplanationSettings(request.explanation, own)


def _counts(dataset: Dataset, split: Split) -> dict[str, dict[str, int]]:
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    if split.lines:
        parts["lines"] = split.lines
    return {name: class_counts(part, dataset.classes) for name, part in parts.items()}


def _attachments(report: TrainingReport) -> dict[str, bytes]:
    summary = {
        "model": asdict(report.classifier.version),
        "counts": report.counts,
        "epochs": [asdict(epoch) for epoch in report.epochs],
        "validation": report.validation.to_dict(),
        "test": report.test.to_dict(),
        "tiling": report.tiling.to_dict(),
        "ignored_files": list(report.ignored),
        "notes": list(report.notes),
        "seconds": round(report.seconds, 1),
        "continued_after_epochs": list(report.continued_after),
    }
    name = report.classifier.version.name
    title = f"{name}: test part"
    curves = (
        {
            CURVES_FILE: curves_csv(report.epochs),
            CURVES_PICTURE: curves_png(report.epochs, name),
        }
        if report.epochs
        else {}
    )
    return {
        SUMMARY_FILE: (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode(),
        **curves,
        CONFUSION_FILE: confusion_png(report.test, title),
        RELIABILITY_FILE: reliability_png(report.test, title),
    }
