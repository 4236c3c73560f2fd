"""How well a classifier does on labelled images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support

from inspection_models.deciding import decide, probabilities_of
from inspection_models.images import read_image
from inspection_models.intervals import clopper_pearson
from inspection_models.model_card import Calibration
from inspection_models.reliability import Reliability, reliability

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample
    from inspection_models.deciding import Prediction
    from inspection_models.model_card import ModelCard


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class: precision is None where it was never decided, recall where it has no images, F1 in both.

    Attributes:
        support: images that are of the class.
        named: images that the model says are of it.
        found: images of which both is so.
        average_precision: area under the curve of precision over recall by the class's probability; None under softmax
            and where the class has no images.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    named: int
    found: int
    average_precision: float | None = None


@dataclass(frozen=True)
class Rate:
    """A share with what it was counted from.

    Attributes:
        count: images that are so.
        of: images looked at.
        parts: independent parts with such an image; None where it is not known which images are of one part.
        of_parts: independent parts looked at.
        low: lower end of the 95 % Clopper-Pearson interval of the share of parts, or of images where parts are unknown.
        high: its upper end.
    """

    count: int
    of: int
    parts: int | None = None
    of_parts: int | None = None
    low: float = field(init=False)
    high: float = field(init=False)

    def __post_init__(self) -> None:
        count, of = (self.count, self.of) if self.parts is None else (self.parts, self.of_parts or 0)
        low, high = clopper_pearson(count, of)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)


@dataclass(frozen=True)
class Alone:
    """What the model does where it decides alone, and what it leaves to a person.

    Attributes:
        review: images sent to review, of all.
        errors: images decided alone with a wrong class, or wrong classes, of those decided alone.
        escapes: defective images passed as good alone, of all defective ones; None without a good class.
        overkill: good images called defective alone, of all good ones; None without a good class.
    """

    review: Rate
    errors: Rate
    escapes: Rate | None
    overkill: Rate | None


@dataclass(frozen=True)
class Evaluation:
    """Figures over a set of images.

    Where an image may be of several classes (sigmoid), it is decided rightly if exactly its classes are named.

    Attributes:
        classes: order of rows and columns.
        confusion: [true class][decided class], numbers of images; empty under sigmoid.
        images: their number.
        accuracy: share decided rightly.
        balanced_accuracy: mean recall of the classes that have images.
        mean_average_precision: over the classes that have images, see `ClassFigures`; None under softmax.
        per_class: figures by class.
        reliability_before: of the probabilities at temperature 1.
        reliability: of the model's probabilities.
        escapes: defective images whose called class is good, of all defective ones; None without a good class.
        overkill: good images whose called class is a defect, of all good ones; None without a good class.
        alone: the same by verdict.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    images: int
    accuracy: float
    balanced_accuracy: float
    mean_average_precision: float | None
    per_class: dict[str, ClassFigures]
    reliability_before: Reliability
    reliability: Reliability
    escapes: Rate | None
    overkill: Rate | None
    alone: Alone

    @property
    def calibration_error_before(self) -> float:
        """Expected calibration error at temperature 1."""
        return self.reliability_before.expected_error

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the model's probabilities."""
        return self.reliability.expected_error

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON gives them back: with lists for tuples."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return fields


def evaluate(
    classifier: DefectClassifier, samples: Sequence[Sample], progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Decide every sample's image as in service, one by one, and compare with its labels.

    Raises:
        ValueError: no samples, or a label that the classifier does not know.
        ImageError: a file is damaged.
    """
    targets = targets_of(samples, classifier.classes)
    predictions = []
    for number, sample in enumerate(samples, start=1):
        predictions.append(classifier.predict([read_image(sample.path).pixels])[0])
        if progress is not None:
            progress(number, len(samples))
    return figures(classifier.card, predictions, targets, [sample.group for sample in samples])


def targets_of(samples: Sequence[Sample], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Which classes each sample is of, bool [N, C].

    Raises:
        ValueError: a label that is not among the classes.
    """
    if unknown := sorted({label for sample in samples for label in sample.labels} - set(classes)):
        raise ValueError(f"the model does not know the class {unknown[0]!r}; it knows {', '.join(classes)}")
    rows = [[label in sample.labels for label in classes] for sample in samples]
    return np.array(rows, np.bool_).reshape(len(samples), len(classes))


def figures_of_logits(
    card: ModelCard,
    logits: NDArray[np.float32],
    targets: NDArray[np.bool_],
    groups: Sequence[str] | None = None,
    distances: Sequence[float] | None = None,
) -> Evaluation:
    """Figures from the network's outputs [N, C] on images, decided as the card says; see `figures`.

    Args:
        card: of the model.
        logits: float32 [N, C].
        targets: see `figures`.
        groups: see `figures`.
        distances: [N], of the images from what the model was trained on; None where it does not know that.
    """
    away = [None] * len(logits) if distances is None else distances
    decided = [decide(card, row, distance) for row, distance in zip(logits, away, strict=True)]
    return figures(card, decided, targets, groups)


def figures(
    card: ModelCard,
    predictions: Sequence[Prediction],
    targets: NDArray[np.bool_],
    groups: Sequence[str] | None = None,
) -> Evaluation:
    """Compare decisions with the truth.

    Args:
        card: of the model that decided.
        predictions: its decisions on N images.
        targets: [N, C], which classes each image is of; one each under softmax.
        groups: keys of the parts that the images are of; None where that is unknown.

    Raises:
        ValueError: N is 0.
    """
    if len(predictions) == 0:
        raise ValueError("there are no images to evaluate on")
    logits = np.array([prediction.logits for prediction in predictions])
    named = np.array([[label in prediction.labels for label in card.classes] for prediction in predictions])
    exclusive = card.activation == "softmax"
    probabilities = probabilities_of(card, logits)
    per_class = _per_class(named, targets, probabilities, card)
    good = None if card.good_class is None else card.classes.index(card.good_class)
    plain = replace(card, calibration=Calibration())
    escapes, overkill, alone = _rates(predictions, named, targets, groups, good)
    return Evaluation(
        classes=card.classes,
        confusion=_confusion(named, targets) if exclusive else (),
        images=len(predictions),
        accuracy=float((named == targets).all(axis=1).mean()),
        balanced_accuracy=_mean([one.recall for one in per_class.values()]) or 0.0,
        mean_average_precision=_mean([one.average_precision for one in per_class.values()]),
        per_class=per_class,
        reliability_before=reliability(probabilities_of(plain, logits), targets, good=good, exclusive=exclusive),
        reliability=reliability(probabilities, targets, good=good, exclusive=exclusive),
        escapes=escapes,
        overkill=overkill,
        alone=alone,
    )


def balanced_accuracy(decided: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Mean recall of the classes that have images."""
    recalls = [float((decided[labels == label] == label).mean()) for label in np.unique(labels)]
    return float(np.mean(recalls))


def _confusion(named: NDArray[np.bool_], targets: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    indices = np.arange(targets.shape[1])
    matrix = confusion_matrix(targets.argmax(axis=1), named.argmax(axis=1), labels=indices)
    return tuple(tuple(int(n) for n in row) for row in matrix)


def _per_class(
    named: NDArray[np.bool_], targets: NDArray[np.bool_], probabilities: NDArray[np.float64], card: ModelCard
) -> dict[str, ClassFigures]:
    # One column more, for scikit-learn takes a single one for something else; nothing is of it.
    padded = [np.column_stack([matrix, np.zeros(len(matrix), np.bool_)]) for matrix in (targets, named)]
    rows = precision_recall_fscore_support(*padded, average=None, zero_division=np.nan)
    found = {}
    for index, label in enumerate(card.classes):
        precision, recall, f1 = (_number(row[index]) for row in rows[:3])
        ranked = None
        if card.activation == "sigmoid" and targets[:, index].any():
            ranked = float(average_precision_score(targets[:, index], probabilities[:, index]))
        both = int((targets[:, index] & named[:, index]).sum())
        found[label] = ClassFigures(
            precision, recall, f1, int(targets[:, index].sum()), int(named[:, index].sum()), both, ranked
        )
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _rates(
    predictions: Sequence[Prediction],
    named: NDArray[np.bool_],
    targets: NDArray[np.bool_],
    groups: Sequence[str] | None,
    good: int | None,
) -> tuple[Rate | None, Rate | None, Alone]:
    verdicts = np.array([prediction.verdict for prediction in predictions])
    reviewed, wrong = verdicts == "review", (named != targets).any(axis=1)

    def rate(what: NDArray[np.bool_], among: NDArray[np.bool_]) -> Rate:
        return rate_of(what & among, among, groups)

    everything = np.ones(len(predictions), np.bool_)
    review, errors = rate(reviewed, everything), rate(wrong, ~reviewed)
    if good is None:
        return None, None, Alone(review, errors, None, None)
    defective, called = ~targets[:, good], np.array([prediction.is_defect for prediction in predictions])
    alone = Alone(review, errors, rate(verdicts == "good", defective), rate(verdicts == "defect", ~defective))
    return rate(~called, defective), rate(called, ~defective), alone


def rate_of(what: NDArray[np.bool_], among: NDArray[np.bool_], groups: Sequence[str] | None) -> Rate:
    """How many of some images [N] are so, and of how many parts any image is."""
    count, of = int((what & among).sum()), int(among.sum())
    if groups is None:
        return Rate(count, of)
    keys = np.asarray(groups)
    return Rate(count, of, len(np.unique(keys[what & among])), len(np.unique(keys[among])))
