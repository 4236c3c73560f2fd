"""One training from beginning to end."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from inspection_models.calibration import fit_calibration
from inspection_models.classifier import DefectClassifier, check_target
from inspection_models.data import load_dataset, split_dataset
from inspection_models.data.dataset import class_counts
from inspection_models.model_card import ExplanationSettings, RegionThresholds, Thresholds
from inspection_models.networks import DEFAULT_NETWORK, build_network
from inspection_models.networks.efficientnet_lite import PIXEL_MEAN, PIXEL_STD
from inspection_models.preprocessing import Preprocessing
from inspection_models.training.batches import FittedImages
from inspection_models.training.evaluation import evaluate, figures_of_logits, targets_of
from inspection_models.training.figures import confusion_png, reliability_png
from inspection_models.training.loop import Fit, fit, logits_of
from inspection_models.training.request import TrainingError, TrainingEvent, TrainingReport, TrainingRequest
from inspection_models.training_record import HASH_KEY, IMAGES_FILE, images_csv, images_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from inspection_models.data import Dataset, Split
    from inspection_models.model_card import Calibration

SUMMARY_FILE = "training_summary.json"
CONFUSION_FILE = "confusion_matrix.png"
RELIABILITY_FILE = "reliability.png"
# What torchvision's weights were trained with, on the 0..255 scale.
_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)
_RECORDED_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "albumentations")


def train(request: TrainingRequest, progress: Callable[[TrainingEvent], None] = lambda _: None) -> TrainingReport:
    """Read, split, fit, calibrate, measure and save.

    The same request on the same machine gives the same weights to the bit.

    Args:
        request: what to train.
        progress: told of every step, from this thread.

    Returns:
        The report; the model directory also holds it as `training_summary.json`, with the test part's confusion matrix
        and reliability diagram as pictures.

    Raises:
        TrainingError: the request cannot be met.
        DatasetError: the data set is unusable.
        ImageError: an image is damaged.
        NetworkError: unknown architecture or unusable weights.
        ModelError: the output directory is taken.
    """
    started = time.monotonic()
    output = request.output.absolute()
    check_target(output, overwrite=request.overwrite)
    dataset = load_dataset(request.data, layout=request.layout, good_class=request.good_class)
    split_seed = request.seed if request.split_seed is None else request.split_seed
    split = split_dataset(dataset, validation=request.validation, test=request.test, seed=split_seed)
    preprocessing = _preprocessing(request)
    train_part = FittedImages(split.train, dataset.classes, preprocessing)
    validation_part = FittedImages(split.validation, dataset.classes, preprocessing)
    _read(train_part, validation_part, progress)
    with _reproducible(request.seed):
        network = _network(request, len(dataset.classes))
        fill = preprocessing.fill or preprocessing.mean
        course = fit(network, train_part, validation_part, request, fill=fill, progress=progress)
        logits = logits_of(network, validation_part, request)
    targets = targets_of(split.validation, dataset.classes)
    calibration = fit_calibration(logits, targets, "softmax")
    classifier = _classifier(request, dataset, split, network, preprocessing, calibration, course)
    validation = figures_of_logits(classifier.card, logits, targets, [sample.group for sample in split.validation])
    tested = evaluate(classifier, split.test, lambda done, total: progress(TrainingEvent("test", done, total)))
    classifier = classifier.with_settings(
        version=request.version, metrics={"test": tested.to_dict(), "validation": validation.to_dict()}
    )
    report = TrainingReport(
        output=output,
        classifier=classifier,
        counts=_counts(dataset, split),
        epochs=course.epochs,
        best_epoch=course.best_epoch,
        validation=validation,
        test=tested,
        ignored=dataset.ignored,
        seconds=time.monotonic() - started,
    )
    attachments = {**_attachments(report), IMAGES_FILE: images_csv(split)}
    classifier.save(output, overwrite=request.overwrite, attachments=attachments)
    return report


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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


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
    dataset: Dataset,
    split: Split,
    network: nn.Module,
    preprocessing: Preprocessing,
    calibration: Calibration,
    course: Fit,
) -> DefectClassifier:
    # As a loaded model, on the CPU and in the usual memory layout: the figures are to be those of the model in service.
    network = network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    training: dict[str, Any] = {
        "data_sha256": dataset.sha256,
        HASH_KEY: images_sha256(images_csv(split)),
        "layout": dataset.layout,
        "counts": _counts(dataset, split),
        "seed": request.seed,
        "epochs": course.epochs[-1].epoch if course.epochs else 0,
        "best_epoch": course.best_epoch,
        "settings": {
            key: getattr(request, key)
            for key in (
                "pretrained",
                "flips",
                "batch_size",
                "learning_rate",
                "patience",
                "validation",
                "test",
                "split_seed",
                "device",
            )
        },
        "versions": {name: version(name) for name in _RECORDED_PACKAGES},
    }
    return DefectClassifier.assemble(
        network,
        name=request.name or request.output.name,
        version=request.version,
        architecture=request.architecture,
        classes=dataset.classes,
        good_class=dataset.good_class,
        preprocessing=preprocessing,
        calibration=calibration,
        thresholds=Thresholds(region=RegionThresholds.usual(request.explanation)),
        explanation=_explanation(request),
        training=training,
    )


def _explanation(request: TrainingRequest) -> ExplanationSettings:
    # Where a mirrored part would be another part, its mirror image must not be asked about either.
    own: dict[str, bool | int | float | str] = {"mirrored": request.flips} if request.explanation == "quorum" else {}
    return ExplanationSettings(request.explanation, own)


def _counts(dataset: Dataset, split: Split) -> dict[str, dict[str, int]]:
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return {name: class_counts(part, dataset.classes) for name, part in parts.items()}


def _attachments(report: TrainingReport) -> dict[str, bytes]:
    summary = {
        "model": asdict(report.classifier.version),
        "counts": report.counts,
        "epochs": [asdict(epoch) for epoch in report.epochs],
        "best_epoch": report.best_epoch,
        "validation": report.validation.to_dict(),
        "test": report.test.to_dict(),
        "ignored_files": list(report.ignored),
        "seconds": round(report.seconds, 1),
    }
    title = f"{report.classifier.version.name}: test part"
    return {
        SUMMARY_FILE: (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode(),
        CONFUSION_FILE: confusion_png(report.test, title),
        RELIABILITY_FILE: reliability_png(report.test, title),
    }
