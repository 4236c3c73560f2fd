"""The frozen set that two models are compared on: which of its images, and what is true of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspection_models.data.dataset import check_good
from inspection_models.gate.answers import GoldenImage
from inspection_models.gate.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inspection_models.data import Dataset, Sample
    from inspection_models.model_card import ModelCard

UNKNOWN_CLASS = "of a class that neither model knows"
SEEN = "trained or tuned on by one of the models"


@dataclass(frozen=True)
class GoldenSet:
    """What is compared on.

    Attributes:
        samples: the files.
        images: the same in the same order, with what is true of them.
        good_name: what both models' good class is called here; None where no model has one.
        left_out: numbers of images by the reason why they were left out.
        seen: numbers of the images taken that were trained or tuned on, by side; None where that is not known.
        notes: what a reader of the figures must know.
    """

    samples: tuple[Sample, ...]
    images: tuple[GoldenImage, ...]
    good_name: str | None
    left_out: Mapping[str, int]
    seen: Mapping[str, int | None]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Contender:
    """A model's card, and the sha256 of the image files that it was trained or tuned on; None if that is not known."""

    card: ModelCard
    seen: frozenset[str] | None


def choose_golden(candidate: Contender, service: Contender, dataset: Dataset, *, with_seen: bool = False) -> GoldenSet:
    """The images of a data set that say something about both models.

    Left out are images of classes that neither model knows, for who can tell whether those are defects, and images
    that one of the models was trained or tuned on, for they favour it.

    Args:
        candidate: the model that would be released.
        service: the model in service.
        dataset: the frozen set.
        with_seen: keep the images that a model was trained or tuned on.

    Raises:
        GateError: no image is left, or one model's good class is a defect to the other.
        DatasetError: an image is of a model's good class and of a defect at once.
    """
    goods = _good_classes(candidate.card, service.card)
    for good in sorted(goods):
        check_good(dataset, good)
    good_name = candidate.card.good_class or service.card.good_class
    sides = {"candidate": candidate, "service": service}
    known = {*candidate.card.classes, *service.card.classes}
    left_out: Counter[str] = Counter()
    taken = []
    for sample in dataset.samples:
        if not known.issuperset(sample.labels):
            left_out[UNKNOWN_CLASS] += 1
        elif not with_seen and any(side.seen and sample.sha256 in side.seen for side in sides.values()):
            left_out[SEEN] += 1
        else:
            taken.append(sample)
    if not taken:
        raise GateError(_nothing_left(dataset, left_out))
    images = tuple(
        GoldenImage(
            file=sample.path.relative_to(dataset.root).as_posix(),
            sha256=sample.sha256,
            group=sample.group,
            labels=frozenset(str(good_name) if label in goods else label for label in sample.labels),
            defective=not goods.intersection(sample.labels),
        )
        for sample in taken
    )
    return GoldenSet(
        samples=tuple(taken),
        images=images,
        good_name=good_name,
        left_out=dict(left_out),
        seen={
            name: None if side.seen is None else sum(sample.sha256 in side.seen for sample in taken)
            for name, side in sides.items()
        },
        notes=_notes(candidate.card, service.card, good_name),
    )


def _good_classes(candidate: ModelCard, service: ModelCard) -> set[str]:
    goods = {card.good_class for card in (candidate, service) if card.good_class is not None}
    for label in sorted(goods):
        for card in (candidate, service):
            if label in card.classes and label != card.good_class:
                raise GateError(
                    f"the class {label!r} is the good one to one model and a defect to {card.model_version}; models "
                    "that disagree on what is good cannot be compared: train one of them anew with --good-class"
                )
    return goods


def _nothing_left(dataset: Dataset, left_out: Mapping[str, int]) -> str:
    reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
    return (
        f"none of the {len(dataset.samples)} images in {dataset.root} is left to compare on: {reasons}. Give "
        "photographs of the models' classes that neither of them has seen"
    )


def _notes(candidate: ModelCard, service: ModelCard, good_name: str | None) -> tuple[str, ...]:
    notes = []
    for card, other in ((candidate, service), (service, candidate)):
        if card.good_class is None and other.good_class is not None:
            notes.append(f"{card.model_version} has no good class: it calls every part defective")
    if None not in (candidate.good_class, service.good_class) and candidate.good_class != service.good_class:
        notes.append(
            f"the good class is {candidate.good_class!r} to the candidate and {service.good_class!r} to the model in "
            f"service; both are called {good_name!r} here"
        )
    for what, missing in (
        ("the model in service does not know", set(candidate.classes) - set(service.classes) - {good_name}),
        ("the candidate does not know", set(service.classes) - set(candidate.classes) - {service.good_class}),
    ):
        if missing:
            notes.append(
                f"{what} {', '.join(sorted(missing))}: such images count for escapes and not for the right class"
            )
    return tuple(notes)
