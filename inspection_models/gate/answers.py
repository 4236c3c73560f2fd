"""What a comparison starts from: the images with their truth, and what each of the two models said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection_models.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inspection_models.classifier import DefectClassifier
    from inspection_models.data import Sample
    from inspection_models.deciding import Verdict
    from inspection_models.model_card import ModelCard, ModelVersion


@dataclass(frozen=True)
class GoldenImage:
    """One image and what is true of it.

    Attributes:
        file: its path below the data set's root, with slashes.
        sha256: hex digest of the file.
        group: the part or photograph series that it belongs to.
        labels: its classes.
        defective: whether it shows a defect.
    """

    file: str
    sha256: str
    group: str
    labels: frozenset[str]
    defective: bool


@dataclass(frozen=True)
class Answer:
    """What one model said of one image.

    Attributes:
        verdict: what would become of the part; ``review`` sends it to a person.
        labels: the decided classes.
        probabilities: calibrated, in the order of the model's classes.
        defect_probability: of any defect; 1 for a model without a good class.
    """

    verdict: Verdict
    labels: frozenset[str]
    probabilities: tuple[float, ...]
    defect_probability: float


@dataclass(frozen=True)
class ComparedModel:
    """One side of the comparison.

    Attributes:
        version: name, version and hashes.
        classes: in the order of the network's outputs; the good one under the name that both sides share.
        good_class: the class without a defect, under that name; None where every class is a defect.
        exclusive: whether an image is of exactly one class (softmax).
        answers: one an image.
    """

    version: ModelVersion
    classes: tuple[str, ...]
    good_class: str | None
    exclusive: bool
    answers: tuple[Answer, ...]


def answers_of(
    classifier: DefectClassifier,
    samples: Sequence[Sample],
    good_name: str | None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ComparedModel:
    """Decide every sample's image as in service, one by one.

    Args:
        classifier: the model, on the device to compute on.
        samples: whose images to decide.
        good_name: what to call the model's good class.
        progress: called with (images decided, images there are).

    Raises:
        ImageError: a file is damaged.
    """
    own = {} if classifier.good_class is None or good_name is None else {classifier.good_class: good_name}
    answers = []
    for number, sample in enumerate(samples, start=1):
        answers.append(_answer(classifier, sample, own))
        progress(number, len(samples))
    return ComparedModel(
        version=classifier.version,
        classes=shared_names(classifier.card, good_name),
        good_class=None if classifier.good_class is None else good_name,
        exclusive=classifier.card.activation == "softmax",
        answers=tuple(answers),
    )


def shared_names(card: ModelCard, good_name: str | None) -> tuple[str, ...]:
    """A model's classes, with its good one under the name that both models share."""
    return tuple(good_name if label == card.good_class and good_name is not None else label for label in card.classes)


def _answer(classifier: DefectClassifier, sample: Sample, own: Mapping[str, str]) -> Answer:
    prediction = classifier.predict([read_image(sample.path).pixels])[0]
    return Answer(
        verdict=prediction.verdict,
        labels=frozenset(own.get(label, label) for label in prediction.labels),
        probabilities=tuple(float(value) for value in prediction.probabilities),
        defect_probability=float(prediction.defect_probability),
    )
