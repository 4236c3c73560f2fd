"""What a training is asked for, what it tells on its way and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from inspection_models.attribution import METHODS
from inspection_models.line_drawing import StatedRisks
from inspection_models.networks import DEFAULT_NETWORK

if TYPE_CHECKING:
    from pathlib import Path

    from inspection_models.classifier import DefectClassifier
    from inspection_models.training.evaluation import Evaluation
    from inspection_models.training.tile_choice import TilingChoice

_SMALLEST_TILE = 64
Phase = Literal["sizes", "tiles", "read", "head", "epoch", "merge", "lines", "regions", "test"]
Stage = Literal["head", "deep", "all"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


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
        weights_are: what `weights` learned before. ``imagenet``: a great many photographs; the fine layers and the
            statistics of the normalisation are kept, and the rest is only tuned. ``other``: anything else, such as a
            few images or another kind of them; all layers go on learning, the statistics too.
        size: (height, width) of the network's input in pixels.
        mode: see `Preprocessing`.
        tiling: "auto" looks at large images in tiles where their defects would be lost otherwise, see `tile_choice`;
            "off" never does; a number asks for tiles whose longer side has so many image pixels.
        flips: whether a mirrored image may show the same part; False where orientation matters.
        explanation: the attribution method that will explain the model's decisions.
        marks: learn, too, where defects are, from masks, polygons, run lengths or boxes, where there are any.
        epochs: passes over the training part; 0 trains only the last layer of a pretrained network.
        whole_epochs: so many of these, the last, in which all layers learn, the finest too, where a network with
            ImageNet's weights would keep them.
        batch_size: images in a training step.
        learning_rate: the highest, of layers that begin at random; pretrained ones get a tenth of it.
        validation: share of the images to validate and calibrate on.
        test: share of the images to measure the result on.
        seed: of split, initial weights, augmentation and order.
        split_seed: of the split alone, where several trainings are to be judged by the same images; None takes `seed`.
        risks: stated risks, for which half of the test part is kept to draw the decision's lines from.
        overwrite: replace a model that is in the output directory.
        restart: throw away the checkpoint of a broken training with the same output; otherwise the same request goes on
            where it was broken off, and another one is refused.
        device: torch's name of the device to train on.
        precision: of forward and backward passes while training; weights, losses and all figures are float32. ``auto``:
            on a GPU bfloat16, or float16 with scaled gradients where it has no bfloat16; on a processor float32.
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
    weights_are: Literal["imagenet", "other"] = "imagenet"
    size: tuple[int, int] = (224, 224)
    mode: Literal["letterbox", "resize"] = "letterbox"
    tiling: Literal["auto", "off"] | int = "auto"
    flips: bool = True
    explanation: str = "quorum"
    marks: bool = True
    epochs: int = 12
    whole_epochs: int = 0
    batch_size: int = 16
    learning_rate: float = 1e-3
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    split_seed: int | None = None
    risks: StatedRisks = field(default_factory=StatedRisks)
    overwrite: bool = False
    restart: bool = False
    device: str = "cpu"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name, lowest in (("epochs", 0), ("whole_epochs", 0), ("batch_size", 2), ("seed", 0)):
            if getattr(self, name) < lowest:
                raise TrainingError(f"{name} is {getattr(self, name)}; it must be at least {lowest}")
        if self.whole_epochs > self.epochs:
            raise TrainingError(f"whole_epochs is {self.whole_epochs}; there are only {self.epochs} epochs")
        if self.precision not in get_args(Precision):
            raise TrainingError(f"precision is {self.precision!r}; it must be one of {', '.join(get_args(Precision))}")
        if self.weights_are not in ("imagenet", "other"):
            raise TrainingError(f"weights_are is {self.weights_are!r}; it must be 'imagenet' or 'other'")
        if self.explanation not in METHODS:
            raise TrainingError(f"there is no attribution method {self.explanation!r}; there are {', '.join(METHODS)}")
        if not self.learning_rate > 0:
            raise TrainingError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if self.tiling not in ("auto", "off") and (isinstance(self.tiling, str) or self.tiling < _SMALLEST_TILE):
            raise TrainingError(
                f"tiling is {self.tiling!r}; it must be 'auto', 'off' or a number of pixels from {_SMALLEST_TILE}"
            )
        if min(self.size) < 32:
            raise TrainingError(f"size is {self.size}; networks need inputs of at least 32 x 32 pixels")

    @property
    def begins_at_random(self) -> bool:
        """Whether no layer carries knowledge to be kept: no `weights` are given, and none are installed."""
        return self.weights is None and not (self.pretrained and self.architecture == DEFAULT_NETWORK)

    @property
    def keeps_statistics(self) -> bool:
        """Whether the network's fine layers and the statistics of its normalisation are worth keeping."""
        return not self.begins_at_random and (self.weights is None or self.weights_are == "imagenet")

    def stage(self, epoch: int) -> Stage:
        """What learns in an epoch, from 1: the deep layers, or all; epoch 0 is the head's."""
        if epoch == 0:
            return "head"
        return "deep" if self.keeps_statistics and epoch <= self.epochs - self.whole_epochs else "all"


@dataclass(frozen=True)
class TrainingEvent:
    """How far a training has come: `done` of `total` steps of a phase.

    Attributes:
        phase: measure the ``sizes`` of marked defects, cut ``tiles``, ``read`` images, train the ``head``, pass through
            an ``epoch``, ``merge`` the tiles of whole images, draw ``lines``, learn ``regions``, ``test`` images.
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
    """One pass. Epoch 0 is the new head.

    Attributes:
        epoch: from 1.
        stage: what learned.
        learning_rate: the highest of the pass, of layers that began at random.
        training_loss: mean over the pass, of the decisions on augmented images.
        marks_loss: mean over the pass, of where defects are; None where no marks were learned from.
        training_accuracy: share of the augmented images decided rightly, as they were drawn.
        validation_loss: of the averaged weights, as the next two, on the validation part, all classes weighed alike.
        validation_accuracy: share of its images decided rightly; with several classes an image, of its answers.
        balanced_accuracy: mean recall of its classes; with several an image, of showing and of not showing each.
        seconds: wall time of the pass and its validation.
    """

    epoch: int
    stage: Stage
    learning_rate: float
    training_loss: float
    marks_loss: float | None
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float
    balanced_accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainingReport:
    """What came out.

    Attributes:
        output: the model directory.
        classifier: the trained model.
        counts: number of images by part (train, validation, test) and class.
        epochs: the course of the training.
        validation: figures on the part that calibrated the model, hence favourable.
        test: figures on the part that had no influence.
        ignored: files in the data set's directory that are no part of it.
        seconds: wall time, of all parts of a training that was broken off.
        continued_after: the epochs after which it was broken off and continued.
        tiling: whether large images are looked at in tiles, and why; with its `growth`.
        notes: what a reader of the figures must know of the data set and of its split, each a sentence.
    """

    output: Path
    classifier: DefectClassifier
    counts: dict[str, dict[str, int]]
    epochs: tuple[EpochFigures, ...]
    validation: Evaluation
    test: Evaluation
    ignored: tuple[str, ...]
    seconds: float
    tiling: TilingChoice
    continued_after: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
