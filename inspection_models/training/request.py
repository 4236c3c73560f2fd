"""What a training is asked for, what it tells on its way and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inspection_models.attribution import METHODS
from inspection_models.networks import DEFAULT_NETWORK

if TYPE_CHECKING:
    from pathlib import Path

    from inspection_models.classifier import DefectClassifier
    from inspection_models.training.evaluation import Evaluation

Phase = Literal["read", "head", "epoch", "test"]


class TrainingError(ValueError):
    """A training cannot be done as asked; the message says what to change."""


@dataclass(frozen=True)
class TrainingRequest:
    """One training.

    Attributes:
        data: directory of the data set.
        output: the model directory to write.
        name: of the model; empty takes the output directory's name.
        version: of the model; empty derives it from the model's fingerprint.
        layout: see `load_dataset`.
        good_class: see `load_dataset`.
        architecture: see `build_network`.
        pretrained: see `build_network`.
        weights: see `build_network`.
        size: (height, width) of the network's input in pixels.
        mode: see `Preprocessing`.
        flips: whether a mirrored image may show the same part; False where orientation matters.
        explanation: the attribution method that will explain the model's decisions.
        epochs: passes over the training part at most; 0 trains only the last layer of a pretrained network.
        patience: epochs without a better balanced accuracy on the validation part after which training stops.
        batch_size: images in a training step.
        learning_rate: the highest, of layers that begin at random; pretrained ones get a tenth of it.
        validation: share of the images to validate and calibrate on.
        test: share of the images to measure the result on.
        seed: of split, initial weights, augmentation and order.
        split_seed: of the split alone, where several trainings are to be judged by the same images; None takes `seed`.
        overwrite: replace a model that is in the output directory.
        device: torch's name of the device to train on.
    """

    data: Path
    output: Path
    name: str = ""
    version: str = ""
    layout: str | None = None
    good_class: str | None = None
    architecture: str = DEFAULT_NETWORK
    pretrained: bool = True
    weights: Path | None = None
    size: tuple[int, int] = (224, 224)
    mode: Literal["letterbox", "resize"] = "letterbox"
    flips: bool = True
    explanation: str = "quorum"
    epochs: int = 12
    patience: int = 4
    batch_size: int = 32
    learning_rate: float = 1e-3
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    split_seed: int | None = None
    overwrite: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, lowest in (("epochs", 0), ("patience", 1), ("batch_size", 2), ("seed", 0)):
            if getattr(self, name) < lowest:
                raise TrainingError(f"{name} is {getattr(self, name)}; it must be at least {lowest}")
        if self.explanation not in METHODS:
            raise TrainingError(f"there is no attribution method {self.explanation!r}; there are {', '.join(METHODS)}")
        if not self.learning_rate > 0:
            raise TrainingError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if min(self.size) < 32:
            raise TrainingError(f"size is {self.size}; networks need inputs of at least 32 x 32 pixels")

    @property
    def begins_at_random(self) -> bool:
        """Whether no layer carries knowledge to be kept: no `weights` are given, and none are installed."""
        return self.weights is None and not (self.pretrained and self.architecture == DEFAULT_NETWORK)


@dataclass(frozen=True)
class TrainingEvent:
    """How far a training has come: `done` of `total` steps of a phase.

    Attributes:
        phase: ``read`` images, train the ``head``, pass through an ``epoch``, ``test`` images.
        epoch: which epoch, from 1; 0 outside that phase.
        epochs: how many there will be at most.
        done: steps done.
        total: steps in this phase, or epoch.
        balanced_accuracy: of the validation part, at the end of the head's training and of each epoch.
    """

    phase: Phase
    done: int
    total: int
    epoch: int = 0
    epochs: int = 0
    balanced_accuracy: float | None = None


@dataclass(frozen=True)
class EpochFigures:
    """One pass: mean training loss, and loss and balanced accuracy on the validation part. Epoch 0 is the new head."""

    epoch: int
    training_loss: float
    validation_loss: float
    balanced_accuracy: float


@dataclass(frozen=True)
class TrainingReport:
    """What came out.

    Attributes:
        output: the model directory.
        classifier: the trained model.
        counts: number of images by part (train, validation, test) and class.
        epochs: the course of the training.
        best_epoch: the one whose weights were kept.
        validation: figures on the part that stopped and calibrated the training, hence favourable.
        test: figures on the part that had no influence.
        ignored: files in the data set's directory that are no part of it.
        seconds: wall time.
    """

    output: Path
    classifier: DefectClassifier
    counts: dict[str, dict[str, int]]
    epochs: tuple[EpochFigures, ...]
    best_epoch: int
    validation: Evaluation
    test: Evaluation
    ignored: tuple[str, ...]
    seconds: float
