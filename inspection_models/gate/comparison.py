"""Two models on the same images: escapes, overkill, shares sent to review, right classes, and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection_models.gate.answers import Answer, ComparedModel, GoldenImage
from inspection_models.gate.bounds import Bounds, clopper_pearson, combined, effective_parts, mcnemar
from inspection_models.gate.bounds import paired_difference as paired_bounds
from inspection_models.gate.changes import Change, changed_sides
from inspection_models.gate.errors import GateError
from inspection_models.gate.reliability import (
    ReliabilityBin,
    calibration_error,
    log_losses,
    reliability_bins,
    squared_errors,
)
from inspection_models.gate.resampling import GroupResamples, PairedFigure, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

VERDICTS = ("good", "review", "defect")


@dataclass(frozen=True)
class PairedRate:
    """How often something was said of the same images, by either model.

    Attributes:
        candidate_count: images of which the candidate says it.
        service_count: images of which the model in service does.
        of: images asked about.
        parts: how many independent ones these are worth; bounds are of as many.
        candidate_only: images of which the candidate alone says it.
        service_only: images of which the model in service alone does.
        candidate: the candidate's rate.
        service: the rate of the model in service.
        difference: candidate less service.
        p_value: of McNemar's exact test, two-sided; it takes the images for independent.
    """

    candidate_count: int
    service_count: int
    of: int
    parts: float
    candidate_only: int
    service_only: int
    candidate: Bounds
    service: Bounds
    difference: Bounds
    p_value: float


@dataclass(frozen=True)
class BalancedAccuracy:
    """Mean over the classes of the share decided rightly.

    Attributes:
        candidate: of the candidate.
        service: of the model in service.
        difference: candidate less service.
        classes: how many the mean is of.
        independent: whether no part shows two of them, as the bounds take it to be; otherwise they are wider.
    """

    candidate: Bounds
    service: Bounds
    difference: Bounds
    classes: int
    independent: bool


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be believed.

    Attributes:
        of: ``defect`` for the probability of any defect, ``class`` for that of the most probable class.
        error: expected calibration error.
        brier: Brier score; None where the models' classes differ.
        log_loss: negative log likelihood; None where the models' classes differ.
        candidate_bins: of the reliability diagram.
        service_bins: of the reliability diagram.
    """

    of: str
    error: PairedFigure
    brier: PairedFigure | None
    log_loss: PairedFigure | None
    candidate_bins: tuple[ReliabilityBin, ...]
    service_bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything about decisions.

    Attributes:
        candidate: the model that would be released, with its answers.
        service: the model in service.
        images: what both were asked about.
        confidence: of every bound by itself.
        escapes: defects passed as good, of all defects; None where neither model has a good class or nothing is
            defective.
        overkill: good parts called defective, of all good ones; None where nothing is good.
        review: images sent to a person, of all.
        right: images whose classes were decided exactly, of those whose classes both know; None where there are none.
        recall: the same by true class: images whose decided classes hold it.
        balanced_accuracy: mean of `recall`; None where that is empty.
        calibration: of any defect, where both models have a good class, and of the most probable class.
        changed: images that changed sides, the worst first.
    """

    candidate: ComparedModel
    service: ComparedModel
    images: tuple[GoldenImage, ...]
    confidence: float
    escapes: PairedRate | None
    overkill: PairedRate | None
    review: PairedRate
    right: PairedRate | None
    recall: dict[str, PairedRate]
    balanced_accuracy: BalancedAccuracy | None
    calibration: tuple[Calibration, ...]
    changed: tuple[Change, ...]


def compare(
    candidate: ComparedModel,
    service: ComparedModel,
    images: Sequence[GoldenImage],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two models' answers about the same images.

    Swapped models give mirrored differences; the images' order changes nothing.

    Args:
        candidate: the model that would be released, with an answer an image.
        service: the model in service.
        images: what they were asked about.
        confidence: of every bound by itself.
        seed: of the resampling.

    Raises:
        GateError: there are no images, or not one answer an image.
    """
    if not images or {len(candidate.answers), len(service.answers)} != {len(images)}:
        raise GateError(f"{len(images)} images need as many answers of both models, and at least one")
    pairs = _Pairs(candidate, service, tuple(images), confidence, seed)
    defective = [place for place, image in enumerate(images) if image.defective]
    sound = [place for place, image in enumerate(images) if not image.defective]
    both = set(candidate.classes) & set(service.classes)
    known = [place for place, image in enumerate(images) if image.labels <= both]
    has_good = candidate.good_class is not None or service.good_class is not None
    recall = {
        label: pairs.rate([place for place in known if label in images[place].labels], _names(label))
        for label in sorted({label for place in known for label in images[place].labels})
    }
    return Comparison(
        candidate=candidate,
        service=service,
        images=tuple(images),
        confidence=confidence,
        escapes=pairs.rate(defective, _says("good")) if defective and has_good else None,
        overkill=pairs.rate(sound, _says("defect")) if sound else None,
        review=pairs.rate(range(len(images)), _says("review")),
        right=pairs.rate(known, _is_right) if known else None,
        recall=recall,
        balanced_accuracy=pairs.balanced_accuracy(known, recall) if recall else None,
        calibration=tuple(pairs.calibrations(known)),
        changed=changed_sides(images, candidate.answers, service.answers),
    )


def _says(verdict: str) -> Callable[[Answer, GoldenImage], bool]:
    return lambda answer, _: answer.verdict == verdict


def _names(label: str) -> Callable[[Answer, GoldenImage], bool]:
    return lambda answer, _: label in answer.labels


def _is_right(answer: Answer, image: GoldenImage) -> bool:
    return answer.labels == image.labels


@dataclass(frozen=True)
class _Pairs:
    candidate: ComparedModel
    service: ComparedModel
    images: tuple[GoldenImage, ...]
    confidence: float
    seed: int

    def rate(self, places: Sequence[int], holds: Callable[[Answer, GoldenImage], bool]) -> PairedRate:
        sides = [
            [holds(side.answers[place], self.images[place]) for place in places]
            for side in (self.candidate, self.service)
        ]
        of = len(places)
        parts = effective_parts(self.images[place].group for place in places)
        scale = parts / of
        counts = [sum(side) for side in sides]
        candidate_only = sum(one and not other for one, other in zip(*sides, strict=True))
        service_only = sum(other and not one for one, other in zip(*sides, strict=True))
        return PairedRate(
            candidate_count=counts[0],
            service_count=counts[1],
            of=of,
            parts=parts,
            candidate_only=candidate_only,
            service_only=service_only,
            candidate=clopper_pearson(min(parts, counts[0] * scale), parts, self.confidence),
            service=clopper_pearson(min(parts, counts[1] * scale), parts, self.confidence),
            difference=paired_bounds(candidate_only * scale, service_only * scale, parts, self.confidence),
            p_value=mcnemar(candidate_only, service_only),
        )

    def balanced_accuracy(self, places: Sequence[int], recall: dict[str, PairedRate]) -> BalancedAccuracy:
        # Classes are independent of each other where no part shows two of them.
        labels_of: dict[str, set[str]] = {}
        for place in places:
            labels_of.setdefault(self.images[place].group, set()).update(self.images[place].labels)
        independent = all(len(labels) == 1 for labels in labels_of.values())
        rates = list(recall.values())
        candidate, service = (
            clipped(combined([getattr(rate, side) for rate in rates], independent=independent))
            for side in ("candidate", "service")
        )
        difference = combined([rate.difference for rate in rates], independent=independent)
        return BalancedAccuracy(candidate, service, difference, len(rates), independent)

    def calibrations(self, known: Sequence[int]) -> list[Calibration]:
        found = []
        if self.candidate.good_class is not None and self.service.good_class is not None:
            found.append(self._of_defects())
        if known:
            found.append(self._of_classes(known))
        return found

    def _of_defects(self) -> Calibration:
        stated = [
            np.array([answer.defect_probability for answer in side.answers]) for side in (self.candidate, self.service)
        ]
        truth = np.array([image.defective for image in self.images])
        resamples = GroupResamples([image.group for image in self.images], self.seed)
        return self._calibration(
            "defect", resamples, stated, [truth, truth], [(p[:, None], truth[:, None]) for p in stated]
        )

    def _of_classes(self, known: Sequence[int]) -> Calibration:
        stated, came_true, whole = [], [], []
        for side in (self.candidate, self.service):
            probabilities = np.array([side.answers[place].probabilities for place in known])
            truth = np.array([[label in self.images[place].labels for label in side.classes] for place in known])
            best = probabilities.argmax(axis=1)
            stated.append(probabilities.max(axis=1))
            came_true.append(truth[np.arange(len(known)), best])
            whole.append((probabilities, truth))
        alike = set(self.candidate.classes) == set(self.service.classes)
        comparable = alike and self.candidate.exclusive == self.service.exclusive
        resamples = GroupResamples([self.images[place].group for place in known], self.seed)
        return self._calibration("class", resamples, stated, came_true, whole if comparable else None)

    def _calibration(
        self,
        of: str,
        resamples: GroupResamples,
        stated: Sequence[NDArray[np.float64]],
        came_true: Sequence[NDArray[np.bool_]],
        whole: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]] | None,
    ) -> Calibration:
        def errors(side: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
            return lambda weights: calibration_error(stated[side], came_true[side], weights)

        exclusive = of == "class" and self.candidate.exclusive
        brier = log_loss = None
        if whole is not None:
            first, second = whole
            brier = resamples.paired(
                weighted_mean(squared_errors(*first)), weighted_mean(squared_errors(*second)), self.confidence
            )
            log_loss = resamples.paired(
                weighted_mean(log_losses(*first, exclusive=exclusive)),
                weighted_mean(log_losses(*second, exclusive=exclusive)),
                self.confidence,
            )
        return Calibration(
            of=of,
            error=resamples.paired(errors(0), errors(1), self.confidence),
            brier=brier,
            log_loss=log_loss,
            candidate_bins=reliability_bins(stated[0], came_true[0]),
            service_bins=reliability_bins(stated[1], came_true[1]),
        )


def clipped(bounds: Bounds) -> Bounds:
    """Bounds of a share, which lies in [0, 1]."""
    return Bounds(bounds.value, max(0.0, bounds.low), min(1.0, bounds.high))
