"""How well a classifier does on labelled images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from inspection_models.calibration import expected_calibration_error
from inspection_models.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class: precision is None where it was never decided, recall where it has no images, F1 in both."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Rate:
    """A share with what it was counted from."""

    count: int
    of: int


@dataclass(frozen=True)
class Evaluation:
    """Figures over a set of images.

    Attributes:
        classes: order of rows and columns.
        confusion: [true class][decided class], numbers of images.
        images: their number.
        accuracy: share decided rightly.
        balanced_accuracy: mean recall of the classes that have images.
        per_class: figures by class.
        calibration_error_before: expected calibration error at temperature 1.
        calibration_error: the same at the model's temperature.
        escapes: defective images decided good, of all defective ones; None without a good class.
        overkill: good images decided defective, of all good ones; None without a good class.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    images: int
    accuracy: float
    balanced_accuracy: float
    per_class: dict[str, ClassFigures]
    calibration_error_before: float
    calibration_error: float
    escapes: Rate | None
    overkill: Rate | None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON gives them back: with lists for tuples."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return fields


def evaluate(
    classifier: DefectClassifier, samples: Sequence[Sample], progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Decide every sample's image as in service, one by one, and compare with its label.

    Raises:
        ValueError: no samples, or a label that the classifier does not know.
        ImageError: a file is damaged.
    """
    if unknown := sorted({sample.label for sample in samples} - set(classifier.classes)):
        raise ValueError(f"the model does not know the class {unknown[0]!r}; it knows {', '.join(classifier.classes)}")
    logits, decided = [], []
    for number, sample in enumerate(samples, start=1):
        prediction = classifier.predict([read_image(sample.path).pixels])[0]
        logits.append(prediction.logits)
        decided.append(prediction.index)
        if progress is not None:
            progress(number, len(samples))
    labels = np.array([classifier.classes.index(sample.label) for sample in samples], np.int64)
    return figures(
        np.array(logits), np.array(decided), labels, classifier.classes, classifier.good_class, classifier.temperature
    )


def figures(
    logits: NDArray[np.float32],
    decided: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    good_class: str | None,
    temperature: float,
) -> Evaluation:
    """Figures from logits [N, C], decided classes [N] and true classes [N].

    Raises:
        ValueError: N is 0.
    """
    if len(labels) == 0:
        raise ValueError("there are no images to evaluate on")
    indices = np.arange(len(classes))
    matrix = confusion_matrix(labels, decided, labels=indices)
    escapes, overkill = _rates(matrix, classes, good_class)
    return Evaluation(
        classes=classes,
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
        images=len(labels),
        accuracy=float((decided == labels).mean()),
        balanced_accuracy=balanced_accuracy(decided, labels),
        per_class=_per_class(decided, labels, classes),
        calibration_error_before=expected_calibration_error(logits, labels),
        calibration_error=expected_calibration_error(logits, labels, temperature),
        escapes=escapes,
        overkill=overkill,
    )


def balanced_accuracy(decided: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Mean recall of the classes that have images."""
    recalls = [float((decided[labels == label] == label).mean()) for label in np.unique(labels)]
    return float(np.mean(recalls))


def _per_class(
    decided: NDArray[np.int64], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, ClassFigures]:
    rows = precision_recall_fscore_support(labels, decided, labels=np.arange(len(classes)), zero_division=np.nan)
    return {
        label: ClassFigures(_number(precision), _number(recall), _number(f1), int(support))
        for label, precision, recall, f1, support in zip(classes, *rows, strict=True)
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _rates(
    matrix: NDArray[np.int64], classes: tuple[str, ...], good_class: str | None
) -> tuple[Rate | None, Rate | None]:
    if good_class is None:
        return None, None
    good = classes.index(good_class)
    defective = np.delete(matrix, good, axis=0)
    escapes = Rate(int(defective[:, good].sum()), int(defective.sum()))
    overkill = Rate(int(matrix[good].sum() - matrix[good, good]), int(matrix[good].sum()))
    return escapes, overkill
